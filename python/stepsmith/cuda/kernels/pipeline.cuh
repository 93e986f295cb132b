// The tile pipeline: load, scale the gradient, apply the rule, store. One kernel for each rule and compute type; see fold.cuh for
// what is folded around the rule. Arrays that are stored as they are computed, with nothing folded, take a short way.
// needs: rule.cuh fold.cuh decoded.cuh

// Elements that a warp works on at once: a block of coded state.
const u32 TILE = STATE_BLOCK;

static_assert(TILE == 2 * LANES && BLOCK % TILE == 0, "a lane has two quads of a tile");

// The rule for a row, and what gradients are multiplied by before they reach it.
template <class R, class T> struct Scaled {
    R rule;
    T factor;

    __device__ __forceinline__ Scaled(const Pass &pass, const Row &row)
        : rule(Scalars<T>{scalars_of(pass, row.cohort)}),
          factor((T)(sign_of(pass, row.cohort) * (pass.is_examined ? pass.control->first : pass.first))) {
        if (pass.only_rule) rule.rehearse();
        rule.of_tensor(row.height != 0);
    }
};

template <class R, class T, int N> __device__ __forceinline__ void step_part(const R &rule, T (&x)[OPERANDS][N]) {
#pragma unroll
    for (int e = 0; e < N; e++) {
        T state[R::STATES];
#pragma unroll
        for (int k = 0; k < R::STATES; k++) state[k] = x[STATE + k][e];
        x[PARAM][e] = rule.step(x[PARAM][e], x[GRAD][e], state);
#pragma unroll
        for (int k = 0; k < R::STATES; k++) x[STATE + k][e] = state[k];
    }
}

// Means of rows and columns stand in for the first two state arrays.
template <class T> __device__ __forceinline__ void spread_means(const Row &row, u64 i, Part<T> &part) {
    const double *ratios = global<const double>(row.mean_sums[0]), *columns = global<const double>(row.mean_sums[1]);
#pragma unroll
    for (int e = 0; e < Part<T>::COUNT; e++) {
        if (i + e >= row.len) break;
        u64 above = quotient(i + e, row.width), matrix = quotient(above, row.height);
        part.x[STATE][e] = (T)ratios[above];
        part.x[STATE + 1][e] = (T)columns[matrix * row.width + (i + e - above * row.width)];
    }
}

// Gradient and state as the rule wants them.
template <class R, class T>
__device__ __forceinline__ void make_ready(const Pass &pass, const Row &row, const Scaled<R, T> &scaled, u64 i, u32 kept,
                                           Part<T> &part) {
    if (prepares(pass, row)) {
        prepare(pass, row, scaled.factor, i, kept, part.x[GRAD]);
    } else {
#pragma unroll
        for (int e = 0; e < Part<T>::COUNT; e++) part.x[GRAD][e] *= scaled.factor;
    }
    if (R::FACTORED && row.height) spread_means(row, i, part);
}

// The elements from `i` on, with everything that is folded around the rule.
template <class R, class T>
__device__ __forceinline__ void fold(const Pass &pass, const Row &row, const Scaled<R, T> &scaled, u64 i, Part<T> &part) {
    u32 kept = i < row.len ? kept_from(row, i) : 0;
    make_ready(pass, row, scaled, i, kept, part);
    step_part(scaled.rule, part.x);
    if (pass.only_rule) return;
    keep(kept, part.x[PARAM]);
#pragma unroll
    for (int k = 0; k < R::STATES; k++) keep(kept, part.x[STATE + k]);
    settle(pass, row, i, part.x[PARAM]);
    follow(pass, kept, part);
}

// The operands that a step writes, a bit each.
template <int STATES> __device__ __forceinline__ u32 written(const Pass &pass) {
    u32 state = ((1u << STATES) - 1) << STATE, copies = 1u << EMA | 1u << SHADOW;
    return pass.only_rule ? state : state | copies | 1u << PARAM | (pass.zeroes_grads ? 1u << GRAD : 0);
}

// Where the `n`-th of a lane's eight elements is in the tile that begins at `start`.
__device__ __forceinline__ u64 place_of_part(u64 start, int n) { return start + n / 4 * LANES + 4 * lane_of_warp() + n % 4; }

