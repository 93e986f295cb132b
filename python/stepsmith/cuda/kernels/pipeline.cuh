// The tile pipeline: load, scale the gradient, apply the rule, store. One kernel for each rule and compute type; see fold.cuh for
// what is folded around the rule. Arrays that are stored as they are computed, with nothing folded, take a short way.
// needs: rule.cuh fold.cuh decoded.cuh

// Elements that a warp works on at once: a block of coded state.
const u32 TILE = STATE_BLOCK;

static_assert(TILE == 2 * LANES && BLOCK % TILE == 0, "a lane has two quads of a tile");

template <class T> struct Native;
template <> struct Native<float> {
    static const int DTYPE = F32;
};
template <> struct Native<double> {
    static const int DTYPE = F64;
};

// The rule for a row, and what gradients are multiplied by before they reach it.
template <class R, class T> struct Scaled {
    R rule;
    T factor;
    Preparation<T> preparation;

    __device__ __forceinline__ Scaled(const Pass &pass, const Row &row) : rule(Scalars<T>{scalars_of(pass, row.cohort)}) {
        double first = pass.is_examined ? pass.control->first : pass.first;
        double second = pass.is_examined ? pass.control->second : pass.second;
        factor = (T)(sign_of(pass, row.cohort) * first);
        preparation = {factor, (T)pass.clip_value, (T)second};
        if (pass.only_rule) rule.rehearse();
        rule.of_tensor(row.height != 0);
    }
};

__device__ __forceinline__ bool prepares(const Pass &pass, const Row &row) {
    return pass.clips_values || pass.clips_units || row.kept;
}

// Is there anything around the rule but a factor?
__device__ __forceinline__ bool is_folded(const Pass &pass, const Row &row) {
    return !row.plain || prepares(pass, row) || pass.zeroes_grads || pass.only_rule;
}

template <class R, class T> __device__ __forceinline__ void step_quad(const R &rule, Quads<T> &quads) {
#pragma unroll
    for (int e = 0; e < 4; e++) {
        T state[R::STATES];
#pragma unroll
        for (int k = 0; k < R::STATES; k++) state[k] = quads.x[STATE + k][e];
        quads.x[PARAM][e] = rule.step(quads.x[PARAM][e], quads.x[GRAD][e], state);
#pragma unroll
        for (int k = 0; k < R::STATES; k++) quads.x[STATE + k][e] = state[k];
    }
}

// Means of rows and columns stand in for the first two state arrays.
template <class T> __device__ __forceinline__ void spread_means(const Row &row, u64 i, Quads<T> &quads) {
    const double *ratios = global<const double>(row.mean_sums[0]), *columns = global<const double>(row.mean_sums[1]);
#pragma unroll
    for (int e = 0; e < 4; e++) {
        if (i + e >= row.len) break;
        u64 above = quotient(i + e, row.width), matrix = quotient(above, row.height);
        quads.x[STATE][e] = (T)ratios[above];
        quads.x[STATE + 1][e] = (T)columns[matrix * row.width + (i + e - above * row.width)];
    }
}

// Gradient and state as the rule wants them.
template <class R, class T>
__device__ __forceinline__ void make_ready(const Pass &pass, const Row &row, const Scaled<R, T> &scaled, u64 i, u32 kept,
                                           Quads<T> &quads) {
    if (prepares(pass, row)) {
        prepare(pass, row, scaled.preparation, i, kept, quads.x[GRAD]);
    } else {
#pragma unroll
        for (int e = 0; e < 4; e++) quads.x[GRAD][e] *= scaled.factor;
    }
    if (R::FACTORED && row.height) spread_means(row, i, quads);
}

// Four elements with everything that is folded around the rule.
template <class R, class T>
__device__ __forceinline__ void fold_quad(const Pass &pass, const Row &row, const Scaled<R, T> &scaled, u64 updates, u64 i,
                                          Quads<T> &quads) {
    u32 kept = i < row.len ? kept4(row, i) : 0;
    make_ready(pass, row, scaled, i, kept, quads);
    step_quad(scaled.rule, quads);
    if (pass.only_rule) return;
    keep(kept, quads.x[PARAM]);
#pragma unroll
    for (int k = 0; k < R::STATES; k++) keep(kept, quads.x[STATE + k]);
    settle(pass, row, updates, i, quads.x[PARAM]);
    follow(pass, row, kept, quads);
}

