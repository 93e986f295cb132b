// Rows in the registers of the threads that share them, for arrays that lie densely in whole quads and are computed in float32:
// a row is read once. The same sums as in row_sums.cuh.
//
// A thread loads and stores quads, four elements that follow each other. In a warp it adds up the four lanes of its quads; in a
// block, for longer rows, the lanes of 128 threads are one each, for which four threads next to each other turn their quads.
// needs: row_sums.cuh

// Kernels whose threads hold one or two rows: at most 256 threads a block, of which so many share a multiprocessor.
#define HELD_KERNEL(name) extern "C" __global__ void __launch_bounds__(256, 3) name
#define HELD_PAIR_KERNEL(name) extern "C" __global__ void __launch_bounds__(256, 2) name

const int QUADS = 8;

// What a thread holds of a row.
struct Held {
    float x[QUADS][4];

    // Keeps the compiler from holding elements as float64 from one sum to the next, for which there are not registers enough,
    // and as integers, whose quads it would store one by one.
    __device__ __forceinline__ void forget() {
#ifndef STEPSMITH_SHIM
#pragma unroll
        for (int c = 0; c < QUADS; c++)
#pragma unroll
            for (int k = 0; k < 4; k++) asm volatile("" : "+f"(x[c][k]));
#endif
    }
};

// Quads `FIRST` to `END` of a row's `n` elements, which begin with element `start` of the array; zeros where there are none.
template <int FIRST, int END, class Team>
__device__ __forceinline__ void load_quads_of(const Team &team, const Array &array, u64 start, u32 n, float (&x)[END - FIRST][4]) {
    const int dtype = own_dtype<float>(array);
    const u64 address = array.address + (start + team.at()) * array.item;
    const u32 left = team.left(n);
    Stored<float> quads[END - FIRST];
    if (dtype == F32) {
#pragma unroll
        for (int c = FIRST; c < END; c++)
            if (c * Team::STEP < left) quads[c - FIRST].load(address + c * Team::STEP * 4, F32);
            else quads[c - FIRST].clear(F32);
    } else {
#pragma unroll
        for (int c = FIRST; c < END; c++)
            if (c * Team::STEP < left) quads[c - FIRST].load(address + c * Team::STEP * 2, BF16);
            else quads[c - FIRST].clear(BF16);
    }
#pragma unroll
    for (int c = 0; c < END - FIRST; c++) {
        quads[c].dtype = dtype;
        quads[c].convert(x[c]);
    }
}

template <class Team>
__device__ __forceinline__ void load_held(const Team &team, const Array &array, u64 start, u32 n, Held &held) {
    load_quads_of<0, QUADS>(team, array, start, n, held.x);
}

template <int FIRST, int END, class Team>
__device__ __forceinline__ void add_quads(const Team &team, const Array &array, u64 start, u32 n, Held &held) {
    float other[END - FIRST][4];
    load_quads_of<FIRST, END>(team, array, start, n, other);
#pragma unroll
    for (int c = FIRST; c < END; c++)
#pragma unroll
        for (int k = 0; k < 4; k++) held.x[c][k] += other[c - FIRST][k];
}

// Adds the row of another array, by halves: registers are few.
template <class Team> __device__ __forceinline__ void add_held(const Team &team, const Array &array, u64 start, u32 n, Held &held) {
    add_quads<0, QUADS / 2>(team, array, start, n, held);
    add_quads<QUADS / 2, QUADS>(team, array, start, n, held);
}

template <class Work> __device__ __forceinline__ void for_held(Held &, Work work) {
#pragma unroll
    for (int c = 0; c < QUADS; c++)
#pragma unroll
        for (int k = 0; k < 4; k++) work(c, k);
}

template <int DTYPE, class Team>
__device__ __forceinline__ void store_held_as(const Team &team, const Array &array, u64 start, u32 n, const Held &held) {
    const u32 ITEM = DTYPE == F32 ? 4 : 2, left = team.left(n);
    const u64 address = array.address + (start + team.at()) * ITEM;
#pragma unroll
    for (int c = 0; c < QUADS; c++)
        if (c * Team::STEP < left) store_quad<float>(address + c * Team::STEP * ITEM, DTYPE, held.x[c]);
}

template <class Team>
__device__ __forceinline__ void store_held(const Team &team, const Array &array, u64 start, u32 n, const Held &held) {
    if (array.dtype == F32) store_held_as<F32>(team, array, start, n, held);
    else if (array.dtype == BF16) store_held_as<BF16>(team, array, start, n, held);
    else store_held_as<F16>(team, array, start, n, held);
}

// A row of at most 1,024 elements in a warp, or short ones side by side with 2^shift threads each. (A loop over rows would make the
// compiler keep in registers what is the same for all.)
struct Warp {
    static const u32 ROOM = 1;
    u32 width, thread;
    u64 row;
    bool is_there;

    __device__ __forceinline__ Warp(u64 rows, u32 shift, double *)
        : width(1u << shift), thread(lane_of_warp() & (width - 1)), row(((u64)blockIdx.x * blockDim.x + threadIdx.x) >> shift),
          is_there(row < rows) {}

    __device__ __forceinline__ bool is_writer() const { return is_there && thread == 0; }

