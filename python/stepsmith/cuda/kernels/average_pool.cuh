// The mean of each window; the same as rust/window/average.rs.
// needs: window.cuh

// What a window divides by: the number of all taps, padding counted, or of those inside.
template <class T> __device__ __forceinline__ T number(const Windows &windows, i64 row, i64 column, bool counts_padding) {
    i64 taps = windows.rows.kernel * windows.columns.kernel;
    i64 inside = windows.rows.inside(row) * windows.columns.inside(column);
    return (T)(counts_padding ? taps : inside > 1 ? inside : 1);
}

// The sum from +0.0 in the order of taps, over their number.
template <class T> __device__ __forceinline__ T mean(const Windows &windows, const Array &x, const Place &window, bool counts_padding) {
    u64 start = window.plane * windows.plane.n;
    T sum = T(0);
    for (i64 i = 0; i < windows.rows.kernel; i++) {
        i64 row = windows.rows.element(window.row, i);
        if (row < 0) continue;
        for (i64 j = 0; j < windows.columns.kernel; j++) {
            i64 column = windows.columns.element(window.column, j);
            if (column >= 0) sum += read<T>(x, start + (u64)(row * windows.columns.input + column));
        }
    }
    return sum / number<T>(windows, window.row, window.column, counts_padding);
}

template <class T>
__device__ __forceinline__ void forward(const Array &y, const Array &x, const Windows &windows, bool counts_padding, u64 count) {
    for (u64 i = first_item(); i < count; i += item_stride())
        write<T>(y, i, mean<T>(windows, x, window_of(windows, i), counts_padding));
}

// Adds dy over count of the windows that met an element: from +0.0, in the order of taps.
template <class T>
__device__ __forceinline__ void spread(const Array &dx, const Array &dy, const Windows &windows, bool counts_padding, u64 count) {
    const Axis &rows = windows.rows, &columns = windows.columns;
    for (u64 at = first_item(); at < count; at += item_stride()) {
        Place element = element_of(windows, at);
        T sum = T(0);
        for (i64 i = 0; i < rows.kernel; i++) {
            i64 row = rows.window(element.row, i);
            if (row < 0) continue;
            for (i64 j = 0; j < columns.kernel; j++) {
                i64 column = columns.window(element.column, j);
                if (column < 0) continue;
                T own = read<T>(dy, element.plane * windows.windows.n + (u64)(row * columns.output + column));
                sum += own / number<T>(windows, row, column, counts_padding);
            }
        }
        write<T>(dx, at, sum);
    }
}

#define AVERAGE_POOL(T, suffix) \
    KERNEL(average_pool_##suffix)(Array y, Array x, Windows windows, int counts_padding, u64 count) { \
        forward<T>(y, x, windows, counts_padding, count); \
    } \
    KERNEL(spread_##suffix)(Array dx, Array dy, Windows windows, int counts_padding, u64 count) { \
        spread<T>(dx, dy, windows, counts_padding, count); \
    }

AVERAGE_POOL(float, f32)
AVERAGE_POOL(double, f64)
