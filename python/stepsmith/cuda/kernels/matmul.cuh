// Products of activations with quantized matrices, x · matrixᵀ; the same sums as rust/quant/matmul.
// needs: finite.cuh scaled.cuh

// Which elements share a scale: all; those of a row; so many of a row, whose codes begin with a byte; so many of all rows.
enum Sharing : int { ALL, ROWS, GROUPS, BLOCKS };

// Mirrors `MATRIX` of stepsmith/cuda/quant/matmul.py: codes and scales of a matrix in C order.
struct Matrix {
    u64 rows, len;
    u64 size; // of groups and blocks
    int sharing;
    int bits;       // of a code
    int high_first; // is the first of two codes in the high half of a byte?
};

// The number of a row's first code.
__device__ __forceinline__ u64 row_start(const Matrix &matrix, u64 row) {
    return row * (matrix.sharing == GROUPS && matrix.bits == 4 ? matrix.len + matrix.len % 2 : matrix.len);
}

// Elements of a row that share a scale.
struct Step {
    u64 at, end, scale, size;
};

__device__ __forceinline__ Step first_step(const Matrix &matrix, u64 row) {
    u64 len = matrix.len, size = matrix.size;
    if (matrix.sharing == ALL) return {0, len, 0, len};
    if (matrix.sharing == ROWS) return {0, len, row, len};
    if (matrix.sharing == GROUPS) return {0, size < len ? size : len, row * ((len + size - 1) / size), size};
    u64 scale = row * len / size, left = size - (row * len - scale * size);
    return {0, left < len ? left : len, scale, size};
}

__device__ __forceinline__ void to_next(Step &step, u64 len) {
    u64 end = step.end + step.size;
    step.at = step.end, step.end = end < len ? end : len, step.scale++;
}

// The code of four bits of a number.
__device__ __forceinline__ u32 half_byte(const Matrix &matrix, const u8 *codes, u64 i) {
    u32 is_high = (u32)(i & 1) ^ (u32)matrix.high_first;
    return codes[i / 2] >> (4 * is_high) & 15;
}

// `table` has the numbers of codes of four bits.
__device__ __forceinline__ float weight(const Matrix &matrix, const u8 *codes, const float *table, u64 i) {
    return matrix.bits == 8 ? (float)(i8)codes[i] : table[half_byte(matrix, codes, i)];
}

__device__ __forceinline__ int integer_weight(const Matrix &matrix, const u8 *codes, u64 i) {
    return matrix.bits == 8 ? (int)(i8)codes[i] : ((int)half_byte(matrix, codes, i) ^ 8) - 8;
}

// Lanes of a sum.
const u32 SUM_LANES = 16;

// Of elements that share a scale, number i goes to lane i mod 16, each lane a sum in order of products code · x; the lanes times
// the scale are added to the row's lanes, in order; these fold by halves at last. Half a warp works on a row of the matrix and on
// `B` rows of activations.
template <int B>
__device__ __forceinline__ void float_products(const Matrix &matrix, const u8 *codes, const float *scales, const float *numbers,
                                               const float *x, u64 batch, const Array &out) {
    SHARED(float, table, 16);
    if (threadIdx.x < 16 && matrix.bits == 4) table[threadIdx.x] = numbers[threadIdx.x];
    __syncthreads();
    u32 lane = threadIdx.x % SUM_LANES;
    u64 halves = (u64)gridDim.x * blockDim.x / SUM_LANES, items = matrix.rows * ((batch + B - 1) / B), len = matrix.len;
    for (u64 first = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / WARP * 2; first < items; first += halves) {
        u64 item = first + threadIdx.x % WARP / SUM_LANES, turn = item / matrix.rows, row = item - turn * matrix.rows;
        u64 start = row_start(matrix, row), b0 = turn * B;
        const float *own[B];
        float total[B] = {};
#pragma unroll
        for (int b = 0; b < B; b++) own[b] = x + (b0 + b < batch ? b0 + b : batch - 1) * len;
        for (Step step = first_step(matrix, row); item < items && step.at < len; to_next(step, len)) {
            float sums[B] = {};
#pragma unroll 2
            for (u64 i = step.at + lane; i < step.end; i += SUM_LANES) {
                float number = weight(matrix, codes, table, start + i);
#pragma unroll
                for (int b = 0; b < B; b++) sums[b] += number * own[b][i];
            }
            float scale = scales[step.scale];
#pragma unroll
            for (int b = 0; b < B; b++) total[b] += sums[b] * scale;
        }
        float own_total = 0.0f;
#pragma unroll
        for (u32 b = 0; b < B; b++) {
            for (int half = SUM_LANES / 2; half > 0; half /= 2) total[b] += __shfl_xor_sync(EVERY_LANE, total[b], half);
            own_total = lane == b ? total[b] : own_total;
        }
        if (lane < B && item < items && b0 + lane < batch) store<float>(out, (b0 + lane) * matrix.rows + row, own_total);
    }
}

