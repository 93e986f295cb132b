// The largest element of each window; NaN is larger than all else, and of equal elements the first counts; the same as
// rust/window/max.rs.
// needs: window.cuh

// Does the value take the place of the best one so far?
template <class T> __device__ __forceinline__ bool is_larger(T value, T best) { return value > best || value != value; }

// The largest element of a window and the number of its tap: of the first one inside if nothing is larger than -Inf, -1 where all
// taps are in the padding.
template <class T> struct Largest {
    T best;
    int tap;
};

template <class T> __device__ __forceinline__ Largest<T> largest(const Windows &windows, const Array &x, const Place &window) {
    Largest<T> found = {-Float<T>::of(Float<T>::INFINITE), -1};
    u64 start = window.plane * windows.plane.n;
    for (i64 i = 0; i < windows.rows.kernel; i++) {
        i64 row = windows.rows.element(window.row, i);
        if (row < 0) continue;
        for (i64 j = 0; j < windows.columns.kernel; j++) {
            i64 column = windows.columns.element(window.column, j);
            if (column < 0) continue;
            T value = read<T>(x, start + (u64)(row * windows.columns.input + column));
            int tap = (int)(i * windows.columns.kernel + j);
            bool larger = is_larger(value, found.best);
            found.tap = larger || found.tap < 0 ? tap : found.tap;
            found.best = larger ? value : found.best;
        }
    }
    return found;
}

template <class T> __device__ __forceinline__ void forward(const Array &y, const Array &x, const Windows &windows, u64 count) {
    for (u64 i = first_item(); i < count; i += item_stride()) write<T>(y, i, largest<T>(windows, x, window_of(windows, i)).best);
}

template <class T> __device__ __forceinline__ void note_larger(int *which, const Array &x, const Windows &windows, u64 count) {
    for (u64 i = first_item(); i < count; i += item_stride()) which[i] = largest<T>(windows, x, window_of(windows, i)).tap;
}

// Adds the `dy` of each window whose tap met the element, in the order of windows.
template <class T>
__device__ __forceinline__ void give(const Array &dx, const int *which, const Array &dy, const Windows &windows, u64 count) {
    const Axis &rows = windows.rows, &columns = windows.columns;
    for (u64 at = first_item(); at < count; at += item_stride()) {
        Place element = element_of(windows, at);
        T sum = T(0);
        for (i64 i = rows.kernel - 1; i >= 0; i--) {
            i64 row = rows.window(element.row, i);
            if (row < 0) continue;
            for (i64 j = columns.kernel - 1; j >= 0; j--) {
                i64 column = columns.window(element.column, j);
                if (column < 0) continue;
                u64 window = element.plane * windows.windows.n + (u64)(row * columns.output + column);
                if (which[window] == (int)(i * columns.kernel + j)) sum += read<T>(dy, window);
            }
        }
        write<T>(dx, at, sum);
    }
}

#define MAX_POOL(T, suffix) \
    KERNEL(max_pool_##suffix)(Array y, Array x, Windows windows, u64 count) { forward<T>(y, x, windows, count); } \
    KERNEL(note_larger_##suffix)(int *which, Array x, Windows windows, u64 count) { note_larger<T>(which, x, windows, count); } \
    KERNEL(give_##suffix)(Array dx, const int *which, Array dy, Windows windows, u64 count) { \
        give<T>(dx, which, dy, windows, count); \
    }

MAX_POOL(float, f32)
MAX_POOL(double, f64)
