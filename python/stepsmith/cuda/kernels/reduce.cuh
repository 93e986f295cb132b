// Sums whose tree depends on the length alone; the same tree as rust/reduce.rs.
//
// A sum goes in blocks of 4,096 elements. Inside a block element i belongs to lane i mod 128; each lane is a float64 sum in order
// from +0.0, and the lanes fold by halves. The blocks' results are an array that is reduced by the same rule until one number is
// left. A warp works on one block: each of its threads holds four lanes, which it reads as one quad.
// needs: arrays.cuh

const u32 BLOCK = 4096;
const u32 LANES = 128;

// Lanes 4t..4t + 4 of thread t.
struct Lanes {
    double sums[4];
};

// Adds to one of the thread's four.
__device__ __forceinline__ void add_to_sum(Lanes &lanes, int which, double x) {
#pragma unroll
    for (int k = 0; k < 4; k++) lanes.sums[k] += k == which ? x : 0.0;
}

__device__ __forceinline__ u32 lane_of_warp() { return threadIdx.x % WARP; }
__device__ __forceinline__ u32 warp_of_block() { return threadIdx.x / WARP; }
__device__ __forceinline__ u32 warps_of_block() { return blockDim.x / WARP; }

// This warp among those of all blocks, and how many they are.
__device__ __forceinline__ u64 first_warp() { return (u64)blockIdx.x * warps_of_block() + warp_of_block(); }
__device__ __forceinline__ u64 warp_stride() { return (u64)gridDim.x * warps_of_block(); }

// The block's result, for every thread of the warp: lane j += lane j + 64, then 32, ... 1.
__device__ __forceinline__ double fold(Lanes lanes) {
#pragma unroll
    for (int half = WARP / 2; half > 0; half /= 2)
#pragma unroll
        for (int k = 0; k < 4; k++) lanes.sums[k] += __shfl_down_sync(EVERY_LANE, lanes.sums[k], half);
    double sum = (lanes.sums[0] + lanes.sums[2]) + (lanes.sums[1] + lanes.sums[3]);
    return __shfl_sync(EVERY_LANE, sum, 0);
}

// The result of a block of `n` numbers in memory.
__device__ __forceinline__ double sum_of_block(const double *numbers, u32 n) {
    Lanes lanes = {{0.0, 0.0, 0.0, 0.0}};
    for (u32 at = 4 * lane_of_warp(); at < n; at += LANES)
#pragma unroll
        for (u32 k = 0; k < 4; k++) lanes.sums[k] += at + k < n ? numbers[at + k] : 0.0;
    return fold(lanes);
}

// The results of `n` blocks folded to one number, by all threads of a block and for each of them; spoils the results.
__device__ __forceinline__ double fold_partials(double *partials, u64 n) {
    if (n == 0) return 0.0;
    while (n > 1) {
        u64 blocks = (n + BLOCK - 1) / BLOCK;
        for (u64 first = 0; first < blocks; first += warps_of_block()) {
            u64 block = first + warp_of_block(), start = block * BLOCK;
            double sum = 0.0;
            if (block < blocks) sum = sum_of_block(partials + start, (u32)(n - start < BLOCK ? n - start : BLOCK));
            __syncthreads(); // results lie where blocks were read
            if (block < blocks && lane_of_warp() == 0) partials[block] = sum;
        }
        __syncthreads();
        n = blocks;
    }
    return partials[0];
}

// The tree over blocks' results that come to a warp one after another, up to 4,096² of them.
struct Tree {
    Lanes lanes[2];
    u64 count;
};

__device__ __forceinline__ void add_to(Lanes &lanes, u64 i, double x) {
    if (i % LANES / 4 == lane_of_warp()) add_to_sum(lanes, (int)(i % 4), x);
}

__device__ __forceinline__ void add_result(Tree &tree, double result) {
    add_to(tree.lanes[0], tree.count++, result);
    if (tree.count % BLOCK) return;
    add_to(tree.lanes[1], tree.count / BLOCK - 1, fold(tree.lanes[0]));
    tree.lanes[0] = {{0.0, 0.0, 0.0, 0.0}};
}

__device__ __forceinline__ double result_of(Tree &tree) {
    double rest = fold(tree.lanes[0]);
    if (tree.count < BLOCK) return rest;
    if (tree.count % BLOCK) add_to(tree.lanes[1], tree.count / BLOCK, rest);
    return fold(tree.lanes[1]);
}

// The sum of `n` numbers, by a warp and for each of its threads.
__device__ __forceinline__ double sum_of_numbers(const double *numbers, u64 n) {
    Tree tree = {};
    for (u64 start = 0; start < n; start += BLOCK)
        add_result(tree, sum_of_block(numbers + start, (u32)(n - start < BLOCK ? n - start : BLOCK)));
    return result_of(tree);
}