KERNEL(matmul_one)(Matrix matrix, const u8 *codes, const float *scales, const float *numbers, const float *x, u64 batch,
                   Array out) {
    float_products<1>(matrix, codes, scales, numbers, x, batch, out);
}

KERNEL(matmul_four)(Matrix matrix, const u8 *codes, const float *scales, const float *numbers, const float *x, u64 batch,
                    Array out) {
    float_products<4>(matrix, codes, scales, numbers, x, batch, out);
}

// Codes and scales of rows of activations, a warp each: scale = absmax / 127, 1 where that is no normal number; code = x / scale,
// half to even. Keeps the place of the first number that is not finite.
KERNEL(quantize_rows)(const float *x, u64 rows, u64 len, i8 *codes, float *scales, u64 *first_bad) {
    u64 warps = (u64)gridDim.x * blockDim.x / WARP;
    for (u64 row = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / WARP; row < rows; row += warps) {
        u32 largest = 0;
        for (u64 i = threadIdx.x % WARP; i < len; i += WARP) {
            float own[1] = {x[row * len + i]};
            u32 found = largest_bits(own);
            if (found >= Float<float>::INFINITE) atomicMin(first_bad, row * len + i);
            largest = found > largest ? found : largest;
        }
        float smallest = __uint_as_float(largest_of_lanes(largest, WARP)) / 127.0f;
        float scale = smallest < F32_LEAST_NORMAL ? 1.0f : smallest;
        if (threadIdx.x % WARP == 0) scales[row] = scale;
        for (u64 i = threadIdx.x % WARP; i < len; i += WARP) {
            float code = rintf(x[row * len + i] / scale);
            code = code > -127.0f ? code : -127.0f;
            codes[row * len + i] = (i8)(int)(code < 127.0f ? code : 127.0f);
        }
    }
}

// Sums of products of whole numbers that share a scale are exact; times the scale they are added in order. A warp works on a row of
// the matrix and on one of activations.
KERNEL(matmul_integers)(Matrix matrix, const u8 *codes, const float *scales, const i8 *x, const float *x_scales, u64 batch,
                        Array out) {
    u64 warps = (u64)gridDim.x * blockDim.x / WARP, items = matrix.rows * batch, len = matrix.len;
    for (u64 item = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / WARP; item < items; item += warps) {
        u64 b = item / matrix.rows, row = item - b * matrix.rows, start = row_start(matrix, row);
        float total = 0.0f;
        for (Step step = first_step(matrix, row); step.at < len; to_next(step, len)) {
            i64 sum = 0;
#pragma unroll 2
            for (u64 i = step.at + threadIdx.x % WARP; i < step.end; i += WARP)
                sum += integer_weight(matrix, codes, start + i) * (int)x[b * len + i];
            for (int half = WARP / 2; half > 0; half /= 2) sum += __shfl_xor_sync(EVERY_LANE, sum, half);
            total += (float)sum * scales[step.scale];
        }
        if (threadIdx.x % WARP == 0) store<float>(out, item, total * x_scales[b]);
    }
}
