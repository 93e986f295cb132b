// Microscaling: short blocks of small floats, each block under a scale of one byte; the same numbers as rust/quant/micro.rs.
// needs: scaled.cuh float8.cuh

// Two bits of exponent, one of mantissa: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.
struct E2m1 {
    static constexpr u32 MANTISSA = 1, BIAS = 1, SIGN = 3, SPECIAL = 8;
    static constexpr float LARGEST = 6.0f, BEYOND = 6.0f, NOT_A_NUMBER = 6.0f;
};

// The byte of NaN in the format e8m0.
constexpr u32 E8M0_NAN = 0xff;

// 2^(floor(log2 absmax) - most), `most` being the exponent of the largest element, in the format e8m0.
__device__ __forceinline__ u32 power_of_two(u32 absmax, u32 most) {
    u32 exponent = absmax >> 23;
    return exponent == E8M0_NAN ? exponent : at_least_bits(exponent, most) - most;
}

// The byte 0 is 2^-127, a subnormal number.
__device__ __forceinline__ float value_of_power(u32 byte) {
    return __uint_as_float(byte == E8M0_NAN ? 0x7fc00000u : byte == 0 ? 1u << 22 : byte << 23);
}

__device__ __forceinline__ float inverse_of_power(u32 byte) { return __uint_as_float((254 - (byte < 253 ? byte : 253)) << 23); }

// A sixth of the block's largest magnitude as an e4m3 number, under a scale of the whole tensor, which is 0 if there are but zeros.
__device__ __forceinline__ u32 under_tensor(float absmax, float tensor) {
    return encode_finite<E4m3>(absmax / (tensor > 0.0f ? tensor : 1.0f) / E2m1::LARGEST);
}

__device__ __forceinline__ float value_under_tensor(u32 byte, float tensor) { return decode_any<E4m3>(byte) * tensor; }
