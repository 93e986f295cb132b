// bfloat16 and float16 as bits: conversions in integers, the same lines as rust/half.rs, or the one instruction that does the same.
// needs: types.cuh

__device__ __forceinline__ float from_bf16(u16 half) { return __uint_as_float((u32)half << 16); }

// float32 rounded to bfloat16 bits, half to even; a NaN stays one.
__device__ __forceinline__ u16 to_bf16(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    u16 half;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
#else
    u32 bits = __float_as_uint(x);
    u32 half_to_even = bits + ((bits >> 16) & 1) + 0x7fff;
    u32 rounded = x != x ? bits | 0x00400000u : half_to_even;
    return (u16)(rounded >> 16);
#endif
}

const u32 F16_MAGNITUDE = 0x7fff;
const u32 F16_INFINITY_SHIFTED = 0x7c00 << 13;
const u32 F32_INFINITY = 0x7f800000u;
const u32 F32_MAGNITUDE = 0x7fffffffu;
const u32 F16_NORMAL = 0x38800000u;    // 2^-14, the smallest normal binary16, as a binary32
const u32 F16_TO_F32 = (127 + 112) << 23; // 2^112: the exponents' biases differ by 112
const float F16_DENORMALS = 16777216.0f;  // 2^24: a denormal binary16 is a whole number of 2^-24

// Shifts exponent and mantissa into place; the product with 2^112 corrects the bias and makes denormals normal, exactly.
__device__ __forceinline__ float from_f16(u16 half) {
#ifdef __CUDA_ARCH__
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
    return x;
#else
    u32 shifted = (half & F16_MAGNITUDE) << 13;
    u32 finite = __float_as_uint(__uint_as_float(shifted) * __uint_as_float(F16_TO_F32));
    u32 bits = shifted >= F16_INFINITY_SHIFTED ? shifted | F32_INFINITY : finite;
    return __uint_as_float(bits | ((u32)(half & 0x8000) << 16));
#endif
}

// float32 rounded to float16 bits, half to even; a NaN stays one. Three ranges: infinite or NaN; denormal, rounded by an addition
// whose last place is binary16's smallest number; between them the bias is changed and the mantissa rounded in integers.
__device__ __forceinline__ u16 to_f16(float x) {
#ifdef __CUDA_ARCH__
    u16 half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
#else
    u32 bits = __float_as_uint(x), size = bits & F32_MAGNITUDE;
    u32 special = size > F32_INFINITY ? 0x7e00 : 0x7c00;
    u32 denormal = __float_as_uint(__uint_as_float(size) + 0.5f) - 0x3f000000u;
    u32 normal = (size + ((size >> 13) & 1) + 0xfff - (112u << 23)) >> 13;
    u32 finite = size < F16_NORMAL ? denormal : normal;
    return (u16)((size >= 0x47800000u ? special : finite) | ((bits >> 16) & 0x8000));
#endif
}

// float32 rounded to one of the two bfloat16 around it, the upper one with the probability of the part cut off.
__device__ __forceinline__ float bf16_randomly(float x, u32 word) {
    u32 bits = __float_as_uint(x);
    u32 rounded = (bits + (word >> 16)) & 0xffff0000u;
    return __uint_as_float((bits & F32_MAGNITUDE) < F32_INFINITY ? rounded : bits);
}

// The same for float16. Below 2^-14 its numbers are even 2^-24 apart: the fraction is compared with a uniform number.
__device__ __forceinline__ float f16_randomly(float x, u32 word) {
    u32 bits = __float_as_uint(x), size = bits & F32_MAGNITUDE;
    u32 normal = (size + (word >> 19)) & 0xffffe000u;
    float scaled = __uint_as_float(size) * F16_DENORMALS;
    float whole = floorf(scaled);
    float uniform = (float)(word >> 8) * (1.0f / F16_DENORMALS);
    float rounded = (uniform < scaled - whole ? whole + 1.0f : whole) * (1.0f / F16_DENORMALS);
    u32 finite = size < F16_NORMAL ? __float_as_uint(rounded) : normal;
    u32 result = size < F32_INFINITY ? finite : size;
    return __uint_as_float(result | (bits & 0x80000000u));
}
