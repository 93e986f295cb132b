// What is folded around a rule: the way of a gradient before it, and what follows a new parameter after it; as rust/optim/fold.rs.
//
// A warp works on a tile of 256 elements, two quads a lane: elements 4l..4l + 4 and 128 + 4l..128 + 4l + 4. Each stage is a branch
// that all threads take alike.
// needs: control.cuh random.cuh

// The random streams of parameters' rounding and of state arrays' rounding: the tensor's index is added.
const u32 ROUNDING_STREAM = 1u << 24;
const u32 STATE_ROUNDING_STREAM = 2u << 24;
// From the stream of one state array to that of the next: sixteen purposes.
const u32 SLOT_STREAMS = 16u << 24;

// What a gradient is multiplied by and clamped to, in this order.
template <class T> struct Preparation {
    T first, limit, second;
};

// Four elements of every operand; those that a kernel does not use are never there.
template <class T> struct Quads {
    T x[OPERANDS][4];
};

// Which operands a rule with so many states reads.
template <int STATES> __device__ __forceinline__ constexpr bool is_read(int k) { return k < STATE + STATES || k == EMA; }

// Reads elements i..i + 4, zeros behind the last one and where there is no array.
template <int STATES, class T> __device__ __forceinline__ void gather(const Row &row, u64 i, Quads<T> &quads) {
    u32 there = i + 4 <= row.len ? (u32)row.quads : 0;
    bool all = true;
#pragma unroll
    for (int k = 0; k < OPERANDS; k++)
        if (is_read<STATES>(k)) {
            bool at_once = there >> k & 1;
            all = all && (at_once || !has(row, k));
            load_quad<T>(row.data[k] + i * item_size(row.dtypes[k]), at_once ? row.dtypes[k] : ABSENT, quads.x[k]);
        }
    if (all) return;
    u64 places[OPERANDS];
#pragma unroll
    for (int e = 0; e < 4; e++) {
        if (i + e >= row.len) break;
        places_of(row, i + e, places);
#pragma unroll
        for (int k = 0; k < OPERANDS; k++)
            if (is_read<STATES>(k) && !(there >> k & 1)) quads.x[k][e] = load_at<T>(places[k], row.dtypes[k]);
    }
}

// Writes elements i..i + 4 of the operands in the set, a bit each.
template <int STATES, class T> __device__ __forceinline__ void scatter(const Row &row, u64 i, const Quads<T> &quads, u32 set) {
    u32 there = i + 4 <= row.len ? (u32)row.quads & set : 0;
    u32 others = 0;
#pragma unroll
    for (int k = 0; k < OPERANDS; k++)
        if (is_read<STATES>(k) || k == SHADOW) {
            bool at_once = there >> k & 1;
            if (set >> k & 1 && !at_once && has(row, k)) others |= 1u << k;
            store_quad<T>(row.data[k] + i * item_size(row.dtypes[k]), at_once ? row.dtypes[k] : ABSENT, quads.x[k]);
        }
    if (!others) return;
    u64 places[OPERANDS];
#pragma unroll
    for (int e = 0; e < 4; e++) {
        if (i + e >= row.len) break;
        places_of(row, i + e, places);
#pragma unroll
        for (int k = 0; k < OPERANDS; k++)
            if ((is_read<STATES>(k) || k == SHADOW) && others >> k & 1) store_at<T>(places[k], row.dtypes[k], quads.x[k][e]);
    }
}

template <class T> __device__ __forceinline__ void keep(u32 kept, T (&x)[4]) {
#pragma unroll
    for (int e = 0; e < 4; e++) x[e] = kept >> e & 1 ? x[e] : T(0);
}

// NaN stays NaN.
template <class T> __device__ __forceinline__ T clamped(T x, T limit) {
    T below = x > limit ? limit : x;
    return below < -limit ? -limit : below;
}

// Mask, first factor, clamp, second factor, a factor a unit.
template <class T>
__device__ __forceinline__ void prepare(const Pass &pass, const Row &row, const Preparation<T> &how, u64 i, u32 kept, T (&grad)[4]) {
    keep(kept, grad);
#pragma unroll
    for (int e = 0; e < 4; e++) {
        grad[e] *= how.first;
        if (pass.clips_values) grad[e] = clamped(grad[e], how.limit);
        grad[e] *= how.second;
        if (pass.clips_units && i + e < row.len)
            grad[e] *= (T)global<const double>(row.unit_factors)[quotient(i + e, row.unit)];
    }
}

// The number that storage gives back.
__device__ __forceinline__ float as_stored(int dtype, float x) {
    return dtype == BF16 ? from_bf16(to_bf16(x)) : dtype == F16 ? from_f16(to_f16(x)) : x;
}
__device__ __forceinline__ double as_stored(int, double x) { return x; }

__device__ __forceinline__ float rounded_randomly(int dtype, float x, u32 word) {
    return dtype == BF16 ? bf16_randomly(x, word) : f16_randomly(x, word);
}
__device__ __forceinline__ double rounded_randomly(int, double x, u32) { return x; }

__device__ __forceinline__ bool is_half(const Row &row) { return row.dtypes[PARAM] == BF16 || row.dtypes[PARAM] == F16; }

// The parameter as it is stored: rounded at random if that is wanted, else to the nearest.
template <class T>
__device__ __forceinline__ void settle(const Pass &pass, const Row &row, u64 updates, u64 i, T (&param)[4]) {
    if (pass.rounds && is_half(row)) {
        Philox philox = {pass.rounding_seed, (u32)updates, ROUNDING_STREAM + row.tensor};
        u32 words[4];
        philox_words(philox, i / 4, words);
#pragma unroll
        for (int e = 0; e < 4; e++) param[e] = rounded_randomly(row.dtypes[PARAM], param[e], words[e]);
    }
#pragma unroll
    for (int e = 0; e < 4; e++) param[e] = as_stored(row.dtypes[PARAM], param[e]);
}

// The copies follow the parameter as it is stored.
template <class T>
__device__ __forceinline__ void follow(const Pass &pass, const Row &row, u32 kept, Quads<T> &quads) {
    if (has(row, EMA)) {
        T weight = (T)pass.ema_weight;
#pragma unroll
        for (int e = 0; e < 4; e++) quads.x[EMA][e] += (quads.x[PARAM][e] - quads.x[EMA][e]) * weight;
        keep(kept, quads.x[EMA]);
    }
#pragma unroll
    for (int e = 0; e < 4; e++) quads.x[SHADOW][e] = quads.x[PARAM][e];
}
