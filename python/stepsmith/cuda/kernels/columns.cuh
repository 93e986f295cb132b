// Columns: what each tap meets in all windows of some samples, and back; as rust/conv/columns.rs, but of samples instead of blocks.
// A matrix has a row for each tap of each channel, and in it the windows of one sample after those of the other.
// needs: window.cuh

// Some samples of an array with so many channels.
struct Samples {
    u64 first, count;
    u64 channels;
    Divisor row; // Windows of all these samples.
};

// Fills the rows with what the taps meet; 0 in the padding.
template <class T>
__device__ __forceinline__ void unfold(T *columns, const Array &x, const Windows &windows, const Samples &samples) {
    u64 items = samples.channels * samples.row.n, taps = (u64)(windows.rows.kernel * windows.columns.kernel);
    for (u64 item = first_item(); item < items; item += item_stride()) {
        u64 channel = quotient(item, samples.row), at = item - channel * samples.row.n;
        Place window = window_of(windows, at);
        u64 start = ((samples.first + window.plane) * samples.channels + channel) * windows.plane.n;
        T *row_of_tap = columns + channel * taps * samples.row.n + at;
        for (i64 i = 0; i < windows.rows.kernel; i++) {
            i64 row = windows.rows.element(window.row, i);
            for (i64 j = 0; j < windows.columns.kernel; j++) {
                i64 column = windows.columns.element(window.column, j);
                bool is_inside = row >= 0 && column >= 0;
                *row_of_tap = is_inside ? read<T>(x, start + (u64)(row * windows.columns.input + column)) : T(0);
                row_of_tap += samples.row.n;
            }
        }
    }
}

// Adds the rows to the elements that the taps met, in the order of taps, from the channel's bias or +0.0 on.
template <class T>
__device__ __forceinline__ void fold(const Array &y, const T *columns, const T *bias, const Windows &windows, const Samples &samples,
                                     const Divisor &channels) {
    u64 items = samples.count * samples.channels * windows.plane.n, taps = (u64)(windows.rows.kernel * windows.columns.kernel);
    for (u64 item = first_item(); item < items; item += item_stride()) {
        Place element = element_of(windows, item);
        u64 sample = quotient(element.plane, channels), channel = element.plane - sample * channels.n;
        const T *row_of_tap = columns + channel * taps * samples.row.n + sample * windows.windows.n;
        T sum = bias ? bias[channel] : T(0);
        for (i64 i = 0; i < windows.rows.kernel; i++) {
            i64 row = windows.rows.window(element.row, i);
            for (i64 j = 0; j < windows.columns.kernel; j++) {
                i64 column = windows.columns.window(element.column, j);
                if (row >= 0 && column >= 0) sum += row_of_tap[row * windows.columns.output + column];
                row_of_tap += samples.row.n;
            }
        }
        write<T>(y, samples.first * samples.channels * windows.plane.n + item, sum);
    }
}

#define COLUMNS(T, suffix) \
    KERNEL(unfold_##suffix)(T *columns, Array x, Windows windows, Samples samples) { unfold<T>(columns, x, windows, samples); } \
    KERNEL(fold_##suffix)(Array y, const T *columns, const T *bias, Windows windows, Samples samples, Divisor channels) { \
        fold<T>(y, columns, bias, windows, samples, channels); \
    }

COLUMNS(float, f32)
COLUMNS(double, f64)
