// 8-bit floats: e4m3fn and e5m2 as ml_dtypes has them, and an unsigned one for numbers that are never below zero; the same lines as
// rust/quant/float8.rs. As `Levels` (scaled.cuh) for blocks whose largest magnitude becomes the largest number of a format.
// needs: minifloat.cuh

// Four bits of exponent, three of mantissa; no infinity, one NaN of each sign.
struct E4m3 {
    static constexpr u32 MANTISSA = 3, BIAS = 7, SIGN = 7, SPECIAL = 0x7f;
    static constexpr float LARGEST = 448.0f, BEYOND = 480.0f, NOT_A_NUMBER = 480.0f;
};

// Five bits of exponent, two of mantissa: the upper half of a float16.
struct E5m2 {
    static constexpr u32 MANTISSA = 2, BIAS = 15, SIGN = 7, SPECIAL = 0x7c;
    static constexpr float LARGEST = 57344.0f, BEYOND = 65536.0f, NOT_A_NUMBER = 98304.0f;
};

template <class F> struct Float8 {
    static constexpr float LARGEST = F::LARGEST;
    static constexpr bool BY_MAGNITUDE = true, KEEPS = false;

    __device__ __forceinline__ u32 nearest(float scaled, float) const { return encode_small<F>(scaled); }
    __device__ __forceinline__ float level(u32 code) const { return decode_any<F>(code); }
};

// Levels without a sign: five bits of exponent and three of mantissa, the top bits of a float16 behind its sign. What is below zero
// becomes zero.
//
// `KEPT`: what is above zero does not become zero, however small it is.
template <bool KEPT> struct Ue5m3 {
    static constexpr u32 MANTISSA = 3, BIAS = 15, SIGN = 8, SPECIAL = 0x100;
    static constexpr float LARGEST = 61440.0f, BEYOND = 65536.0f, NOT_A_NUMBER = 98304.0f;
    static constexpr bool BY_MAGNITUDE = false, KEEPS = KEPT;
    // 2⁻¹⁷
    static constexpr float LEAST = 1.0f / 131072.0f;

    __device__ __forceinline__ u32 nearest(float scaled, float x) const {
        float magnitude = scaled > 0.0f ? scaled : 0.0f;
        if (KEEPS) magnitude = !(x > 0.0f) ? 0.0f : magnitude > LEAST ? magnitude : LEAST;
        return magnitude_code<Ue5m3>(magnitude);
    }

    __device__ __forceinline__ float level(u32 code) const { return magnitude_of<Ue5m3>(code); }
};
