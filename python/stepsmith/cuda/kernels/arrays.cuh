// Arrays of the caller as arguments of a kernel: any storage type, any strides, read and written in C order.
// needs: storage.cuh

const int MOST_AXES = 8;

// Mirrors `ARRAY` of stepsmith/cuda/_arrays.py. Elements lie densely in C order if there are no axes; `quads` says that four at a
// time are on a boundary of their own size then.
struct Array {
    u64 address;
    int dtype;
    int axes;
    int quads;
    int item;
    i64 shape[MOST_AXES];
    i64 strides[MOST_AXES]; // in bytes
};

__device__ __forceinline__ bool is_absent(const Array &array) { return array.dtype == ABSENT; }

__device__ __forceinline__ u64 address_of(const Array &array, u64 i) {
    if (array.axes == 0) return array.address + i * array.item;
    u64 address = array.address;
#pragma unroll 1
    for (int axis = array.axes - 1; axis >= 0; axis--) {
        u64 n = (u64)array.shape[axis], rest = i / n;
        address += (u64)((i64)(i - rest * n) * array.strides[axis]);
        i = rest;
    }
    return address;
}

template <class T> __device__ __forceinline__ T load(const Array &array, u64 i) {
    return load_at<T>(is_absent(array) ? 0 : address_of(array, i), array.dtype);
}

template <class T> __device__ __forceinline__ void store(const Array &array, u64 i, T x) {
    if (!is_absent(array)) store_at<T>(address_of(array, i), array.dtype, x);
}

// Elements i..i + 4 of n; zeros behind the last one. What is no whole quad on a boundary goes one after another, in a loop that
// is kept short: a kernel has many places that read and write.
template <class T> __device__ __forceinline__ void load4(const Array &array, u64 i, u64 n, T (&x)[4]) {
    if (array.quads && i % 4 == 0 && i + 4 <= n) return load_quad<T>(array.address + i * array.item, array.dtype, x);
    x[0] = x[1] = x[2] = x[3] = T(0);
#pragma unroll 1
    for (u32 k = 0; k < 4 && i + k < n; k++) {
        T value = load<T>(array, i + k);
        x[0] = k == 0 ? value : x[0], x[1] = k == 1 ? value : x[1], x[2] = k == 2 ? value : x[2], x[3] = k == 3 ? value : x[3];
    }
}

template <class T> __device__ __forceinline__ void store4(const Array &array, u64 i, u64 n, const T (&x)[4]) {
    if (array.quads && i % 4 == 0 && i + 4 <= n) return store_quad<T>(array.address + i * array.item, array.dtype, x);
#pragma unroll 1
    for (u32 k = 0; k < 4 && i + k < n; k++) store<T>(array, i + k, k == 0 ? x[0] : k == 1 ? x[1] : k == 2 ? x[2] : x[3]);
}

// The first quad of this thread among all threads of the grid, and from one quad to its next.
__device__ __forceinline__ u64 first_quad() { return ((u64)blockIdx.x * blockDim.x + threadIdx.x) * 4; }
__device__ __forceinline__ u64 quad_stride() { return (u64)gridDim.x * blockDim.x * 4; }
