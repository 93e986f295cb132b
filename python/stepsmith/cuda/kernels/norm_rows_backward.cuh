// Norms whose statistics belong to a row, backward: the gradient of the rows; the same as rust/norm/rows_backward.rs.
// needs: norm_formula.cuh norm_shape.cuh products.cuh

// One call.
template <class T> struct Backward {
    const RowNorm &norm;
    const Array &dx, &dy, &x, &dsum;
    const T *weight;
    const double *mean, *rstd;

    // From the sums over a row.
    __device__ __forceinline__ Differentiate<T> formula(const Products &products, double g, double gx) const {
        double n = (double)norm.len, mean_g = norm.is_centred() ? g / n : 0.0, mean_gx = norm.divided == LENGTH ? gx : gx / n;
        return {Normalize<T>(products.mean, products.rstd), (T)mean_g, (T)mean_gx};
    }

    __device__ __forceinline__ void write(u64 i, u32 count, const Differentiate<T> &differentiate, const Affine<T> &affine,
                                          const T (&g)[4], T (&own)[4]) const {
#pragma unroll
        for (int k = 0; k < 4; k++) own[k] = differentiate.dx(own[k], weight ? g[k] * affine.weight[k] : g[k]);
        if (!is_absent(dsum)) {
            T other[4];
            load_some(dsum, i, count, other);
#pragma unroll
            for (int k = 0; k < 4; k++) own[k] = own[k] + other[k];
        }
        store_some(dx, i, count, own);
    }

    // A row is read for the sums and for the output.
    __device__ __forceinline__ void row(const Team &team) const {
        const u64 first_weight = norm.first_place(team.row);
        const Products products = {team.is_there ? mean[team.row] : 0.0, team.is_there ? rstd[team.row] : 0.0};
        double sums[2] = {0.0, 0.0};
#pragma unroll 1
        for (u64 step = 0; step < 2 * norm.len;) {
            bool writes = step >= norm.len;
            u64 at = writes ? step - norm.len : step, start = team.row * norm.len + at;
            u32 n = norm.len - at < SEGMENT ? (u32)(norm.len - at) : SEGMENT;
            double of_segment[2];
            team.go(n, !writes, of_segment, [&](u32 i, u32 count, double(&terms)[2][4]) {
                T g[4], own[4];
                load_some(dy, start + i, count, g);
                load_some(x, start + i, count, own);
                Affine<T> affine(norm, weight, (const T *)nullptr, first_weight, at + i, count);
                if (writes) return write(start + i, count, formula(products, sums[0], sums[1]), affine, g, own);
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    terms[0][k] = weight ? (double)g[k] * (double)affine.weight[k] : (double)g[k];
                    terms[1][k] = products.g_x_hat(terms[0][k], (double)own[k]);
                }
            });
            step += n;
            if (writes) continue;
            sums[0] += of_segment[0], sums[1] += of_segment[1];
        }
    }

    // The same for a row that is read once.
    template <class Team> __device__ __forceinline__ void held_row(const Team &team) const {
        const u64 start = team.row * norm.len;
        const u32 n = (u32)norm.len;
        const T *own_weight = weight ? weight + norm.template first_place<true>(team.row) : nullptr;
        const Products products = {team.is_there ? mean[team.row] : 0.0, team.is_there ? rstd[team.row] : 0.0};
        Held g, held;
        load_held(team, dy, start, n, g);
        load_held(team, x, start, n, held);
        team.turn(g);
        team.turn(held);
        double sums[2];
        float w[4];
        team.template add<2>(n, sums, [&](int c, int k, double(&terms)[2]) {
            if (k == 0 && own_weight) load_weights(team, norm, own_weight, c, n, w);
            terms[0] = own_weight ? (double)g.x[c][k] * (double)w[k] : (double)g.x[c][k];
            terms[1] = products.g_x_hat(terms[0], (double)held.x[c][k]);
        });
        team.turn(g);
        team.turn(held);
        if (own_weight) for_weights(team, norm, own_weight, n, [&](int c, int k, float w) { g.x[c][k] *= w; });
        Differentiate<T> differentiate = formula(products, sums[0], sums[1]);
        for_held(held, [&](int c, int k) { held.x[c][k] = differentiate.dx(held.x[c][k], g.x[c][k]); });
        if (!is_absent(dsum)) add_held(team, dsum, start, n, held);
        store_held(team, dx, start, n, held);
    }
};

#define NORM_KERNEL(KIND, name, T, Threads, work) \
    KIND(name)(RowNorm norm, Array dx, Array dy, Array x, Array dsum, const T *weight, const double *mean, \
               const double *rstd, u32 shift) { \
        SHARED(double, room, Threads::ROOM); \
        Threads team(norm.rows, shift, room); \
        Backward<T>{norm, dx, dy, x, dsum, weight, mean, rstd}.work(team); \
    }
NORM_KERNEL(ROWS_KERNEL, norm_rows_backward_f32, float, Team, row)
NORM_KERNEL(ROWS_KERNEL, norm_rows_backward_f64, double, Team, row)
NORM_KERNEL(HELD_PAIR_KERNEL, norm_rows_backward_of_warps_f32, float, Warp, held_row)
NORM_KERNEL(HELD_PAIR_KERNEL, norm_rows_backward_of_blocks_f32, float, Block, held_row)
