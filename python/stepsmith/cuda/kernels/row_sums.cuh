// Rows of arrays of any layout, and sums over them in the fixed shape of rust/row_sums.rs.
//
// A row goes in segments. Element i of a block of 4,096 belongs to lane i mod 128: each lane is a float64 sum in order from +0.0,
// lanes fold by halves, the results of a segment's blocks fold in the same way. A warp works on one block at a time, each thread
// adding up the four lanes of its quads; short rows share a warp, longer ones have several.
// needs: elements.cuh reduce.cuh

// A kernel whose blocks have at most 16 warps.
#define ROWS_KERNEL(name) extern "C" __global__ void __launch_bounds__(512, 1) name

// Elements of the longest part of a row that is summed at once, and its blocks.
const u32 SEGMENT = 16 * BLOCK;
const u32 BLOCKS = SEGMENT / BLOCK;

__device__ __forceinline__ u32 count_at(u32 i, u32 n) { return i >= n ? 0 : n - i < 4 ? n - i : 4; }

// Lane j += lane j + 64, then 32, ... 1, among `width` threads with four lanes each; for each of them.
__device__ __forceinline__ double fold_lanes(double (&lanes)[4], u32 width) {
    for (u32 half = width / 2; half > 0; half /= 2)
#pragma unroll
        for (int k = 0; k < 4; k++) lanes[k] += __shfl_xor_sync(EVERY_LANE, lanes[k], half);
    return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}

// The same for 32 lanes of a warp.
__device__ __forceinline__ double fold_warp(double sum) {
#pragma unroll
    for (int half = WARP / 2; half > 0; half /= 2) sum += __shfl_xor_sync(EVERY_LANE, sum, half);
    return sum;
}

// The threads of a row, 2^shift: `width` of a warp, or `warps` whole ones.
struct Team {
    static const u32 ROOM = 2 * BLOCKS * 16; // of as many rows as a block may have warps

    u32 width, warps, thread, warp;
    u64 row;
    bool is_there;    // is there such a row?
    double *partials; // results of a segment's blocks, of two sums

    __device__ __forceinline__ Team(u64 rows, u32 shift, double *shared)
        : width(shift < 5 ? 1u << shift : WARP), warps(shift < 5 ? 1 : 1u << (shift - 5)), thread(lane_of_warp() & (width - 1)),
          warp(warp_of_block() & (warps - 1)), row(((u64)blockIdx.x * blockDim.x + threadIdx.x) >> shift), is_there(row < rows),
          partials(shared + (warp_of_block() - warp) * 2 * BLOCKS) {}

    // Is it the thread that writes what belongs to the row?
    __device__ __forceinline__ bool is_writer() const { return is_there && warp == 0 && thread == 0; }

    // Lets all threads of the row catch up with each other.
    __device__ __forceinline__ void meet() const {
        if (warps > 1) __syncthreads();
        else __syncwarp(EVERY_LANE);
    }

    // Goes over a segment of `n` elements quad by quad; `terms` gives M terms of each element of a quad, whose sums are wanted if
    // `adds`.
    template <int M, class Terms> __device__ __forceinline__ void go(u32 n, bool adds, double (&sums)[M], Terms terms) const {
        bool is_shared = warps > 1 || n > BLOCK;
        for (u32 block = warp; block * BLOCK < n; block += warps) {
            u32 end = n - block * BLOCK < BLOCK ? n : (block + 1) * BLOCK;
            double lanes[M][4] = {};
#pragma unroll 1
            for (u32 i = block * BLOCK + 4 * thread; i < end && is_there; i += LANES) {
                double own[M][4] = {};
                u32 count = count_at(i, end);
                terms(i, count, own);
#pragma unroll
                for (int m = 0; m < M; m++)
#pragma unroll
                    for (u32 k = 0; k < 4; k++) lanes[m][k] += k < count ? own[m][k] : 0.0;
            }
            if (!adds) continue;
#pragma unroll
            for (int m = 0; m < M; m++) {
                sums[m] = fold_lanes(lanes[m], width);
                if (is_shared && lane_of_warp() == 0) partials[m * BLOCKS + block] = sums[m];
            }
        }
        if (!adds || !is_shared) return;
        meet();
        u32 lane = lane_of_warp();
#pragma unroll
        for (int m = 0; m < M; m++) sums[m] = fold_warp(lane * BLOCK < n ? 0.0 + partials[m * BLOCKS + lane] : 0.0);
        meet();
    }

    // The largest number of all threads of the row.
    template <class T> __device__ __forceinline__ T largest(T x) const {
        for (u32 half = width / 2; half > 0; half /= 2) x = larger(__shfl_xor_sync(EVERY_LANE, x, half), x);
        if (warps == 1) return x;
        if (lane_of_warp() == 0) partials[warp] = (double)x;
        meet();
        for (u32 other = 0; other < warps; other++) x = larger((T)partials[other], x);
        meet();
        return x;
    }
};
