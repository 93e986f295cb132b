// A few elements of arrays of any layout whose compute type is T: float64 for float64, float32 for all else.
//
// What is not a whole quad goes element by element in loops that are not unrolled, so that the text of a kernel stays short.
// Quads are loaded as they are stored and converted later, so that several loads are under way at a time.
// needs: arrays.cuh

// The storage type, which the compute type says more of.
template <class T> __device__ __forceinline__ int own_dtype(const Array &array) {
    if (sizeof(T) == 8) return F64;
    __builtin_assume(array.dtype == F32 || array.dtype == BF16 || array.dtype == F16);
    return array.dtype;
}

template <class T> __device__ __forceinline__ T load_element(const Array &array, u64 i) {
    return load_at<T>(address_of(array, i), own_dtype<T>(array));
}

template <class T> __device__ __forceinline__ void store_element(const Array &array, u64 i, T x) {
    store_at<T>(address_of(array, i), own_dtype<T>(array), x);
}

// x[k] of numbers in registers.
template <class T> __device__ __forceinline__ T take(const T (&x)[4], u32 k) {
    return k < 2 ? k < 1 ? x[0] : x[1] : k < 3 ? x[2] : x[3];
}

template <class T> __device__ __forceinline__ void put(T (&x)[4], u32 k, T value) {
#pragma unroll
    for (u32 i = 0; i < 4; i++) x[i] = k == i ? value : x[i];
}

// A quad as it is stored: four numbers of the compute type, or halves.
template <class T> struct Stored {
    union {
        T x[4];
        uint2 halves;
    };
    int dtype;

    __device__ __forceinline__ void load(u64 address, int own) {
        dtype = own;
        if (sizeof(T) == 8 || dtype == F32) load_quad<T>(address, sizeof(T) == 8 ? F64 : F32, x);
        else halves = *global<const uint2>(address);
    }

    // One element after another, `step` bytes apart; zeros behind the last one.
    __device__ __forceinline__ void load_apart(u64 address, u32 step, int own, u32 count) {
        clear(own);
        if (sizeof(T) == 8 || dtype == F32) {
#pragma unroll
            for (u32 k = 0; k < 4; k++)
                if (k < count) x[k] = *global<const T>(address + k * step);
        } else {
            u32 half[4] = {};
#pragma unroll
            for (u32 k = 0; k < 4; k++)
                if (k < count) half[k] = *global<const u16>(address + k * step);
            halves = {half[0] | half[1] << 16, half[2] | half[3] << 16};
        }
    }

    __device__ __forceinline__ void clear(int own) {
        dtype = own;
        x[0] = x[1] = x[2] = x[3] = T(0);
    }

    __device__ __forceinline__ void convert(T (&y)[4]) const {
        if (sizeof(T) == 8 || dtype == F32) {
            y[0] = x[0], y[1] = x[1], y[2] = x[2], y[3] = x[3];
        } else if (dtype == BF16) {
            y[0] = (T)from_bf16((u16)halves.x), y[1] = (T)from_bf16((u16)(halves.x >> 16));
            y[2] = (T)from_bf16((u16)halves.y), y[3] = (T)from_bf16((u16)(halves.y >> 16));
        } else {
            y[0] = (T)from_f16((u16)halves.x), y[1] = (T)from_f16((u16)(halves.x >> 16));
            y[2] = (T)from_f16((u16)halves.y), y[3] = (T)from_f16((u16)(halves.y >> 16));
        }
    }
};

__device__ __forceinline__ bool is_quad(const Array &array, u64 i, u32 count) { return array.quads && count == 4 && i % 4 == 0; }

// The `count` elements from `i` on, at most four; zeros behind them.
template <class T> __device__ __forceinline__ void load_some(const Array &array, u64 i, u32 count, Stored<T> &quad) {
    if (is_quad(array, i, count)) return quad.load(array.address + i * array.item, own_dtype<T>(array));
    if (array.axes == 0) return quad.load_apart(array.address + i * array.item, array.item, own_dtype<T>(array), count);
    quad.clear(F32);
#pragma unroll 1
    for (u32 k = 0; k < count; k++) put(quad.x, k, load_element<T>(array, i + k));
}

template <class T> __device__ __forceinline__ void load_some(const Array &array, u64 i, u32 count, T (&x)[4]) {
    Stored<T> quad;
    load_some(array, i, count, quad);
    quad.convert(x);
}

template <class T> __device__ __forceinline__ void store_some(const Array &array, u64 i, u32 count, const T (&x)[4]) {
    if (is_quad(array, i, count)) return store_quad<T>(array.address + i * array.item, own_dtype<T>(array), x);
#pragma unroll 1
    for (u32 k = 0; k < count; k++) store_element<T>(array, i + k, take(x, k));
}
