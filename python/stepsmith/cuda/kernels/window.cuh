// Windows that slide over planes; the same as rust/window/mod.rs. An array has samples, channels and planes of rows and columns. A
// window's elements are its taps, in C order.
// needs: elements.cuh divide.cuh

// Mirrors `AXIS` of stepsmith/cuda/window.py.
struct Axis {
    i64 input, kernel, padding, output;
    Divisor stride, dilation;

    // The element that tap `k` meets in a window, -1 in the padding.
    __device__ __forceinline__ i64 element(i64 window, i64 k) const {
        i64 at = window * (i64)stride.n + k * (i64)dilation.n - padding;
        return at >= 0 && at < input ? at : -1;
    }

    // The window in which tap `k` meets an element, -1 if there is none.
    __device__ __forceinline__ i64 window(i64 at, i64 k) const {
        i64 start = at + padding - k * (i64)dilation.n;
        u64 window = start < 0 ? 0 : quotient((u64)start, stride);
        return start >= 0 && window * stride.n == (u64)start && window < (u64)output ? (i64)window : -1;
    }

    // Taps of a window that lie inside the axis.
    __device__ __forceinline__ i64 inside(i64 window) const {
        i64 start = window * (i64)stride.n - padding, step = (i64)dilation.n;
        i64 low = start < 0 ? (i64)quotient((u64)(-start + step - 1), dilation) : 0;
        i64 high = start < input ? (i64)quotient((u64)(input - start + step - 1), dilation) : 0;
        high = high < kernel ? high : kernel;
        return low < high ? high - low : 0;
    }
};

// Mirrors `WINDOWS` there: windows and elements of a plane, and how many of both a row has.
struct Windows {
    Axis rows, columns;
    Divisor windows, width, plane, breadth;
};

// A place in an array of planes.
struct Place {
    u64 plane;
    i64 row, column;
};

__device__ __forceinline__ Place place_of(u64 i, const Divisor &plane, const Divisor &row) {
    u64 index = quotient(i, plane), rest = i - index * plane.n, at = quotient(rest, row);
    return {index, (i64)at, (i64)(rest - at * row.n)};
}

// The window with that number among all.
__device__ __forceinline__ Place window_of(const Windows &windows, u64 i) { return place_of(i, windows.windows, windows.width); }

// The element with that number among all.
__device__ __forceinline__ Place element_of(const Windows &windows, u64 i) { return place_of(i, windows.plane, windows.breadth); }

// One element of an array of any layout.
template <class T> __device__ __forceinline__ T read(const Array &array, u64 i) {
    if (array.axes == 0) return load_at<T>(array.address + i * array.item, own_dtype<T>(array));
    return load_element<T>(array, i);
}

template <class T> __device__ __forceinline__ void write(const Array &array, u64 i, T x) {
    if (array.axes == 0) return store_at<T>(array.address + i * array.item, own_dtype<T>(array), x);
    store_element<T>(array, i, x);
}

__device__ __forceinline__ u64 first_item() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ u64 item_stride() { return (u64)gridDim.x * blockDim.x; }
