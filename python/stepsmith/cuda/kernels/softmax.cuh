// Softmax and its logarithm, over rows; the same as rust/softmax/forward.rs and exps.rs.
//
// With m the largest element of a row, e = exp(x - m) in the compute type and s the sum of e in float64: softmax is e·(1/s), its
// logarithm (x - m) - log(s).
// needs: held_rows.cuh math.cuh

enum Step : int { LARGEST, ADD, WRITE };

// One call.
template <class T> struct Forward {
    u64 len;
    const Array &y, &x;
    bool is_log;

    // A row is read for the largest element, for the sum and for the output.
    __device__ __forceinline__ void row(const Team &team) const {
        T max = -infinity<T>(), last = T(0);
        double sum = 0.0;
#pragma unroll 1
        for (int step = LARGEST; step <= WRITE; step++) {
#pragma unroll 1
            for (u64 at = 0; at < len; at += SEGMENT) {
                const u32 n = len - at < SEGMENT ? (u32)(len - at) : SEGMENT;
                const u64 start = team.row * len + at;
                double of_segment[1];
                team.go(n, step == ADD, of_segment, [&](u32 i, u32 count, double(&terms)[1][4]) {
                    T own[4];
                    load_some(x, start + i, count, own);
#pragma unroll
                    for (u32 k = 0; k < 4; k++) {
                        if (step == LARGEST) {
                            max = k < count ? larger(own[k], max) : max;
                            continue;
                        }
                        own[k] = own[k] - max;
                        T e = step == WRITE && is_log ? T(0) : exponential(own[k]);
                        terms[0][k] = (double)e;
                        own[k] = is_log ? own[k] - last : e * last;
                    }
                    if (step == WRITE) store_some(y, start + i, count, own);
                });
                if (step == ADD) sum += of_segment[0];
            }
            if (step == LARGEST) max = team.largest(max);
            if (step == ADD) last = (T)(is_log ? logarithm(sum) : 1.0 / sum);
        }
    }

    // The same for a row that is read once, or twice for the logarithm: exponentials take the elements' place.
    template <class Team> __device__ __forceinline__ void held_row(const Team &team) const {
        const u64 start = team.row * len;
        const u32 n = (u32)len, left = team.left(n);
        Held held;
        load_held(team, x, start, n, held);
        float max = -infinity<float>();
        for_held(held, [&](int c, int k) { max = c * Team::STEP < left ? larger(held.x[c][k], max) : max; });
        max = team.largest(max);
        for_held(held, [&](int c, int k) { held.x[c][k] = exponential(held.x[c][k] - max); });
        team.turn(held);
        double sum[1];
        team.template add<1>(n, sum, [&](int c, int k, double(&terms)[1]) { terms[0] = (double)held.x[c][k]; });
        team.turn(held);
        if (is_log) {
            float log = (float)logarithm(sum[0]);
            load_held(team, x, start, n, held);
            for_held(held, [&](int c, int k) { held.x[c][k] = (held.x[c][k] - max) - log; });
        } else {
            float factor = (float)(1.0 / sum[0]);
            for_held(held, [&](int c, int k) { held.x[c][k] *= factor; });
        }
        store_held(team, y, start, n, held);
    }
};

#define SOFTMAX_KERNEL(KIND, name, T, Threads, work) \
    KIND(name)(u64 rows, u64 len, Array y, Array x, int is_log, u32 shift) { \
        SHARED(double, room, Threads::ROOM); \
        Threads team(rows, shift, room); \
        Forward<T>{len, y, x, is_log != 0}.work(team); \
    }
SOFTMAX_KERNEL(ROWS_KERNEL, softmax_f32, float, Team, row)
SOFTMAX_KERNEL(ROWS_KERNEL, softmax_f64, double, Team, row)
SOFTMAX_KERNEL(HELD_KERNEL, softmax_of_warps_f32, float, Warp, held_row)
SOFTMAX_KERNEL(HELD_KERNEL, softmax_of_blocks_f32, float, Block, held_row)