    // From quad to quad; the first element of this thread, and how many of the row's there are from there on.
    static const u32 STEP = LANES;
    __device__ __forceinline__ u32 at() const { return 4 * thread; }
    __device__ __forceinline__ u32 left(u32 n) const { return is_there && at() < n ? n - at() : 0; }
    // The place of an element in the order of sums.
    __device__ __forceinline__ u32 place(int c, int k) const { return at() + c * STEP + k; }
    __device__ __forceinline__ void turn(Held &) const {}

    // The sums of M terms of each element, which `term` gives by their places; IS_PADDED if it gives 0 for the zeros behind a row.
    template <int M, bool IS_PADDED = false, class Term>
    __device__ __forceinline__ void add(u32 n, double (&sums)[M], Term term) const {
        double lanes[M][4] = {};
#pragma unroll
        for (int c = 0; c < QUADS; c++) {
            if (place(c, 0) >= n) break;
#pragma unroll
            for (int k = 0; k < 4; k++) {
                double terms[M];
                term(c, k, terms);
#pragma unroll
                for (int m = 0; m < M; m++) lanes[m][k] += terms[m];
            }
        }
#pragma unroll
        for (int m = 0; m < M; m++) sums[m] = fold_lanes(lanes[m], width);
    }

    __device__ __forceinline__ float largest(float x) const {
        for (u32 half = width / 2; half > 0; half /= 2) x = larger(__shfl_xor_sync(EVERY_LANE, x, half), x);
        return x;
    }
};

// A row in a block of `groups` times 128 threads, each group of which holds a block of the row.
struct Block {
    static const u32 STEP = 4 * LANES, MOST_GROUPS = 2, MOST_THREADS = MOST_GROUPS * LANES;
    static const u32 ROOM = 2 * MOST_THREADS + 2 * MOST_GROUPS;
    u32 lane, group;
    u64 row;
    double *room, *partials; // of all lanes and of each block, two numbers each

    __device__ __forceinline__ Block(u64, u32, double *shared)
        : lane(threadIdx.x % LANES), group(threadIdx.x / LANES), row(blockIdx.x), room(shared),
          partials(shared + 2 * MOST_THREADS) {}

    static constexpr bool is_there = true;
    __device__ __forceinline__ bool is_writer() const { return threadIdx.x == 0; }

    __device__ __forceinline__ u32 at() const {
        return group * BLOCK + lane % 4 * LANES + lane / WARP * WARP + lane % WARP / 4 * 4;
    }
    __device__ __forceinline__ u32 left(u32 n) const { return at() < n ? n - at() : 0; }
    __device__ __forceinline__ u32 place(int c, int k) const { return group * BLOCK + lane + c * STEP + k * LANES; }

    // From quads to lanes and back: number k of thread q of four becomes number q of thread k.
    __device__ __forceinline__ void turn(Held &held) const {
#pragma unroll
        for (int c = 0; c < QUADS; c++) {
            swap(held.x[c][0], held.x[c][1], 1);
            swap(held.x[c][2], held.x[c][3], 1);
            swap(held.x[c][0], held.x[c][2], 2);
            swap(held.x[c][1], held.x[c][3], 2);
        }
    }

    // Of two threads `apart` from each other one gives its `b` for the other's `a`.
    __device__ __forceinline__ void swap(float &a, float &b, u32 apart) const {
        bool is_upper = lane & apart;
        float other = __shfl_xor_sync(EVERY_LANE, is_upper ? a : b, apart);
        a = is_upper ? other : a;
        b = is_upper ? b : other;
    }

    template <int M, bool IS_PADDED = false, class Term>
    __device__ __forceinline__ void add(u32 n, double (&sums)[M], Term term) const {
        double own[M] = {};
#pragma unroll
        for (int c = 0; c < QUADS; c++) {
#pragma unroll
            for (int k = 0; k < 4; k++) {
                double terms[M];
                term(c, k, terms);
#pragma unroll
                for (int m = 0; m < M; m++) own[m] += IS_PADDED || place(c, k) < n ? terms[m] : 0.0;
            }
        }
#pragma unroll
        for (int m = 0; m < M; m++) room[m * MOST_THREADS + threadIdx.x] = own[m];
        __syncthreads();
        u32 blocks = (n + BLOCK - 1) / BLOCK;
#pragma unroll
        for (int m = 0; m < M; m++) {
            const double *lanes = room + m * MOST_THREADS + group * LANES + lane_of_warp();
            sums[m] = fold_warp((lanes[0] + lanes[64]) + (lanes[32] + lanes[96]));
            if (lane == 0) partials[m * MOST_GROUPS + group] = sums[m];
        }
        __syncthreads();
        if (blocks == 1) return;
#pragma unroll
        for (int m = 0; m < M; m++) {
            u32 block = lane_of_warp();
            sums[m] = fold_warp(block < blocks ? 0.0 + partials[m * MOST_GROUPS + block] : 0.0);
        }
    }

    __device__ __forceinline__ float largest(float x) const {
#pragma unroll
        for (int half = WARP / 2; half > 0; half /= 2) x = larger(__shfl_xor_sync(EVERY_LANE, x, half), x);
        if (lane_of_warp() == 0) room[warp_of_block()] = (double)x;
        __syncthreads();
        for (u32 warp = 0; warp < warps_of_block(); warp++) x = larger((float)room[warp], x);
        __syncthreads();
        return x;
    }
};
