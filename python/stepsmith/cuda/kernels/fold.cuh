// What is folded around a rule: the way of a gradient before it, and what follows a new parameter after it; as rust/optim/fold.rs.
//
// A warp works on a tile of 256 elements, of which a lane has eight: 4l..4l + 4 and 128 + 4l..128 + 4l + 4. It takes them part by
// part, each of 16 bytes in the compute type. Each stage is a branch that all threads take alike.
// needs: control.cuh random.cuh

// The random streams of parameters' rounding and of state arrays' rounding: the tensor's index is added.
const u32 ROUNDING_STREAM = 1u << 24;
const u32 STATE_ROUNDING_STREAM = 2u << 24;
// From the stream of one state array to that of the next: sixteen purposes.
const u32 SLOT_STREAMS = 16u << 24;

// Some elements of every operand; what a kernel does not use is never there.
template <class T> struct Part {
    static const int COUNT = 16 / sizeof(T);
    static const int NATIVE = sizeof(T) == 4 ? F32 : F64;

    T x[OPERANDS][COUNT];

    // How an operand may be stored.
    static __device__ __forceinline__ u32 storages(int k) {
        u32 native = 1u << NATIVE;
        if (k == GRAD) return ANY;
        if (k == SHADOW) return HALVES;
        if (k == PARAM) return NATIVE == F32 ? native | HALVES : native;
        return k == EMA ? native : native | 1u << BF16;
    }
};

__device__ __forceinline__ void load_some(u64 at, int dtype, float (&x)[4], u32 set) { load_quad(at, dtype, x, set); }
__device__ __forceinline__ void load_some(u64 at, int dtype, double (&x)[2], u32 set) { load_pair(at, dtype, x, set); }
__device__ __forceinline__ void store_some(u64 at, int dtype, const float (&x)[4], u32 set) { store_quad(at, dtype, x, set); }
__device__ __forceinline__ void store_some(u64 at, int dtype, const double (&x)[2], u32 set) { store_pair(at, dtype, x, set); }

// Which operands a step reads, of a rule with so many states; what only measures needs no copies.
template <int STATES, bool COPIES> __device__ __forceinline__ bool is_read(int k) {
    return k < STATE + STATES || (COPIES && k == EMA);
}

// Elements one by one: for arrays with gaps, and for the last ones. Loops that are not unrolled keep this small.
template <class T, int N> __device__ __forceinline__ void load_each(const Row &row, int k, u64 i, T (&x)[N]) {
#pragma unroll 1
    for (int e = 0; e < N && i + e < row.len; e++) {
        T element = load_element<T>(row, k, i + e);
#pragma unroll
        for (int j = 0; j < N; j++) x[j] = j == e ? element : x[j];
    }
}

template <class T, int N> __device__ __forceinline__ void store_each(const Row &row, int k, u64 i, const T (&x)[N]) {
#pragma unroll 1
    for (int e = 0; e < N && i + e < row.len; e++) {
        T element = x[0];
#pragma unroll
        for (int j = 1; j < N; j++) element = j == e ? x[j] : element;
        store_element(row, k, i + e, element);
    }
}

// Reads the elements from `i` on, zeros behind the last one and where there is no array.
template <int STATES, bool COPIES, class T> __device__ __forceinline__ void gather(const Row &row, u64 i, Part<T> &part) {
    const int COUNT = Part<T>::COUNT;
    u32 at_once = i + COUNT <= row.len ? row.quads : 0;
#pragma unroll
    for (int k = 0; k < OPERANDS; k++) {
        if (!is_read<STATES, COPIES>(k)) continue;
        int dtype = row.dtypes[k];
        bool is_at_once = at_once >> k & 1;
        load_some(row.data[k] + i * item_size(dtype), is_at_once ? dtype : ABSENT, part.x[k], Part<T>::storages(k));
        if (!is_at_once && dtype != ABSENT) load_each(row, k, i, part.x[k]);
    }
}

// Writes the elements from `i` on of the operands in the set, a bit each.
template <int STATES, class T> __device__ __forceinline__ void scatter(const Row &row, u64 i, const Part<T> &part, u32 set) {
    const int COUNT = Part<T>::COUNT;
    u32 at_once = i + COUNT <= row.len ? row.quads : 0;
#pragma unroll
    for (int k = 0; k < OPERANDS; k++) {
        if (!is_read<STATES, true>(k) && k != SHADOW) continue;
        int dtype = row.dtypes[k];
        if (!(set >> k & 1) || dtype == ABSENT) continue;
        if (at_once >> k & 1) {
            store_some(row.data[k] + i * item_size(dtype), dtype, part.x[k], Part<T>::storages(k));
        } else {
            store_each(row, k, i, part.x[k]);
        }
    }
}

template <class T, int N> __device__ __forceinline__ void keep(u32 kept, T (&x)[N]) {
#pragma unroll
    for (int e = 0; e < N; e++) x[e] = kept >> e & 1 ? x[e] : T(0);
}

// NaN stays NaN.
template <class T> __device__ __forceinline__ T clamped(T x, T limit) {
    T below = x > limit ? limit : x;
    return below < -limit ? -limit : below;
}

__device__ __forceinline__ bool prepares(const Pass &pass, const Row &row) {
    return pass.clips_values || pass.clips_units || row.kept;
}

// Mask, first factor, clamp, second factor, a factor a unit.
template <class T, int N>
__device__ __forceinline__ void prepare(const Pass &pass, const Row &row, T first, u64 i, u32 kept, T (&grad)[N]) {
    T limit = (T)pass.clip_value, second = (T)(pass.is_examined ? pass.control->second : pass.second);
    keep(kept, grad);
#pragma unroll
    for (int e = 0; e < N; e++) {
        grad[e] *= first;
        if (pass.clips_values) grad[e] = clamped(grad[e], limit);
        grad[e] *= second;
        if (pass.clips_units && i + e < row.len)
            grad[e] *= (T)global<const double>(row.unit_factors)[quotient(i + e, row.unit)];
    }
}

// The number that storage gives back.
__device__ __forceinline__ float as_stored(int dtype, float x) {
    return dtype == BF16 ? from_bf16(to_bf16(x)) : dtype == F16 ? from_f16(to_f16(x)) : x;
}

// The parameter as it is stored: rounded at random if that is wanted, else to the nearest.
__device__ __forceinline__ void settle(const Pass &pass, const Row &row, u64 i, float (&param)[4]) {
    int dtype = row.dtypes[PARAM];
    if (dtype == F32) return;
    if (pass.rounds) {
        u32 words[4];
        philox_words({pass.rounding_seed, (u32)pass.control->updates, ROUNDING_STREAM + row.tensor}, i / 4, words);
#pragma unroll
        for (int e = 0; e < 4; e++)
            param[e] = dtype == BF16 ? bf16_randomly(param[e], words[e]) : f16_randomly(param[e], words[e]);
    }
#pragma unroll
    for (int e = 0; e < 4; e++) param[e] = as_stored(dtype, param[e]);
}
__device__ __forceinline__ void settle(const Pass &, const Row &, u64, double (&)[2]) {}

// The copies follow the parameter as it is stored.
template <class T> __device__ __forceinline__ void follow(const Pass &pass, u32 kept, Part<T> &part) {
    T weight = (T)pass.ema_weight;
#pragma unroll
    for (int e = 0; e < Part<T>::COUNT; e++) {
        part.x[EMA][e] += (part.x[PARAM][e] - part.x[EMA][e]) * weight;
        part.x[SHADOW][e] = part.x[PARAM][e];
    }
    keep(kept, part.x[EMA]);
}
