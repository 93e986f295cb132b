// Gradients of softmax and of its logarithm, from their outputs; the same as rust/softmax/backward.rs.
//
// Softmax: dx = y·(dy - Σ dy·y). Its logarithm: dx = dy - exp(y)·Σ dy. The sums go over the row, in float64.
// needs: held_rows.cuh math.cuh

// One call.
template <class T> struct Backward {
    u64 len;
    const Array &dx, &dy, &y;
    bool is_log;

    __device__ __forceinline__ double term(T dy, T y) const { return is_log ? (double)dy : (double)dy * (double)y; }
    __device__ __forceinline__ T gradient(T dy, T y, T sum) const { return is_log ? dy - exponential(y) * sum : y * (dy - sum); }

    // A row is read for the sum and for the output.
    __device__ __forceinline__ void row(const Team &team) const {
        double sum = 0.0;
#pragma unroll 1
        for (u64 step = 0; step < 2 * len;) {
            const bool writes = step >= len;
            const u64 at = writes ? step - len : step, start = team.row * len + at;
            const u32 n = len - at < SEGMENT ? (u32)(len - at) : SEGMENT;
            double of_segment[1];
            team.go(n, !writes, of_segment, [&](u32 i, u32 count, double(&terms)[1][4]) {
                T own[4], own_dy[4];
                load_some(dy, start + i, count, own_dy);
                load_some(y, start + i, count, own);
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    if (writes) own[k] = gradient(own_dy[k], own[k], (T)sum);
                    else terms[0][k] = term(own_dy[k], own[k]);
                }
                if (writes) store_some(dx, start + i, count, own);
            });
            step += n;
            if (!writes) sum += of_segment[0];
        }
    }

    // The same for a row that is read once.
    template <class Team> __device__ __forceinline__ void held_row(const Team &team) const {
        const u64 start = team.row * len;
        const u32 n = (u32)len;
        Held held, own;
        load_held(team, dy, start, n, held);
        load_held(team, y, start, n, own);
        team.turn(held);
        team.turn(own);
        double sum[1];
        team.template add<1, true>(n, sum, [&](int c, int k, double(&terms)[1]) { terms[0] = term(held.x[c][k], own.x[c][k]); });
        for_held(held, [&](int c, int k) { held.x[c][k] = gradient(held.x[c][k], own.x[c][k], (float)sum[0]); });
        team.turn(held);
        store_held(team, dx, start, n, held);
    }
};

#define SOFTMAX_KERNEL(KIND, name, T, Threads, work) \
    KIND(name)(u64 rows, u64 len, Array dx, Array dy, Array y, int is_log, u32 shift) { \
        SHARED(double, room, Threads::ROOM); \
        Threads team(rows, shift, room); \
        Backward<T>{len, dx, dy, y, is_log != 0}.work(team); \
    }
SOFTMAX_KERNEL(ROWS_KERNEL, softmax_backward_f32, float, Team, row)
SOFTMAX_KERNEL(ROWS_KERNEL, softmax_backward_f64, double, Team, row)
SOFTMAX_KERNEL(HELD_PAIR_KERNEL, softmax_backward_of_warps_f32, float, Warp, held_row)
SOFTMAX_KERNEL(HELD_PAIR_KERNEL, softmax_backward_of_blocks_f32, float, Block, held_row)
