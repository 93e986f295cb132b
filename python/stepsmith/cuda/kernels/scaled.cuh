// Codes of blocks scaled by their largest magnitude: each code is the level next to x / scale; the same codes and scales as
// rust/quant/scaled.rs.
//
// `Levels` L, the numbers that codes stand for, has
//   LARGEST       the level that a block's largest magnitude becomes,
//   BY_MAGNITUDE  do codes rise with the magnitudes of their levels, not with the levels?
//   KEEPS         are levels of 0 only for what is 0?
//   nearest(scaled, x)  the code of the level next to `scaled`, of magnitude up to LARGEST; `x` is the number before it was scaled,
//   level(code)         the level of a code.
// Levels are dynamic8.cuh's `Dynamic8`, float8.cuh's `Float8` and `Ue5m3`.
//
// What a kernel does with a block of 256 numbers, which a warp holds eight a lane (elements 4l..4l + 4 and 128 + 4l..128 + 4l + 4,
// zeros behind the last one), codes of eight bits being packed four a word, the first in the lowest byte:
//   decode_block(levels, codes, scale, x)
//   scale = encode_block(levels, x, codes)
//   scale = encode_block_randomly(levels, x, codes, words)   one random word a number
// All lanes of the warp must come to the two that encode.
// needs: random.cuh

// 2⁶⁴
constexpr float LIFT = 18446744073709551616.0f;

// Below this the inverse of a magnitude may overflow.
constexpr float LOW = 1.0e-30f;

// How the numbers of a block are scaled: x · lift · inverse; the scale is NaN and all codes are 0 where one is not finite.
struct Scaling {
    float scale, lift, inverse;
    bool is_finite;
};

// Of a block whose numbers have these largest bits without their signs, for levels up to `most`.
__device__ __forceinline__ Scaling scaling_of(u32 largest, float most) {
    float absmax = __uint_as_float(largest);
    float lift = absmax < LOW ? LIFT : 1.0f;
    float inverse = largest == 0 ? 0.0f : most / (absmax * lift);
    bool is_finite = largest < Float<float>::INFINITE;
    return {is_finite ? absmax / most : __uint_as_float(0x7fc00000u), lift, inverse, is_finite};
}

// The code of one number.
template <class L> __device__ __forceinline__ u32 encode_nearest(const L &levels, const Scaling &by, float x) {
    return by.is_finite ? levels.nearest(x * by.lift * by.inverse, x) : 0;
}

// The same, then changed for that of the level on the number's other side with the probability that makes it right on average, by a
// random word: (y - level) / (other - level).
template <class L> __device__ __forceinline__ u32 encode_randomly(const L &levels, const Scaling &by, float x, u32 word) {
    u32 code = encode_nearest(levels, by, x);
    float y = x * by.lift * by.inverse, level = levels.level(code);
    y = y < L::LARGEST ? y : L::LARGEST;
    y = y > -L::LARGEST ? y : -L::LARGEST;
    bool is_up = L::BY_MAGNITUDE ? magnitude(y) > magnitude(level) : y > level;
    // At either end there is no other code, and one that wraps around would be taken for one.
    u32 other = is_up ? (code == 255 ? 255 : code + 1) : code == 0 ? 0 : code - 1;
    float other_level = levels.level(other);
    bool is_other = uniform_of(word) < (y - level) / (other_level - level);
    if (L::KEEPS) is_other = other_level > 0.0f ? is_other : x < 0.0f;
    return by.is_finite && is_other ? other : code;
}

// The largest of the numbers' bits without their signs.
template <int N> __device__ __forceinline__ u32 largest_bits(const float (&x)[N]) {
    u32 largest = 0;
#pragma unroll
    for (int k = 0; k < N; k++) {
        u32 bits = __float_as_uint(x[k]) & 0x7fffffffu;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

// The largest that `lanes` neighbours have, a power of two, for each of them; all lanes of the warp must come here.
__device__ __forceinline__ u32 largest_of_lanes(u32 largest, int lanes) {
    for (int half = lanes / 2; half > 0; half /= 2) {
        u32 other = __shfl_xor_sync(EVERY_LANE, largest, half);
        largest = other > largest ? other : largest;
    }
    return largest;
}

template <class L> __device__ __forceinline__ float encode_block(const L &levels, const float (&x)[8], u32 (&codes)[2]) {
    Scaling by = scaling_of(largest_of_lanes(largest_bits(x), WARP), L::LARGEST);
    codes[0] = codes[1] = 0;
#pragma unroll
    for (int k = 0; k < 8; k++) codes[k / 4] |= encode_nearest(levels, by, x[k]) << (k % 4 * 8);
    return by.scale;
}

template <class L>
__device__ __forceinline__ float encode_block_randomly(const L &levels, const float (&x)[8], u32 (&codes)[2],
                                                       const u32 (&words)[8]) {
    Scaling by = scaling_of(largest_of_lanes(largest_bits(x), WARP), L::LARGEST);
    codes[0] = codes[1] = 0;
    // Not unrolled: a kernel would have this eight times for each codec.
#pragma unroll 1
    for (int k = 0; k < 8; k++) {
        float number = x[0];
        u32 word = words[0];
#pragma unroll
        for (int j = 1; j < 8; j++) number = j == k ? x[j] : number, word = j == k ? words[j] : word;
        u32 code = encode_randomly(levels, by, number, word) << (k % 4 * 8);
        codes[0] |= k < 4 ? code : 0;
        codes[1] |= k < 4 ? 0 : code;
    }
    return by.scale;
}

template <class L>
__device__ __forceinline__ void decode_block(const L &levels, const u32 (&codes)[2], float scale, float (&x)[8]) {
#pragma unroll
    for (int k = 0; k < 8; k++) x[k] = levels.level(codes[k / 4] >> (k % 4 * 8) & 0xff) * scale;
}
