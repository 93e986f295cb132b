// The blocks' results by the fixed tree of each row, the rows in order; as `total` of rust/optim/norm.rs. By one block of threads,
// the last of a launch.
// needs: control.cuh

__device__ __forceinline__ u64 blocks_of(const Row &row) { return (row.len + BLOCK - 1) / BLOCK; }

// Sets sums[2·row] for every row; spoils the results. A thread, a warp or the whole block works on a row, as long as it is.
__device__ __forceinline__ void fold_rows(const Pass &pass, double *partials, double *sums) {
    SHARED(u32, long_rows, 1024 / WARP);
    for (u64 first = 0; first < pass.row_count; first += blockDim.x) {
        u64 row = first + threadIdx.x, block = 0, n = 0;
        if (row < pass.row_count) {
            block = pass.rows[row].block, n = blocks_of(pass.rows[row]);
            if (n <= 1) sums[2 * row] = n ? partials[block] : 0.0;
        }
        u32 is_long = __ballot_sync(EVERY_LANE, n > BLOCK);
        if (lane_of_warp() == 0) long_rows[warp_of_block()] = is_long;
        for (u32 rest = __ballot_sync(EVERY_LANE, n > 1 && n <= BLOCK); rest; rest &= rest - 1) {
            int lane = __ffs((int)rest) - 1;
            double sum = sum_of_block(partials + __shfl_sync(EVERY_LANE, block, lane), __shfl_sync(EVERY_LANE, (u32)n, lane));
            if ((int)lane_of_warp() == lane) sums[2 * row] = sum;
        }
        __syncthreads();
        for (u32 warp = 0; warp < warps_of_block(); warp++)
            for (u32 rest = long_rows[warp]; rest; rest &= rest - 1) {
                u64 row = first + warp * WARP + (u32)__ffs((int)rest) - 1;
                double sum = fold_partials(partials + pass.rows[row].block, blocks_of(pass.rows[row]));
                if (threadIdx.x == 0) sums[2 * row] = sum;
            }
        __syncthreads();
    }
}

// The rows' sums added in order, by a warp and for each of its threads.
__device__ __forceinline__ double total_of_rows(const double *sums, u64 rows) {
    double total = 0.0;
    for (u64 first = 0; first < rows; first += WARP) {
        u64 row = first + lane_of_warp();
        double sum = row < rows ? sums[2 * row] : 0.0;
#pragma unroll
        for (int k = 0; k < WARP; k++) total += __shfl_sync(EVERY_LANE, sum, k);
    }
    return total;
}