// The operands that a step writes, a bit each.
template <int STATES> __device__ __forceinline__ u32 written(const Pass &pass) {
    u32 state = ((1u << STATES) - 1) << STATE, copies = 1u << EMA | 1u << SHADOW;
    return pass.only_rule ? state : state | copies | 1u << PARAM | (pass.zeroes_grads ? 1u << GRAD : 0);
}

template <class R, class T>
__device__ __forceinline__ void step_folded(const Pass &pass, const Row &row, const StateGrids &grids, const Scaled<R, T> &scaled,
                                            u64 updates, u64 start) {
    Decoded<R::STATES> decoded;
    if (pass.has_codes) fill(row, grids, start, decoded);
#pragma unroll 1
    for (int quad = 0; quad < 2; quad++) {
        u64 i = start + quad * LANES + 4 * lane_of_warp();
        Quads<T> quads;
        gather<R::STATES>(row, i, quads);
        if (pass.has_codes) stand_in(row, decoded, quad, quads);
        fold_quad(pass, row, scaled, updates, i, quads);
        if (pass.has_codes) take(row, quads, quad, i, decoded);
#pragma unroll
        for (int e = 0; e < 4; e++) quads.x[GRAD][e] = T(0);
        scatter<R::STATES>(row, i, quads, written<R::STATES>(pass));
    }
    if (pass.has_codes && !pass.only_rule) leave(pass, row, grids, updates, start, decoded);
}

// A whole tile of arrays that are stored as they are computed.
template <class R, class T>
__device__ __forceinline__ void step_plain(const Row &row, const Scaled<R, T> &scaled, u64 start) {
    const int DTYPE = Native<T>::DTYPE, AT_ONCE = sizeof(T) == 4 ? 2 : 1;
    u64 at = (start + 4 * lane_of_warp()) * sizeof(T);
    for (int done = 0; done < 2; done += AT_ONCE, at += LANES * sizeof(T)) {
        Quads<T> quads[AT_ONCE];
#pragma unroll
        for (int q = 0; q < AT_ONCE; q++)
#pragma unroll
            for (int k = 0; k < STATE + R::STATES; k++)
                load_quad<T>(row.data[k] + at + q * LANES * sizeof(T), k < STATE || has(row, k) ? DTYPE : ABSENT, quads[q].x[k]);
#pragma unroll
        for (int q = 0; q < AT_ONCE; q++) {
#pragma unroll
            for (int e = 0; e < 4; e++) quads[q].x[GRAD][e] *= scaled.factor;
            step_quad(scaled.rule, quads[q]);
#pragma unroll
            for (int k = 0; k < STATE + R::STATES; k++)
                if (k == PARAM || (k >= STATE && has(row, k)))
                    store_quad<T>(row.data[k] + at + q * LANES * sizeof(T), DTYPE, quads[q].x[k]);
        }
    }
}

// The tiles of a chunk, a warp each.
template <class R, class T>
__device__ __forceinline__ void step_chunk(const Pass &pass, const Row &row, const StateGrids &grids, const Scaled<R, T> &scaled,
                                           u64 updates, u64 block) {
    u64 end = (block + 1) * BLOCK < row.len ? (block + 1) * BLOCK : row.len;
    for (u64 start = block * BLOCK + warp_of_block() * TILE; start < end; start += warps_of_block() * TILE) {
        if (start + TILE <= end && !is_folded(pass, row)) {
            step_plain(row, scaled, start);
        } else {
            step_folded(pass, row, grids, scaled, updates, start);
        }
    }
}

template <class R, class T> __device__ __forceinline__ void run(const Pass &pass) {
    StateGrids grids;
    if (pass.has_codes) {
        grids = state_grids();
        __syncthreads();
    }
    if (may_step(pass)) {
        u64 updates = pass.control->updates;
        for (u64 k = blockIdx.x; k < pass.chunk_count; k += gridDim.x) {
            u64 chunk = pass.chunks[k];
            const Row &row = pass.rows[chunk >> 32];
            Scaled<R, T> scaled(pass, row);
            if (R::MEASURES) scaled.rule.measured({row.len, pass.norms[2 * (chunk >> 32)], pass.norms[2 * (chunk >> 32) + 1]});
            step_chunk(pass, row, grids, scaled, updates, chunk & 0xffffffffu);
        }
    }
    if (pass.is_last && is_last_block(pass) && threadIdx.x == 0) end_step(pass);
}

// The kernels of a rule.
#define RULE(name, R) \
    KERNEL(name##_f32)(const __grid_constant__ Pass pass) { run<R<float>, float>(pass); } \
    KERNEL(name##_f64)(const __grid_constant__ Pass pass) { run<R<double>, double>(pass); }
