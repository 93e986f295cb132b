// The sweep before the write pass of rules that need norms of whole tensors (LAMB, LARS, Adafactor); as rust/optim/measure.rs.
//
// It reads what the write pass will read, so both see the same gradients and the same stored state, and writes nothing. A warp
// works on a block of 4,096, tile by tile.
// needs: pipeline.cuh totals.cuh

// The sums of squares of a block.
struct Squares {
    Lanes param, measured;
};

// Elements from `i` on, of which the first belongs to the `n`-th of the thread's lanes.
template <class R, class T>
__device__ __forceinline__ void measure_part(const Row &row, const R &rule, u64 i, int n, const Part<T> &part, Squares &squares) {
#pragma unroll
    for (int e = 0; e < Part<T>::COUNT; e++) {
        T state[R::STATES];
#pragma unroll
        for (int k = 0; k < R::STATES; k++) state[k] = part.x[STATE + k][e];
        double measured = (double)rule.measure(part.x[PARAM][e], part.x[GRAD][e], state), param = (double)part.x[PARAM][e];
        add_to_sum(squares.param, n + e, param * param);
        add_to_sum(squares.measured, n + e, i + e < row.len ? measured * measured : 0.0);
    }
}

template <class R, class T>
__device__ __forceinline__ void measure_block(const Pass &pass, const Row &row, const StateGrids &grids, u64 block) {
    Scaled<R, T> scaled(pass, row);
    Squares squares = {{{0.0, 0.0, 0.0, 0.0}}, {{0.0, 0.0, 0.0, 0.0}}};
    u64 end = (block + 1) * BLOCK < row.len ? (block + 1) * BLOCK : row.len;
    for (u64 start = block * BLOCK; start < end; start += TILE) {
        if (pass.has_codes) fill(row, grids, start);
#pragma unroll 1
        for (int n = 0; n < 8; n += Part<T>::COUNT) {
            u64 i = place_of_part(start, n);
            Part<T> part;
            gather<R::STATES, false>(row, i, part);
            if (pass.has_codes) stand_in<R::STATES>(row, n, part);
            make_ready(pass, row, scaled, i, i < row.len ? kept_from(row, i) : 0, part);
            measure_part(row, scaled.rule, i, n % 4, part, squares);
        }
    }
    double param = fold(squares.param), measured = fold(squares.measured), *partial = pass.partials + row.block + block;
    if (lane_of_warp() == 0) partial[0] = param, partial[pass.block_count] = measured;
}

template <class R, class T> __device__ __forceinline__ void measure(const Pass &pass) {
    StateGrids grids = state_grids(pass.has_codes);
    __syncthreads();
    if (!may_step(pass)) return;
    for (u64 k = first_warp(); k < pass.chunk_count; k += warp_stride())
        measure_block<R, T>(pass, pass.rows[pass.chunks[k] >> 32], grids, pass.chunks[k] & 0xffffffffu);
    if (!pass.is_last || !is_last_block(pass)) return;
    fold_rows(pass, pass.partials, pass.norms);
    fold_rows(pass, pass.partials + pass.block_count, pass.norms + 1);
    for (u64 k = threadIdx.x; k < 2 * pass.row_count; k += blockDim.x) pass.norms[k] = square_root(pass.norms[k]);
}

// The kernels of a rule that measures.
#define MEASURED(name, R) \
    KERNEL_OF_256(measure_##name##_f32)(const __grid_constant__ Pass pass) { measure<R<float>, float>(pass); } \
    KERNEL_OF_256(measure_##name##_f64)(const __grid_constant__ Pass pass) { measure<R<double>, double>(pass); }
