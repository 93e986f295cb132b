// Factored second moments (Adafactor): sums of squared gradients over the rows and the columns of matrices, and averages of their
// means; as rust/optim/grid.rs and factor.rs.
//
// A row's sum has the fixed shape of reduce.cuh over its elements. A column's sum goes by blocks of 64 rows, each in order from
// +0.0, blocks added in order from +0.0. A chunk of these kernels is `row << 32 | group`, groups being counted in each tensor.
// needs: measure.cuh

// Rows of a block.
const u64 HEIGHT = 64;

__device__ __forceinline__ u64 blocks_of_rows(const Row &row) { return (row.height + HEIGHT - 1) / HEIGHT; }

// Elements i..i + 4 of the gradient as the rule will see them, zeros from `end` on.
template <class T>
__device__ __forceinline__ void load_prepared(const Pass &pass, const Row &row, T first, u64 i, u64 end, T (&x)[4]) {
    u32 kept = 0;
    if (i % 4 == 0 && i + 4 <= end) {
        load_grad4<T>(row, i, x);
        kept = kept_from(row, i);
    } else {
#pragma unroll
        for (u32 e = 0; e < 4; e++) {
            bool is_there = i + e < end && is_kept(row, i + e);
            x[e] = is_there ? load_at<T>(place_of_grad(row, i + e), row.dtypes[GRAD]) : T(0);
            kept |= (u32)is_there << e;
        }
    }
    prepare(pass, row, first, i, kept, x);
#pragma unroll
    for (u32 e = 0; e < 4; e++) x[e] = i + e < end ? x[e] : T(0);
}

// The sum of squares of a matrix's row, by a warp.
template <class T>
__device__ __forceinline__ void sum_row(const Pass &pass, const Row &row, T first, u64 which) {
    Tree tree = {};
    u64 end = (which + 1) * row.width;
    for (u64 start = which * row.width; start < end; start += BLOCK) {
        Lanes lanes = {{0.0, 0.0, 0.0, 0.0}};
        u64 stop = start + BLOCK < end ? start + BLOCK : end;
        for (u64 at = start; at < stop; at += LANES) {
            T x[4];
            load_prepared(pass, row, first, at + 4 * lane_of_warp(), stop, x);
#pragma unroll
            for (int e = 0; e < 4; e++) lanes.sums[e] += (double)x[e] * (double)x[e];
        }
        add_result(tree, fold(lanes));
    }
    double sum = result_of(tree);
    if (lane_of_warp() == 0) global<double>(row.mean_sums[0])[which] = sum;
}

// The sums of squares of 128 columns over a block of a matrix's rows, by a warp.
template <class T>
__device__ __forceinline__ void sum_columns(const Pass &pass, const Row &row, T first, u64 which) {
    u64 tiles = (row.width + LANES - 1) / LANES, block = which / tiles, tall = blocks_of_rows(row);
    u64 column = which % tiles * LANES + 4 * lane_of_warp(), top = block % tall * HEIGHT;
    u64 from = block / tall * row.height + top, count = row.height - top < HEIGHT ? row.height - top : HEIGHT;
    double sums[4] = {0.0, 0.0, 0.0, 0.0};
    for (u64 at = from; at < from + count; at++) {
        T x[4];
        load_prepared(pass, row, first, at * row.width + column, (at + 1) * row.width, x);
#pragma unroll
        for (int e = 0; e < 4; e++) sums[e] += (double)x[e] * (double)x[e];
    }
#pragma unroll
    for (u32 e = 0; e < 4; e++)
        if (column + e < row.width) global<double>(row.partials)[block * row.width + column + e] = sums[e];
}

