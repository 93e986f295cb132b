// Rows that are normalized, each on its own, and which weight belongs to an element; as rust/norm/rows.rs and affine.rs.
// needs: held_rows.cuh divide.cuh

// What a row is divided by: √(variance + eps) after the mean is taken away, √(mean of squares + eps), √(sum of squares).
enum Divided : int { DEVIATION, ROOT_MEAN_SQUARE, LENGTH };

// Mirrors `NORM` of stepsmith/cuda/norm.py. Without a run a weight belongs to its place in the row, else to its channel: rows
// go over `groups` of channels in turn, a channel having `run` elements in a row.
struct RowNorm {
    u64 rows;
    u64 len;
    Divisor groups, run; // runs of 0 elements for none
    double eps;
    int divided;

    __device__ __forceinline__ bool is_centred() const { return divided == DEVIATION; }

    // 1 by what a row with this sum of squares is divided by.
    __device__ __forceinline__ double rstd(double squares) const {
        return 1.0 / square_root(divided == LENGTH ? squares : squares / (double)len + eps);
    }

    // The first weight of a row; SHORT if there are fewer than 2^32 rows, and as few elements in each.
    template <bool SHORT = false> __device__ __forceinline__ u64 first_place(u64 row) const {
        if (run.n == 0) return 0;
        if (SHORT) return (u64)((u32)row - short_quotient((u32)row, groups) * (u32)groups.n) * short_quotient((u32)len, run);
        return remainder(row, groups) * quotient(len, run);
    }
    // Where the weight of an element is from there on.
    __device__ __forceinline__ u64 place(u64 i) const { return run.n ? quotient(i, run) : i; }
};

// Weight and bias of the `count` elements of a row from `i` on, a multiple of four; the row's first are at `first`.
template <class T> struct Affine {
    T weight[4], bias[4];
    bool has_weight, has_bias;

    __device__ __forceinline__ Affine(const RowNorm &norm, const T *weights, const T *biases, u64 first, u64 i, u32 count)
        : has_weight(weights), has_bias(biases) {
        if (norm.run.n == 0 && count == 4) {
            if (has_weight) load_quad<T>((u64)(weights + i), sizeof(T) == 8 ? F64 : F32, weight);
            if (has_bias) load_quad<T>((u64)(biases + i), sizeof(T) == 8 ? F64 : F32, bias);
            return;
        }
        u64 place = norm.place(i), at = first + place;
        u64 run = norm.run.n ? norm.run.n : 1, rest = norm.run.n ? i - place * run : 0;
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            if (has_weight && k < count) weight[k] = weights[at];
            if (has_bias && k < count) bias[k] = biases[at];
            rest = rest + 1 == run ? 0 : rest + 1;
            at += rest == 0;
        }
    }

    __device__ __forceinline__ T of(T x_hat, int k) const {
        T weighted = has_weight ? x_hat * weight[k] : x_hat;
        return has_bias ? weighted + bias[k] : weighted;
    }
};

// Weights of elements in the order of sums, where rows and runs are whole quads and fewer than 2^32; `weight` begins with the
// row's first.
__device__ __forceinline__ void load_weights(const Warp &team, const RowNorm &norm, const float *weight, int c, u32 n,
                                             float (&w)[4]) {
    if (team.place(c, 0) >= n) return;
    if (norm.run.n == 0) load_quad<float>((u64)(weight + team.place(c, 0)), F32, w);
    else w[0] = w[1] = w[2] = w[3] = weight[short_quotient(team.place(c, 0), norm.run)];
}

__device__ __forceinline__ void load_weights(const Block &team, const RowNorm &norm, const float *weight, int c, u32 n,
                                             float (&w)[4]) {
#pragma unroll
    for (int k = 0; k < 4; k++) {
        u32 i = team.place(c, k);
        if (i < n) w[k] = weight[norm.run.n == 0 ? i : short_quotient(i, norm.run)];
    }
}

// Calls `work` with the weight of each element that a team's thread holds, likewise.
template <class Team, class Work>
__device__ __forceinline__ void for_weights(const Team &team, const RowNorm &norm, const float *weight, u32 n, Work work) {
    const u32 left = team.left(n);
#pragma unroll
    for (int c = 0; c < QUADS; c++) {
        if (c * Team::STEP >= left) continue;
        float w[4];
        if (norm.run.n == 0) load_quad<float>((u64)(weight + team.at() + c * Team::STEP), F32, w);
        else w[0] = w[1] = w[2] = w[3] = weight[short_quotient(team.at() + c * Team::STEP, norm.run)];
#pragma unroll
        for (int k = 0; k < 4; k++) work(c, k, w[k]);
    }
}
