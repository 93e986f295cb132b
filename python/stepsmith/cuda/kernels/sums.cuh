// The sum of an array of float32 by its fixed tree.
// needs: reduce.cuh

// A warp adds up a block of 4,096.
KERNEL(sum_blocks)(const float *x, u64 n, double *partials) {
    u64 warps = (u64)gridDim.x * warps_of_block(), blocks = (n + BLOCK - 1) / BLOCK;
    for (u64 block = (u64)blockIdx.x * warps_of_block() + warp_of_block(); block < blocks; block += warps) {
        u64 end = (block + 1) * BLOCK < n ? (block + 1) * BLOCK : n;
        Lanes lanes = {{0.0, 0.0, 0.0, 0.0}};
        for (u64 i = block * BLOCK + 4 * lane_of_warp(); i < end; i += LANES)
#pragma unroll
            for (u32 k = 0; k < 4; k++) lanes.sums[k] += i + k < end ? (double)x[i + k] : 0.0;
        double sum = fold(lanes);
        if (lane_of_warp() == 0) partials[block] = sum;
    }
}

// By one block of threads; the result is the first of the partial sums.
KERNEL(fold_sums)(double *partials, u64 n) { fold_partials(partials, n); }
