// What becomes of numbers that are not finite; see rust/quant/codec.rs.
// needs: arrays.cuh

constexpr float F32_LARGEST = 3.40282346638528859811704183484516925e38f;
constexpr float F32_LEAST_NORMAL = 1.17549435082228750796873653722224568e-38f;

// NaN becomes zero, infinity the largest number if it `saturates`; keeps the place of the first NaN if there is room for one.
__device__ __forceinline__ float make_finite(float x, u64 i, bool saturates, u64 *first_nan) {
    if (x != x) {
        if (first_nan) atomicMin(first_nan, i);
        return 0.0f;
    }
    if (!saturates) return x;
    return x > F32_LARGEST ? F32_LARGEST : x < -F32_LARGEST ? -F32_LARGEST : x;
}

// Elements i..i + 4 of n, zeros behind the last one.
__device__ __forceinline__ void load_finite(const Array &array, u64 i, u64 n, bool saturates, u64 *first_nan, float (&x)[4]) {
    load4<float>(array, i, n, x);
#pragma unroll
    for (int k = 0; k < 4; k++) x[k] = make_finite(x[k], i + k, saturates, first_nan);
}
