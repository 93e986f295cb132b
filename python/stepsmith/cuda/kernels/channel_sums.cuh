// A walk over an array that may add up what it finds for each channel, in the shape of rust/activation/bias.rs.
//
// A pass P says what is done with a few elements: `Element` is their compute type, `Some` what is read of them, AT_ONCE how often
// before the first is worked on, `line` where the channels are; `read(i, count, some)` and `write(i, count, some, terms)` take the
// elements from `i` on, at most four, and leave what is to be added.
// needs: bias.cuh reduce.cuh

// Quads of a walk, some at a time, and the sums over each place of a quad.
template <class P>
__device__ __forceinline__ void walk(const P &pass, u64 i, u64 end, u64 step, u32 width, double (&sums)[4]) {
    typedef typename P::Element T;
    const int AT_ONCE = P::AT_ONCE;
#pragma unroll 1
    for (; i < end; i += AT_ONCE * step) {
        typename P::Some some[AT_ONCE];
        u32 counts[AT_ONCE];
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
            u64 at = i + n * step;
            counts[n] = at >= end ? 0 : end - at < width ? (u32)(end - at) : width;
            pass.read(at, counts[n], some[n]);
        }
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
            if (counts[n] == 0) break;
            T terms[4];
            pass.write(i + n * step, counts[n], some[n], terms);
#pragma unroll
            for (u32 k = 0; k < 4; k++) sums[k] += k < counts[n] ? (double)terms[k] : 0.0;
        }
    }
}

// With `sums` a thread goes down the lines of a piece, at the same places of each; else over the whole grid's quads.
template <class P> __device__ __forceinline__ void run(const P &pass, u64 n, const Pieces &pieces, double *sums) {
    u64 threads = quad_stride() / 4, len = pass.line.len, quads = (len + 3) / 4, items = sums ? pieces.count * quads : threads;
#pragma unroll 1
    for (u64 item = first_quad() / 4; item < items; item += threads) {
        u64 piece = sums ? item / quads : 0, at = (item - piece * quads) * 4, start = piece * pieces.turn;
        u64 end = sums && start + pieces.turn < n ? start + pieces.turn : n;
        u32 width = sums && len - at < 4 ? (u32)(len - at) : 4;
        double own[4] = {0.0, 0.0, 0.0, 0.0};
        walk(pass, start + at, end, sums ? len : quad_stride(), width, own);
        for (u32 k = 0; sums && k < width; k++)
            sums[piece * len + at + k] = k < 2 ? k < 1 ? own[0] : own[1] : k < 3 ? own[2] : own[3];
    }
}

// Adds what the warps of a block have found, in their order; all threads must come here.
__device__ __forceinline__ void add_found(const double *found, u32 count, double &sum) {
    __syncthreads();
    for (u32 k = 0; k < count; k++) sum += found[k];
    __syncthreads();
}

// Sums of runs: a block goes over a channel's elements in a piece, part by part as blocks of the CPU cut them, a warp each in turn.
template <class P> __device__ __forceinline__ void run_runs(const P &pass, u64 n, const Pieces &pieces, double *sums) {
    SHARED(double, found, 1024 / WARP);
    u64 channels = pass.line.channels.n, inner = pass.line.inner.n, sample = channels * inner;
    for (u64 item = blockIdx.x; item < pieces.count * channels; item += gridDim.x) {
        u64 piece = item / channels, channel = item - piece * channels;
        u64 start = pieces.start(piece), end = pieces.end(piece, n);
        double sum = 0.0;
        u32 turn = 0;
        for (u64 first = start / sample * sample; first < end; first += sample) {
            u64 low = first + channel * inner, high = low + inner < end ? low + inner : end;
            for (u64 at = low < start ? start : low; at < high;) {
                u64 cut = first + ((at - first) / PART + 1) * PART, part_end = cut < high ? cut : high;
                if (turn == warp_of_block()) {
                    Lanes lanes = {{0.0, 0.0, 0.0, 0.0}};
                    walk(pass, at + 4 * lane_of_warp(), part_end, LANES, 4, lanes.sums);
                    double part = fold(lanes);
                    if (lane_of_warp() == 0) found[turn] = part;
                }
                turn++;
                if (turn == warps_of_block()) add_found(found, turn, sum), turn = 0;
                at = part_end;
            }
        }
        add_found(found, turn, sum);
        if (threadIdx.x == 0) sums[item] = sum;
    }
}

KERNEL(add_sums)(const double *sums, u64 pieces, Line line, double *channels) {
    u64 channel = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (channel < line.channels.n) add_to_channel(sums, pieces, line, channel, channels);
}
