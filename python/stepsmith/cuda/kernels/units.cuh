// Norms of units, for gradients that are clipped to a part of their parameter's norm (AGC); as rust/optim/survey.rs and
// `unit_factors` of gradients.rs. Each unit has blocks of 4,096 of its own, so that no sum crosses two of them.
// needs: totals.cuh fold.cuh

// The least norm of a parameter that its gradient's norm is compared with, so that zeros can start to move.
const double LEAST_PARAM_NORM = 1e-3;

// A block of a unit of a row.
struct UnitBlock {
    u64 row, unit, block;
    u64 length, blocks; // of a unit
};

__device__ __forceinline__ UnitBlock unit_block(const Pass &pass, u64 k) {
    u64 low = 0, high = pass.row_count;
    while (high - low > 1) {
        u64 middle = (low + high) / 2;
        (pass.rows[middle].unit_block <= k ? low : high) = middle;
    }
    u64 length = pass.rows[low].unit, blocks = (length + BLOCK - 1) / BLOCK;
    k -= pass.rows[low].unit_block;
    return {low, k / blocks, k % blocks, length, blocks};
}

// Results of the gradients' blocks and of the parameters'.
__device__ __forceinline__ double *unit_sums_of(const Pass &pass, int which) {
    return pass.partials + 2 * pass.block_count + which * pass.unit_block_count;
}

// The sums of squares of a block of a unit, the gradient's after values are clipped.
template <class T> __device__ __forceinline__ void sum_unit_block(const Pass &pass, const UnitBlock &at, u64 k) {
    const Row &row = pass.rows[at.row];
    T inverse = (T)(1.0 / pass.grad_scale), limit = (T)pass.clip_value;
    u64 start = at.unit * at.length + at.block * BLOCK, rest = at.length - at.block * BLOCK;
    u32 n = (u32)(rest < BLOCK ? rest : BLOCK);
    Lanes grads = {{0.0, 0.0, 0.0, 0.0}}, params = grads;
    for (u32 from = 4 * lane_of_warp(); from < n; from += LANES)
#pragma unroll
        for (u32 e = 0; e < 4; e++) {
            if (from + e >= n) break;
            u64 i = start + from + e;
            T grad = is_kept(row, i) ? load_at<T>(place_of_grad(row, i), row.dtypes[GRAD]) : T(0);
            double g = (double)(pass.clips_values ? clamped(grad * inverse, limit) : grad);
            double p = (double)load_element<T>(row, PARAM, i);
            grads.sums[e] += g * g, params.sums[e] += p * p;
        }
    double grad_sum = fold(grads), param_sum = fold(params);
    if (lane_of_warp() == 0) unit_sums_of(pass, 0)[k] = grad_sum, unit_sums_of(pass, 1)[k] = param_sum;
}

KERNEL(unit_sums)(const __grid_constant__ Pass pass) {
    for (u64 k = first_warp(); k < pass.unit_block_count; k += warp_stride()) {
        UnitBlock at = unit_block(pass, k);
        if (pass.rows[at.row].compute == F64) sum_unit_block<double>(pass, at, k);
        else sum_unit_block<float>(pass, at, k);
    }
}

// min(1, agc·max(‖param‖, 1e-3) / ‖grad‖) for each unit, the gradient's norm being that after the clipping of all gradients.
KERNEL(unit_factors)(const __grid_constant__ Pass pass) {
    double clip = pass.is_examined ? pass.control->clip : 1.0;
    double scale = pass.clips_values ? clip : clip / magnitude(pass.grad_scale);
    for (u64 k = first_warp(); k < pass.unit_block_count; k += warp_stride()) {
        UnitBlock at = unit_block(pass, k);
        if (at.block != 0) continue;
        double norm = square_root(sum_of_numbers(unit_sums_of(pass, 0) + k, at.blocks)) * scale;
        double param = square_root(sum_of_numbers(unit_sums_of(pass, 1) + k, at.blocks));
        double limit = pass.agc * (param > LEAST_PARAM_NORM ? param : LEAST_PARAM_NORM);
        if (lane_of_warp() == 0)
            global<double>(pass.rows[at.row].unit_factors)[at.unit] = norm > limit ? limit / norm : 1.0;
    }
}