template <class R, class T>
__device__ __forceinline__ void step_folded(const Pass &pass, const Row &row, const StateGrids &grids, const Scaled<R, T> &scaled,
                                            u64 start) {
    const int COUNT = Part<T>::COUNT;
    if (pass.has_codes) fill(row, grids, start);
#pragma unroll 1
    for (int n = 0; n < 8; n += COUNT) {
        u64 i = place_of_part(start, n);
        Part<T> part;
        gather<R::STATES, true>(row, i, part);
        if (pass.has_codes) stand_in<R::STATES>(row, n, part);
        fold(pass, row, scaled, i, part);
        if (pass.has_codes) take<R::STATES>(row, n, i, part);
#pragma unroll
        for (int e = 0; e < COUNT; e++) part.x[GRAD][e] = T(0);
        scatter<R::STATES>(row, i, part, written<R::STATES>(pass));
    }
    if (pass.has_codes && !pass.only_rule) leave(pass, row, grids, start);
}

// Is there anything around the rule but a factor?
__device__ __forceinline__ bool is_folded(const Pass &pass, const Row &row) {
    return !row.plain || prepares(pass, row) || pass.zeroes_grads || pass.only_rule;
}

// A whole tile of arrays that are stored as they are computed; of float32 both quads of a lane at once.
template <class R, class T>
__device__ __forceinline__ void step_plain(const Row &row, const Scaled<R, T> &scaled, u64 start) {
    const int NATIVE = Part<T>::NATIVE, AT_ONCE = sizeof(T) == 4 ? 2 : 1;
    u64 at = (start + 4 * lane_of_warp()) * sizeof(T);
#pragma unroll 1
    for (int done = 0; done < 2; done += AT_ONCE, at += LANES * sizeof(T)) {
        T x[AT_ONCE][OPERANDS][4];
#pragma unroll
        for (int q = 0; q < AT_ONCE; q++)
#pragma unroll
            for (int k = 0; k < STATE + R::STATES; k++)
                load_quad(row.data[k] + at + q * LANES * sizeof(T), k < STATE || has(row, k) ? NATIVE : ABSENT, x[q][k]);
#pragma unroll
        for (int q = 0; q < AT_ONCE; q++) {
#pragma unroll
            for (int e = 0; e < 4; e++) x[q][GRAD][e] *= scaled.factor;
            step_part(scaled.rule, x[q]);
#pragma unroll
            for (int k = 0; k < STATE + R::STATES; k++)
                if (k == PARAM || (k >= STATE && has(row, k))) store_quad(row.data[k] + at + q * LANES * sizeof(T), NATIVE, x[q][k]);
        }
    }
}

// The tiles of a chunk, a warp each.
template <class R, class T>
__device__ __forceinline__ void step_chunk(const Pass &pass, const Row &row, const StateGrids &grids, const Scaled<R, T> &scaled,
                                           u64 block) {
    u64 end = (block + 1) * BLOCK < row.len ? (block + 1) * BLOCK : row.len;
    for (u64 start = block * BLOCK + warp_of_block() * TILE; start < end; start += warps_of_block() * TILE) {
        if (start + TILE <= end && !is_folded(pass, row)) {
            step_plain(row, scaled, start);
        } else {
            step_folded(pass, row, grids, scaled, start);
        }
    }
}

template <template <class> class R, class T> __device__ __forceinline__ void run(const Pass &pass) {
    StateGrids grids = state_grids(pass.has_codes);
    __syncthreads();
    if (may_step(pass)) {
        for (u64 k = blockIdx.x; k < pass.chunk_count; k += gridDim.x) {
            u64 chunk = pass.chunks[k];
            const Row &row = pass.rows[chunk >> 32];
            const double *norms = pass.norms + 2 * (chunk >> 32);
            Scaled<R<T>, T> scaled(pass, row);
            if (R<T>::MEASURES) scaled.rule.measured({row.len, norms[0], norms[1]});
            step_chunk(pass, row, grids, scaled, chunk & 0xffffffffu);
        }
    }
    if (pass.is_last && !pass.only_rule && is_last_block(pass) && threadIdx.x == 0) end_step(pass);
}

// The kernels of a rule.
#define RULE(name, R) \
    KERNEL_OF_256(name##_f32)(const __grid_constant__ Pass pass) { run<R, float>(pass); } \
    KERNEL_OF_256(name##_f64)(const __grid_constant__ Pass pass) { run<R, double>(pass); }
