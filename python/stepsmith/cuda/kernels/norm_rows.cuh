// Norms whose statistics belong to a row: layer, RMS, group, instance and weight norm, forward; the same as rust/norm/rows.rs.
// needs: norm_formula.cuh norm_shape.cuh moments.cuh

enum Step : int { MEAN, SQUARES, WRITE };

// As it will be once it is stored.
template <class T> __device__ __forceinline__ T rounded_through(int dtype, T x) {
    return dtype == BF16 ? (T)from_bf16(to_bf16((float)x)) : dtype == F16 ? (T)from_f16(to_f16((float)x)) : x;
}

// One call.
template <class T> struct Forward {
    const RowNorm &norm;
    const Array &y, &sum, &x, &residual;
    const T *weight, *bias;
    double *mean, *rstd;

    // A row is read for the mean, for the squares and for the output.
    __device__ __forceinline__ void row(const Team &team) const {
        const int first_step = norm.is_centred() ? MEAN : SQUARES;
        const u64 first_weight = norm.first_place(team.row);
        Moments all = {0.0, 0.0, 0.0};
        double own_mean = 0.0, own_rstd = 0.0;
        u64 at = 0;
#pragma unroll 1
        for (int step = first_step; step != WRITE || at < norm.len;) {
            u32 n = norm.len - at < SEGMENT ? (u32)(norm.len - at) : SEGMENT;
            u64 start = team.row * norm.len + at;
            Normalize<T> normalize(own_mean, own_rstd);
            double total[1] = {0.0};
            team.go(n, step != WRITE, total, [&](u32 i, u32 count, double(&terms)[1][4]) {
                T own[4], other[4];
                load_some(x, start + i, count, own);
                if (!is_absent(residual)) {
                    load_some(residual, start + i, count, other);
#pragma unroll
                    for (int k = 0; k < 4; k++) own[k] = rounded_through(x.dtype, own[k] + other[k]);
                }
                if (step == WRITE) {
                    if (!is_absent(sum)) store_some(sum, start + i, count, own);
                    Affine<T> affine(norm, weight, bias, first_weight, at + i, count);
#pragma unroll
                    for (int k = 0; k < 4; k++) own[k] = affine.of(normalize.x_hat(own[k]), k);
                    return store_some(y, start + i, count, own);
                }
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    double deviation = (double)own[k] - own_mean;
                    terms[0][k] = step == MEAN ? deviation : deviation * deviation;
                }
            });
            if (step == MEAN) {
                own_mean = total[0] / (double)n;
                step = SQUARES;
                continue;
            }
            at += n;
            if (step == WRITE) continue;
            all = all.merged_with({(double)n, own_mean, total[0]});
            own_mean = 0.0, step = first_step;
            if (at < norm.len) continue;
            own_mean = all.mean, own_rstd = norm.rstd(all.squares);
            at = 0, step = WRITE;
        }
        if (team.is_writer()) mean[team.row] = own_mean, rstd[team.row] = own_rstd;
    }

    // The same for a row that is read once.
    template <class Team> __device__ __forceinline__ void held_row(const Team &team) const {
        u64 start = team.row * norm.len;
        u32 n = (u32)norm.len;
        Held held;
        load_held(team, x, start, n, held);
        if (!is_absent(residual)) {
            add_held(team, residual, start, n, held);
            for_held(held, [&](int c, int k) { held.x[c][k] = rounded_through(x.dtype, held.x[c][k]); });
        }
        team.turn(held);
        double own_mean = 0.0, total[1];
        if (norm.is_centred()) {
            team.template add<1, true>(n, total, [&](int c, int k, double(&terms)[1]) { terms[0] = (double)held.x[c][k]; });
            own_mean = total[0] / (double)n;
            held.forget();
        }
        team.template add<1>(n, total, [&](int c, int k, double(&terms)[1]) {
            double deviation = (double)held.x[c][k] - own_mean;
            terms[0] = deviation * deviation;
        });
        double own_rstd = norm.rstd(total[0]);
        team.turn(held);
        held.forget();
        if (!is_absent(sum)) store_held(team, sum, start, n, held);
        Normalize<float> normalize(own_mean, own_rstd);
        for_held(held, [&](int c, int k) { held.x[c][k] = normalize.x_hat(held.x[c][k]); });
        u64 first = norm.template first_place<true>(team.row);
        if (weight) for_weights(team, norm, weight + first, n, [&](int c, int k, float w) { held.x[c][k] *= w; });
        if (bias) for_weights(team, norm, bias + first, n, [&](int c, int k, float b) { held.x[c][k] += b; });
        store_held(team, y, start, n, held);
        if (team.is_writer()) mean[team.row] = own_mean, rstd[team.row] = own_rstd;
    }
};

#define NORM_KERNEL(KIND, name, T, Threads, work) \
    KIND(name)(RowNorm norm, Array y, Array sum, Array x, Array residual, const T *weight, const T *bias, double *mean, \
               double *rstd, u32 shift) { \
        SHARED(double, room, Threads::ROOM); \
        Threads team(norm.rows, shift, room); \
        Forward<T>{norm, y, sum, x, residual, weight, bias, mean, rstd}.work(team); \
    }
NORM_KERNEL(ROWS_KERNEL, norm_rows_f32, float, Team, row)
NORM_KERNEL(ROWS_KERNEL, norm_rows_f64, double, Team, row)
NORM_KERNEL(HELD_KERNEL, norm_rows_of_warps_f32, float, Warp, held_row)
NORM_KERNEL(HELD_KERNEL, norm_rows_of_blocks_f32, float, Block, held_row)
