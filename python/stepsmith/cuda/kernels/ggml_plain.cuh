// Blocks of 32 numbers, which eight lanes hold: d, and m if it has one, then codes that stand for code · d (+ m); the same bytes as
// rust/quant/ggml/plain.rs and its kinds.
// needs: ggml_lanes.cuh

enum Kind : int { Q8_0, Q4_0, Q4_1, Q5_0, Q4_K, Q6_K };

// Lanes that hold a block.
const int PLAIN_LANES = 8;

// The largest number below a half: added before a cut, it rounds halves away from zero and all else to the nearest.
constexpr float BELOW_HALF = 0.49999997f;

// The first number of the largest magnitude.
__device__ __forceinline__ float first_absmax(const float (&x)[4]) {
    u32 largest = largest_of_lanes(largest_bits(x), PLAIN_LANES), lane = threadIdx.x % WARP;
    u32 place = 32;
#pragma unroll
    for (int k = 3; k >= 0; k--) place = __float_as_uint(magnitude(x[k])) == largest ? 4 * (lane % PLAIN_LANES) + k : place;
    for (int half = PLAIN_LANES / 2; half > 0; half /= 2) {
        u32 other = __shfl_xor_sync(EVERY_LANE, place, half);
        place = other < place ? other : place;
    }
    u32 k = place % 4;
    float own = k == 0 ? x[0] : k == 1 ? x[1] : k == 2 ? x[2] : x[3];
    return __shfl_sync(EVERY_LANE, own, lane / PLAIN_LANES * PLAIN_LANES + place / 4);
}

// The scale of a block, and what code 0 stands for if that is stored.
struct PlainScale {
    float d, m;
};

__device__ __forceinline__ PlainScale plain_scale(int kind, const float (&x)[4]) {
    if (kind == Q8_0) return {__uint_as_float(largest_of_lanes(largest_bits(x), PLAIN_LANES)) / 127.0f, 0.0f};
    if (kind == Q4_0) return {first_absmax(x) / -8.0f, 0.0f};
    if (kind == Q5_0) return {first_absmax(x) / -16.0f, 0.0f};
    Extremes found = extremes(x, PLAIN_LANES);
    float m = found.least + 0.0f;
    return {(found.largest - saturated(m)) / 15.0f, m};
}

// The code of a number.
__device__ __forceinline__ u32 plain_code(int kind, float x, float m, float id) {
    if (kind == Q8_0) {
        float inside = within(x * id, -127.0f, 127.0f);
        return (u32)(int)(inside + with_sign_of(BELOW_HALF, inside)) & 0xff;
    }
    if (kind == Q4_1) return (u32)(int)within((x - m) * id + 0.5f, 0.0f, 15.0f);
    float zero = kind == Q4_0 ? 8.0f : 16.0f;
    return (u32)(int)within(x * id + (zero + 0.5f), 0.0f, 2.0f * zero - 1.0f);
}

// The fifth bits of all codes of a block.
__device__ __forceinline__ u32 fifth_bits(u32 codes) {
    u32 own = codes >> 4 & 0x01010101u;
    own = (own | own >> 7 | own >> 14 | own >> 21) & 15;
    u32 bits = own << (4 * (threadIdx.x % PLAIN_LANES));
    for (int half = PLAIN_LANES / 2; half > 0; half /= 2) bits |= __shfl_xor_sync(EVERY_LANE, bits, half);
    return bits;
}

// Writes the block if there is one; all lanes of the warp must come here.
__device__ __forceinline__ void encode_plain(int kind, const float (&x)[4], u8 *to, bool is_there) {
    PlainScale scale = plain_scale(kind, x);
    float d = saturated(scale.d), m = saturated(scale.m), id = inverse(d);
    u32 codes = 0, lane = threadIdx.x % PLAIN_LANES;
#pragma unroll
    for (int k = 0; k < 4; k++) codes |= plain_code(kind, x[k], m, id) << (8 * k);
    u32 fifth = fifth_bits(codes), upper = __shfl_xor_sync(EVERY_LANE, codes, PLAIN_LANES / 2);
    if (!is_there) return;
    if (lane == 0) put_f16(to, d);
    if (lane == 0 && kind == Q4_1) put_f16(to + 2, m);
    if (lane == 0 && kind == Q5_0) store_bytes(to + 2, fifth, 4);
    u8 *bytes = to + (kind == Q4_1 ? 4 : kind == Q5_0 ? 6 : 2) + 4 * lane;
    if (kind == Q8_0) {
        store_bytes(bytes, codes, 4);
    } else if (lane < PLAIN_LANES / 2) {
        store_bytes(bytes, (codes & 0x0f0f0f0fu) | (upper & 0x0f0f0f0fu) << 4, 4);
    }
}
