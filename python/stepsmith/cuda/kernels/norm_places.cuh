// Gradients of weight and bias: Σ dy·x̂ and Σ dy over all elements that share a place; as rust/norm/rows_backward.rs and
// channels.rs.
//
// Rows go over `groups` of places in turn, each having `run` elements of a place in a row. A piece is `turn` rows: its sums go
// row after row from +0.0, elements of one row in the shape of a row; then piece after piece.
// needs: row_sums.cuh products.cuh

// Mirrors `PLACES` of stepsmith/cuda/norm.py.
struct Places {
    u64 rows;
    u64 len;
    u64 groups;
    u64 run;
    u64 turn;
    u64 pieces;
    int of_places; // do mean and rstd belong to places, or to rows?

    __device__ __forceinline__ u64 count() const { return groups * (len / run); }
    // The first row of a piece that goes over a group, and the end of the piece.
    __device__ __forceinline__ u64 first(u64 piece, u64 group) const {
        u64 start = piece * turn;
        return start + (group + groups - start % groups) % groups;
    }
    __device__ __forceinline__ u64 end(u64 piece) const { return (piece + 1) * turn < rows ? (piece + 1) * turn : rows; }
};

template <class T> struct Sums {
    const Places &places;
    const Array &dy, &x;
    const double *mean, *rstd;
    double *sums; // Σ dy·x̂ of each piece and place, then Σ dy

    // Runs of one element: a thread goes down four columns of a group.
    __device__ __forceinline__ void columns() const {
        const u64 quads = (places.len + 3) / 4, items = places.pieces * places.groups * quads;
        u64 item = (u64)blockIdx.x * blockDim.x + threadIdx.x;
        if (item >= items) return;
        const u64 of = item / quads, at = (item - of * quads) * 4, piece = of / places.groups, group = of - piece * places.groups;
        const u64 place = group * places.len + at;
        const u32 count = places.len - at < 4 ? (u32)(places.len - at) : 4;
        Products products[4];
#pragma unroll
        for (u32 k = 0; k < 4; k++)
            if (places.of_places && k < count) products[k] = {mean[place + k], rstd[place + k]};
        double gx[4] = {}, g[4] = {};
        const int ROWS = sizeof(T) == 8 ? 2 : 3;
#pragma unroll 1
        for (u64 row = places.first(piece, group), end = places.end(piece); row < end; row += ROWS * places.groups) {
            Stored<T> of_dy[ROWS], of_x[ROWS];
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                u64 own = row + r * places.groups, i = own * places.len + at;
                load_some(dy, i, own < end ? count : 0, of_dy[r]);
                load_some(x, i, own < end ? count : 0, of_x[r]);
            }
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                u64 own = row + r * places.groups;
                if (own >= end) break;
                T own_dy[4], own_x[4];
                of_dy[r].convert(own_dy);
                of_x[r].convert(own_x);
                Products of_row = {0.0, 0.0};
                if (!places.of_places) of_row = {mean[own], rstd[own]};
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    gx[k] += (places.of_places ? products[k] : of_row).g_x_hat((double)own_dy[k], (double)own_x[k]);
                    g[k] += (double)own_dy[k];
                }
            }
        }
        const u64 all = places.groups * places.len;
#pragma unroll
        for (u32 k = 0; k < 4; k++)
            if (k < count) sums[piece * all + place + k] = gx[k], sums[(places.pieces + piece) * all + place + k] = g[k];
    }

    // Runs of several elements: a team for each piece and place.
    __device__ __forceinline__ void runs(const Team &team) const {
        const u64 all = places.count(), piece = team.row / all, place = team.row - piece * all;
        const u64 in_row = places.len / places.run, group = place / in_row, start = (place - group * in_row) * places.run;
        double total[2] = {0.0, 0.0};
#pragma unroll 1
        for (u64 row = places.first(piece, group); row < places.end(piece); row += places.groups) {
            const u64 of = places.of_places ? place : row;
            const Products products = {mean[of], rstd[of]};
            for (u64 at = start; at < start + places.run;) {
                u64 cut = (at / SEGMENT + 1) * SEGMENT, end = cut < start + places.run ? cut : start + places.run;
                const u64 first = row * places.len + at;
                double of_part[2];
                team.go((u32)(end - at), true, of_part, [&](u32 i, u32 count, double(&terms)[2][4]) {
                    T own_dy[4], own_x[4];
                    load_some(dy, first + i, count, own_dy);
                    load_some(x, first + i, count, own_x);
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        terms[0][k] = products.g_x_hat((double)own_dy[k], (double)own_x[k]);
                        terms[1][k] = (double)own_dy[k];
                    }
                });
                total[0] += of_part[0], total[1] += of_part[1];
                at = end;
            }
        }
        if (team.is_writer()) sums[piece * all + place] = total[0], sums[(places.pieces + piece) * all + place] = total[1];
    }
};

#define PLACES_KERNELS(T, suffix) \
    ROWS_KERNEL(norm_columns_##suffix)(Places places, Array dy, Array x, const double *mean, const double *rstd, double *sums) { \
        Sums<T>{places, dy, x, mean, rstd, sums}.columns(); \
    } \
    ROWS_KERNEL(norm_runs_##suffix)(Places places, Array dy, Array x, const double *mean, const double *rstd, double *sums, \
                                    u32 shift) { \
        SHARED(double, room, Team::ROOM); \
        Team team(places.pieces * places.count(), shift, room); \
        if (team.is_there) Sums<T>{places, dy, x, mean, rstd, sums}.runs(team); \
    }
PLACES_KERNELS(float, f32)
PLACES_KERNELS(double, f64)

KERNEL(add_pieces)(const double *sums, u64 pieces, u64 count, double *totals) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= 2 * count) return;
    u64 which = i / count, place = i - which * count;
    double total = 0.0;
    for (u64 piece = 0; piece < pieces; piece++) total += sums[(which * pieces + piece) * count + place];
    totals[i] = total;
}
