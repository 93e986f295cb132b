// Floats of at most eight bits: branch-free conversions, the same lines as rust/quant/minifloat.rs.
//
// A format `F` has MANTISSA (bits of it), BIAS (what the exponent's field has more than the exponent), SIGN (the place of the
// sign), LARGEST (the largest finite number), BEYOND (the number that overflow would become if the codes went on: its code is
// infinity's, or NaN's where there is none), NOT_A_NUMBER (the number whose code would be NaN's) and SPECIAL (from this
// magnitude's code on infinity and NaN).
// needs: types.cuh

constexpr u32 F32_EXPONENT = 0x7f800000u;
constexpr u32 F32_MANTISSA = 23;
constexpr u32 F32_BIAS = 127;

template <class F> struct Minifloat {
    static constexpr u32 PLACES = F32_MANTISSA - F::MANTISSA;
    // The bits of the least normal number.
    static constexpr u32 LEAST_NORMAL = (F32_BIAS + 1 - F::BIAS) << F32_MANTISSA;
    // What is added to the bits of a power of two: it becomes so large that its last place is that of the format's numbers from the
    // power on, and its low bits are what `magnitude_code` adds.
    static constexpr u32 FIRST = (F32_BIAS + 1 - F::BIAS + PLACES) << F::MANTISSA;
    static constexpr u32 LIFT = (PLACES << F32_MANTISSA) + (0x10000 - FIRST) % 0x100;
};

__device__ __forceinline__ u32 at_least_bits(u32 a, u32 b) { return a > b ? a : b; }

// The code of a magnitude up to BEYOND, half to even. The sum with the lifted power rounds once: its low bits count the format's
// numbers from the power on (from zero on below the least normal one), its exponent says how many there are before them.
template <class F> __device__ __forceinline__ u32 magnitude_code(float magnitude) {
    u32 power = at_least_bits(__float_as_uint(magnitude) & F32_EXPONENT, Minifloat<F>::LEAST_NORMAL);
    u32 sum = __float_as_uint(magnitude + __uint_as_float(power + Minifloat<F>::LIFT));
    return (sum + (sum >> Minifloat<F>::PLACES)) & 0xff;
}

// The magnitude of a finite code without its sign, exactly: below the least normal number the implied one is taken away again.
template <class F> __device__ __forceinline__ float magnitude_of(u32 code) {
    float number = __uint_as_float((code << Minifloat<F>::PLACES) + ((F32_BIAS - F::BIAS) << F32_MANTISSA));
    float below = number - __uint_as_float(Minifloat<F>::LEAST_NORMAL);
    return number + (below < 0.0f ? below : 0.0f);
}

// The sign of a number at its place in the code, joined with the magnitude's code.
template <class F> __device__ __forceinline__ u32 with_sign(u32 code, float x) {
    return code | ((__float_as_uint(x) >> (31 - F::SIGN)) & (1u << F::SIGN));
}

// The code of a finite number of magnitude up to BEYOND.
template <class F> __device__ __forceinline__ u32 encode_small(float x) {
    return with_sign<F>(magnitude_code<F>(magnitude(x)), x);
}

// The code of a finite number, the largest if it overflows.
template <class F> __device__ __forceinline__ u32 encode_finite(float x) {
    float size = magnitude(x);
    return with_sign<F>(magnitude_code<F>(size < F::LARGEST ? size : F::LARGEST), x);
}

// The code of any number. Overflow and infinity become the largest number if it `saturates`, else infinity, or NaN in a format that
// has none; NaN stays NaN and keeps its sign.
template <class F> __device__ __forceinline__ u32 encode_any(float x, bool saturates) {
    float limit = saturates ? F::LARGEST : F::BEYOND, size = magnitude(x);
    size = x != x ? F::NOT_A_NUMBER : size < limit ? size : limit;
    return with_sign<F>(magnitude_code<F>(size), x);
}

// The number that a code stands for.
template <class F> __device__ __forceinline__ float decode_any(u32 code) {
    u32 size = code & ((1u << F::SIGN) - 1);
    u32 bits = __float_as_uint(magnitude_of<F>(size));
    if (F::SPECIAL < 1u << F::SIGN) bits = size >= F::SPECIAL ? bits | F32_EXPONENT : bits;
    return __uint_as_float(bits | ((code << (31 - F::SIGN)) & 0x80000000u));
}
