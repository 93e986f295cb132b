// Arrays to affine codes and back, for a tensor, an axis or groups of a row; see rust/quant/affine.
// needs: affine_grid.cuh affine_place.cuh

// The code of 0 as a number.
__device__ __forceinline__ float zero_of(const int *zero_points, u64 step) { return zero_points ? (float)zero_points[step] : 0.0f; }

// Scales and zero points of ranges: largest magnitudes below and above 0.
KERNEL(affine_steps)(AffineGrid grid, const float *below, const float *above, u64 n, float *scales, int *zero_points) {
    for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (u64)gridDim.x * blockDim.x) {
        AffineStep step = step_of_range(grid, below[i], above[i]);
        scales[i] = step.scale;
        if (zero_points) zero_points[i] = step.zero_point;
    }
}

// Where runs follow each other and each has a scale of its own: each team of lanes measures its run, then makes codes of it.
KERNEL(affine_blocks)(Array x, u64 rows, u64 len, Place place, AffineGrid grid, u32 lanes, u8 *codes, float *scales,
                      int *zero_points, u64 *first_nan) {
    u32 lane = threadIdx.x % lanes, teams = WARP / lanes, of_byte = 8 / grid.bits;
    u64 runs = rows * place.runs_of_row, row_bytes = (len + of_byte - 1) / of_byte;
    u64 warp = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / WARP, warps = (u64)gridDim.x * blockDim.x / WARP;
    for (u64 first = warp * teams; first < runs; first += warps * teams) {
        u64 run = first + threadIdx.x % WARP / lanes, row = quotient(run, place.runs_of_row);
        u64 at = (run - row * place.runs_of_row) * place.run, end = at + place.run < len ? at + place.run : len;
        if (run >= runs) end = at;
        RangeBits range = {0, 0};
        AffineStep step = {1.0f, 0};
        float numbers[4], factor = 1.0f;
#pragma unroll 1
        for (int pass = 0; pass < 2; pass++) {
            for (u64 k = at + 4 * lane; k < end; k += 4 * lanes) {
                u64 i = row * len + k;
                if (pass == 0 || place.run > 4 * lanes) load_finite(x, i, row * len + end, false, first_nan, numbers);
                u32 found = 0;
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    if (pass == 0) widen_range(range, numbers[j]);
                    else if (k + j < end) found |= affine_code(grid, factor, (float)step.zero_point, numbers[j]) << (8 * j);
                }
                u32 bytes = (u32)(end - k < 4 ? end - k + of_byte - 1 : 4 + of_byte - 1) / of_byte;
                if (pass == 1) store_bytes(codes + row * row_bytes + k / of_byte, affine_packed(grid, found), bytes);
            }
            if (pass == 1) break;
            u32 below = largest_of_lanes(range.below, lanes), above = largest_of_lanes(range.above, lanes);
            step = step_of_range(grid, __uint_as_float(below), __uint_as_float(above));
            factor = affine_factor(grid, step.scale);
            if (lane == 0 && run < runs) scales[run] = step.scale;
            if (lane == 0 && run < runs && zero_points) zero_points[run] = step.zero_point;
        }
    }
}

// Widens what is known of a scale's range; a look first spares most of the atomic operations.
__device__ __forceinline__ void merge_range(u32 *below, u32 *above, u64 step, const RangeBits &range) {
    if (range.below > below[step]) atomicMax(below + step, range.below);
    if (range.above > above[step]) atomicMax(above + step, range.above);
}

// Elements that a warp looks at before it says what it saw.
const u32 CHUNK = 2048;

// The bits of the range of each scale's numbers, which begin as zeros.
KERNEL(affine_ranges)(Array x, u64 n, Place place, u32 *below, u32 *above, u64 *first_nan) {
    u64 warp = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / WARP, warps = (u64)gridDim.x * blockDim.x / WARP;
    for (u64 first = CHUNK * warp; first < n; first += CHUNK * warps) {
        RangeBits range = {0, 0};
        u64 step = run_of(place, first).step;
        for (u64 i = first + 4 * (threadIdx.x % WARP); i < first + CHUNK && i < n; i += 4 * WARP) {
            float numbers[4];
            load_finite(x, i, n, false, first_nan, numbers);
            Run run = run_of(place, i);
#pragma unroll
            for (u32 k = 0; k < 4; k++) {
                if (i + k < n && run.step != step) {
                    merge_range(below, above, step, range);
                    step = run.step, range = {0, 0};
                }
                widen_range(range, numbers[k]);
                advance(place, run);
            }
        }
        if (__all_sync(EVERY_LANE, step == __shfl_sync(EVERY_LANE, step, 0))) {
            range = {largest_of_lanes(range.below, WARP), largest_of_lanes(range.above, WARP)};
            if (threadIdx.x % WARP == 0) merge_range(below, above, step, range);
        } else {
            merge_range(below, above, step, range);
        }
    }
}

// Codes of an array whose scales and zero points are known.
KERNEL(affine_quantize)(Array x, Geometry quads, Place place, AffineGrid grid, const float *scales, const int *zero_points,
                        u8 *codes, u64 *first_nan) {
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < blocks_of(quads); at += (u64)gridDim.x * blockDim.x) {
        Quad quad = quad_of(quads, at, 0);
        float numbers[4];
        load_finite(x, quad.start, quad.start + quad.count, false, first_nan, numbers);
        Run run = run_of(place, quad.start);
        u64 step = run.step;
        float factor = affine_factor(grid, scales[step]), zero = zero_of(zero_points, step);
        u32 found = 0;
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            if (k < quad.count && run.step != step) {
                step = run.step;
                factor = affine_factor(grid, scales[step]), zero = zero_of(zero_points, step);
            }
            if (k < quad.count) found |= affine_code(grid, factor, zero, numbers[k]) << (8 * k);
            advance(place, run);
        }
        store_bytes(codes + quad.code, affine_packed(grid, found), bytes_of(quads, quad));
    }
}

// The numbers that codes stand for.
KERNEL(affine_dequantize)(const u8 *codes, Geometry quads, Place place, AffineGrid grid, const float *scales,
                          const int *zero_points, Array out) {
    for (u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x; at < blocks_of(quads); at += (u64)gridDim.x * blockDim.x) {
        Quad quad = quad_of(quads, at, 0);
        u32 found = affine_unpacked(grid, load_bytes(codes + quad.code, bytes_of(quads, quad)));
        Run run = run_of(place, quad.start);
        float numbers[4];
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            u64 step = k < quad.count ? run.step : 0;
            numbers[k] = affine_number(grid, code_of(found, k), zero_of(zero_points, step), scales[step]);
            advance(place, run);
        }
        store4<float>(out, quad.start, quad.start + quad.count, numbers);
    }
}
