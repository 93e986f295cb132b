// The inner product of two lists of arrays, a fixed-shape sum of the elements' products in float64; as rust/optim/vectors.rs. The
// parameters of the rows are one list, their gradients the other; elements are counted in C order.
// needs: totals.cuh

// Elements i..i + 4 of an operand, `i` being a multiple of four; zeros behind the last one.
__device__ __forceinline__ void load_wide(const Row &row, int k, u64 i, double (&x)[4]) {
    if (row.quads >> k & 1 && i + 4 <= row.len) return load_quad(row.data[k] + i * item_size(row.dtypes[k]), row.dtypes[k], x);
#pragma unroll
    for (int e = 0; e < 4; e++) x[e] = i + e < row.len ? load_element<double>(row, k, i + e) : 0.0;
}

__device__ __forceinline__ double dot_block(const Row &row, u64 block) {
    Lanes lanes = {{0.0, 0.0, 0.0, 0.0}};
    u64 start = block * BLOCK, end = start + BLOCK < row.len ? start + BLOCK : row.len;
    for (u64 at = start; at < end; at += LANES) {
        double a[4], b[4];
        load_wide(row, PARAM, at + 4 * lane_of_warp(), a);
        load_wide(row, GRAD, at + 4 * lane_of_warp(), b);
#pragma unroll
        for (int e = 0; e < 4; e++) lanes.sums[e] += a[e] * b[e];
    }
    return fold(lanes);
}

KERNEL(dot)(const __grid_constant__ Pass pass) {
    for (u64 k = first_warp(); k < pass.chunk_count; k += warp_stride()) {
        const Row &row = pass.rows[pass.chunks[k] >> 32];
        u64 block = pass.chunks[k] & 0xffffffffu;
        double sum = dot_block(row, block);
        if (lane_of_warp() == 0) pass.partials[row.block + block] = sum;
    }
    if (!is_last_block(pass)) return;
    fold_rows(pass, pass.partials, pass.norms);
    if (warp_of_block() != 0) return;
    double total = total_of_rows(pass.norms, pass.row_count);
    if (lane_of_warp() == 0) pass.control->sum = total;
}
