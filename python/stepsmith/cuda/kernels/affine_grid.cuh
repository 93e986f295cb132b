// Affine codes: integers q that stand for (q - zero point) · scale; see rust/quant/affine/mod.rs and kernel.rs.
// needs: bytes.cuh finite.cuh scaled.cuh

// Mirrors `GRID` of stepsmith/cuda/quant/affine.py: the codes of a scheme.
struct AffineGrid {
    int qmin, qmax;
    float divisor; // of the largest magnitude where the zero point is 0; 0 if the whole range has a code for both ends
    int is_reciprocal; // x · (1 / scale) instead of x / scale
    u32 bits;          // of a stored code: 8, 4 or 2
};

// What the codes of a range are multiplied by, and the code of 0.
struct AffineStep {
    float scale;
    int zero_point;
};

// The largest scale whose product with `steps` is finite.
__device__ __forceinline__ float largest_scale(float steps) {
    float scale = F32_LARGEST / steps;
    return is_finite(scale * steps) ? scale : __uint_as_float(__float_as_uint(scale) - 1);
}

// Symmetric: scale = max(below, above) / divisor, zero point 0. Else scale = (above + below) / (qmax - qmin) and zero point =
// qmin + round(below / scale), half to even. A scale below the normal numbers becomes 1 with zero point 0, and one that would
// make a code infinite the largest that does not.
__device__ __forceinline__ AffineStep step_of_range(const AffineGrid &grid, float below, float above) {
    below = below < F32_LARGEST ? below : F32_LARGEST;
    above = above < F32_LARGEST ? above : F32_LARGEST;
    float steps = (float)(grid.qmax - grid.qmin), scale;
    if (grid.divisor != 0.0f) {
        scale = larger(below, above) / grid.divisor;
    } else {
        scale = is_finite(above + below) ? (above + below) / steps : above / steps + below / steps;
    }
    if (scale < F32_LEAST_NORMAL) return {1.0f, 0};
    int zero_point = 0;
    if (grid.divisor == 0.0f) zero_point = grid.qmin + (int)rintf(below / scale);
    zero_point = zero_point < grid.qmin ? grid.qmin : zero_point > grid.qmax ? grid.qmax : zero_point;
    int farthest = zero_point - grid.qmin > grid.qmax - zero_point ? zero_point - grid.qmin : grid.qmax - zero_point;
    float most = largest_scale((float)farthest);
    return {scale < most ? scale : most, zero_point};
}

// 1.5 · 2²³: added to a number below 2²² it leaves the nearest integer, half to even, in the lowest bits.
constexpr float SHIFTER = 12582912.0f;

// What a number is multiplied with or divided by.
__device__ __forceinline__ float affine_factor(const AffineGrid &grid, float scale) {
    return grid.is_reciprocal ? 1.0f / scale : scale;
}

// round(clamp(x / scale, qmin - zero, qmax - zero)) + zero, as so many bits as are stored.
__device__ __forceinline__ u32 affine_code(const AffineGrid &grid, float factor, float zero, float x) {
    float scaled = grid.is_reciprocal ? x * factor : x / factor;
    float low = (float)grid.qmin - zero, high = (float)grid.qmax - zero;
    float clamped = scaled < low ? low : scaled > high ? high : scaled;
    float rounded = (clamped + SHIFTER) - SHIFTER;
    return __float_as_uint(rounded + zero + SHIFTER) & ((1u << grid.bits) - 1);
}

// (code - zero) · scale
__device__ __forceinline__ float affine_number(const AffineGrid &grid, u32 code, float zero, float scale) {
    int sign = grid.qmin < 0 ? 1 << (grid.bits - 1) : 0;
    return ((float)((int)(code ^ (u32)sign) - sign) - zero) * scale;
}

// Codes one a byte to as many bytes as they take, and back.
__device__ __forceinline__ u32 affine_packed(const AffineGrid &grid, u32 codes) {
    return grid.bits == 8 ? codes : grid.bits == 4 ? pack_low(codes) : pack_two(codes);
}

__device__ __forceinline__ u32 affine_unpacked(const AffineGrid &grid, u32 word) {
    return grid.bits == 8 ? word : grid.bits == 4 ? unpack_low(word) : unpack_two(word);
}

// The bits of the largest magnitudes below and above 0.
struct RangeBits {
    u32 below, above;
};

// Takes finite numbers and infinity; zeros change nothing.
__device__ __forceinline__ void widen_range(RangeBits &range, float x) {
    u32 bits = __float_as_uint(x), size = bits & 0x7fffffffu;
    if (bits >> 31) range.below = size > range.below ? size : range.below;
    else range.above = size > range.above ? size : range.above;
}
