// What the kinds of GGML's blocks share; see rust/quant/ggml. A warp holds 256 numbers, eight a lane: 4l..4l + 4 and 128 + 4l..,
// which are a block of 256 or eight of 32. Lanes that hold a block's quads are a team.
// needs: bytes.cuh finite.cuh scaled.cuh

constexpr float F16_MAX = 65504.0f;

// From here on a number is nearer to 2^16 than to the largest float16.
constexpr float F16_OVERFLOW = 65520.0f;

// Writes a float16; what is beyond its range becomes its largest number.
__device__ __forceinline__ void put_f16(u8 *to, float x) {
    store_bytes(to, to_f16(x > F16_MAX ? F16_MAX : x < -F16_MAX ? -F16_MAX : x), 2);
}

__device__ __forceinline__ float get_f16(const u8 *from) { return from_f16((u16)load_bytes(from, 2)); }

// The number, or the largest float16 in the place of a larger one.
__device__ __forceinline__ float saturated(float x) { return magnitude(x) < F16_OVERFLOW ? x : with_sign_of(F16_MAX, x); }

// What is written is read back as it is then: the number as float16.
__device__ __forceinline__ float as_f16(float x) { return from_f16(to_f16(x > F16_MAX ? F16_MAX : x < -F16_MAX ? -F16_MAX : x)); }

// 1 / scale, or 0 where that is no number: such a scale becomes 0 in float16.
__device__ __forceinline__ float inverse(float scale) {
    float inverse = 1.0f / scale;
    return is_finite(inverse) ? inverse : 0.0f;
}

// `x`, but no less than `low` and no more than `high`.
__device__ __forceinline__ float within(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

// Half to even, then within the bounds.
__device__ __forceinline__ float rounded(float x, float low, float high) { return within(rintf(x), low, high); }

// The sum of a team's numbers by halves: number i + number i + half of them, then halves of what is left; for all its lanes.
__device__ __forceinline__ float total(const float (&x)[4], int lanes) {
    float sums[4] = {x[0], x[1], x[2], x[3]};
    for (int half = lanes / 2; half > 0; half /= 2)
#pragma unroll
        for (int k = 0; k < 4; k++) sums[k] += __shfl_xor_sync(EVERY_LANE, sums[k], half);
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

// The largest and the smallest of a team's numbers.
struct Extremes {
    float largest, least;
};

__device__ __forceinline__ Extremes extremes(const float (&x)[4], int lanes) {
    Extremes found = {larger(larger(x[0], x[1]), larger(x[2], x[3])), -larger(larger(-x[0], -x[1]), larger(-x[2], -x[3]))};
    for (int half = lanes / 2; half > 0; half /= 2) {
        found.largest = larger(found.largest, __shfl_xor_sync(EVERY_LANE, found.largest, half));
        found.least = -larger(-found.least, -__shfl_xor_sync(EVERY_LANE, found.least, half));
    }
    return found;
}

// Four numbers, which are whole and at least 0, as bytes of a word; the first in the lowest byte.
__device__ __forceinline__ u32 to_bytes(const float (&x)[4]) {
    return (u32)(int)x[0] & 0xff | ((u32)(int)x[1] & 0xff) << 8 | ((u32)(int)x[2] & 0xff) << 16 | (u32)(int)x[3] << 24;
}

// One of the two quads of a lane, which a loop works on in turn.
__device__ __forceinline__ void pick(const float (&x)[2][4], u32 j, float (&own)[4]) {
#pragma unroll
    for (int k = 0; k < 4; k++) own[k] = j == 0 ? x[0][k] : x[1][k];
}
