// Mean and centred sum of squares of channels over all samples; the same shape as rust/norm/channels.rs and columns.rs.
//
// A piece is `tall` samples. Within it a channel's values follow each other sample by sample, or by blocks of 64 samples where
// channels are the last axis; pieces follow each other.
// needs: row_sums.cuh channel_shape.cuh

// Of each block and channel if these are the last axis: a thread reads four columns twice.
template <class T>
__device__ __forceinline__ void column_moments(const Channels &shape, const Array &x, double *means, double *squares) {
    const u64 quads = (shape.channels + 3) / 4, blocks = (shape.samples + HEIGHT - 1) / HEIGHT;
    const u64 item = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= blocks * quads) return;
    const u64 block = item / quads, first = (item - block * quads) * 4, start = block * HEIGHT;
    const u32 count = shape.channels - first < 4 ? (u32)(shape.channels - first) : 4;
    const u32 rows = shape.samples - start < HEIGHT ? (u32)(shape.samples - start) : HEIGHT;
    const int ROWS = sizeof(T) == 8 ? 4 : 8;
    double mean[4] = {}, sums[4];
#pragma unroll 1
    for (int pass = 0; pass < 2; pass++) {
        sums[0] = sums[1] = sums[2] = sums[3] = 0.0;
#pragma unroll 1
        for (u32 row = 0; row < rows; row += ROWS) {
            Stored<T> stored[ROWS];
#pragma unroll
            for (u32 r = 0; r < ROWS; r++)
                load_some(x, (start + row + r) * shape.channels + first, row + r < rows ? count : 0, stored[r]);
#pragma unroll
            for (u32 r = 0; r < ROWS; r++) {
                if (row + r >= rows) break;
                T own[4];
                stored[r].convert(own);
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    double deviation = (double)own[k] - mean[k];
                    sums[k] += pass == 0 ? deviation : deviation * deviation;
                }
            }
        }
#pragma unroll
        for (int k = 0; k < 4 && pass == 0; k++) mean[k] = sums[k] / (double)rows;
    }
    for (u32 k = 0; k < count; k++) {
        means[block * shape.channels + first + k] = take(mean, k);
        squares[block * shape.channels + first + k] = take(sums, k);
    }
}

// Of each piece and channel if a channel has several elements in a sample: a team goes sample by sample.
template <class T>
__device__ __forceinline__ void run_moments(const Team &team, const Channels &shape, const Array &x, double *means,
                                            double *squares) {
    const u64 piece = team.row / shape.channels, channel = team.row - piece * shape.channels;
    Moments all = {0.0, 0.0, 0.0};
#pragma unroll 1
    for (u64 sample = shape.start(piece); sample < shape.end(piece); sample++) {
#pragma unroll 1
        for (u64 at = 0; at < shape.inner; at += SEGMENT) {
            const u32 n = shape.inner - at < SEGMENT ? (u32)(shape.inner - at) : SEGMENT;
            const u64 start = (sample * shape.channels + channel) * shape.inner + at;
            double mean = 0.0, sum[1];
#pragma unroll 1
            for (int pass = 0; pass < 2; pass++) {
                team.go(n, true, sum, [&](u32 i, u32 count, double(&terms)[1][4]) {
                    T own[4];
                    load_some(x, start + i, count, own);
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        double deviation = (double)own[k] - mean;
                        terms[0][k] = pass == 0 ? deviation : deviation * deviation;
                    }
                });
                if (pass == 0) mean = sum[0] / (double)n;
            }
            all = all.merged_with({(double)n, mean, sum[0]});
        }
    }
    if (team.is_writer()) means[team.row] = all.mean, squares[team.row] = all.squares;
}

#define CHANNEL_KERNELS(T, suffix) \
    KERNEL(column_moments_##suffix)(Channels shape, Array x, double *means, double *squares) { \
        column_moments<T>(shape, x, means, squares); \
    } \
    ROWS_KERNEL(run_moments_##suffix)(Channels shape, Array x, double *means, double *squares, u32 shift) { \
        SHARED(double, room, Team::ROOM); \
        Team team(shape.pieces * shape.channels, shift, room); \
        if (team.is_there) run_moments<T>(team, shape, x, means, squares); \
    }
CHANNEL_KERNELS(float, f32)
CHANNEL_KERNELS(double, f64)

// Of each piece from those of its blocks.
KERNEL(merge_blocks)(Channels shape, const double *means, const double *squares, double *piece_means, double *piece_squares) {
    u64 item = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= shape.pieces * shape.channels) return;
    u64 piece = item / shape.channels, channel = item - piece * shape.channels, samples = shape.end(piece) - shape.start(piece);
    u64 first = shape.start(piece) / HEIGHT * shape.channels + channel;
    Moments all = merged(means + first, squares + first, shape.channels, (samples + HEIGHT - 1) / HEIGHT, HEIGHT, samples);
    piece_means[item] = all.mean, piece_squares[item] = all.squares;
}