// A group is as many rows, or blocks of 128 columns and 64 rows, as a block of threads has warps: the rows come first.
template <class R, class T> __device__ __forceinline__ void sum_squares(const Pass &pass) {
    if (!may_step(pass)) return;
    for (u64 k = blockIdx.x; k < pass.chunk_count; k += gridDim.x) {
        const Row &row = pass.rows[pass.chunks[k] >> 32];
        u64 rows = row.count * row.height, strips = row.count * blocks_of_rows(row) * ((row.width + LANES - 1) / LANES);
        u64 which = (pass.chunks[k] & 0xffffffffu) * warps_of_block() + warp_of_block();
        T first = Scaled<R, T>(pass, row).factor;
        if (which < rows) sum_row(pass, row, first, which);
        else if (which < rows + strips) sum_columns(pass, row, first, which - rows);
    }
}

// The moving average of a mean: old + (mean - old)·(1 - β2), also in place of the stored one.
template <class T> __device__ __forceinline__ T average(const Row &row, int which, u64 i, double mean, T weight) {
    u64 place = row.means[which] + i * item_size(row.mean_dtype);
    T old = load_at<T>(place, row.mean_dtype);
    T now = old + ((T)mean - old) * weight;
    store_at(place, row.mean_dtype, now);
    return now;
}

// The averages of a matrix's row means, each by the mean of all, which is at least ε; by a block of threads.
template <class T> __device__ __forceinline__ void average_rows(const Row &row, const Factoring<T> &factoring, u64 matrix) {
    SHARED(double, total, 1);
    double *numbers = global<double>(row.mean_sums[0]) + matrix * row.height;
    for (u64 i = threadIdx.x; i < row.height; i += blockDim.x)
        numbers[i] = (double)average(row, 0, matrix * row.height + i, numbers[i] / (double)row.width, factoring.one_minus_beta2);
    __syncthreads();
    if (warp_of_block() == 0) {
        double sum = sum_of_numbers(numbers, row.height);
        if (lane_of_warp() == 0) total[0] = sum;
    }
    __syncthreads();
    T mean = larger((T)(total[0] / (double)row.height), factoring.eps);
    for (u64 i = threadIdx.x; i < row.height; i += blockDim.x) numbers[i] = (double)((T)numbers[i] / mean);
    __syncthreads();
}

// The average of a column's mean, by a thread.
template <class T> __device__ __forceinline__ void average_column(const Row &row, const Factoring<T> &factoring, u64 which) {
    u64 tall = blocks_of_rows(row), matrix = which / row.width, column = which % row.width;
    const double *partials = global<const double>(row.partials) + matrix * tall * row.width + column;
    double sum = 0.0;
    for (u64 block = 0; block < tall; block++) sum += partials[block * row.width];
    global<double>(row.mean_sums[1])[which] = (double)average(row, 1, which, sum / (double)row.height, factoring.one_minus_beta2);
}

// A group is a matrix, whose rows' means are averaged, or as many columns as a block has threads: the matrices come first.
template <class R, class T> __device__ __forceinline__ void average_means(const Pass &pass) {
    if (!may_step(pass)) return;
    for (u64 k = blockIdx.x; k < pass.chunk_count; k += gridDim.x) {
        const Row &row = pass.rows[pass.chunks[k] >> 32];
        u64 group = pass.chunks[k] & 0xffffffffu;
        Factoring<T> factoring = Scaled<R, T>(pass, row).rule.factoring();
        if (group < row.count) {
            average_rows(row, factoring, group);
        } else {
            u64 which = (group - row.count) * blockDim.x + threadIdx.x;
            if (which < row.count * row.width) average_column(row, factoring, which);
        }
    }
}

// The kernels of a rule whose second moment may be factored.
#define FACTORED(name, R) \
    KERNEL_OF_256(sums_##name##_f32)(const __grid_constant__ Pass pass) { sum_squares<R<float>, float>(pass); } \
    KERNEL_OF_256(sums_##name##_f64)(const __grid_constant__ Pass pass) { sum_squares<R<double>, double>(pass); } \
    KERNEL_OF_256(means_##name##_f32)(const __grid_constant__ Pass pass) { average_means<R<float>, float>(pass); } \
    KERNEL_OF_256(means_##name##_f64)(const __grid_constant__ Pass pass) { average_means<R<double>, double>(pass); }
