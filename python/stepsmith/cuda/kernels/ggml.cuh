// Arrays to GGML's blocks and back.
// needs: ggml_plain.cuh ggml_k.cuh

__device__ __forceinline__ u32 bytes_of_kind(int kind) {
    switch (kind) {
    case Q8_0: return 34;
    case Q4_0: return 18;
    case Q4_1: return 20;
    case Q5_0: return 22;
    case Q4_K: return 144;
    default: return 210;
    }
}

KERNEL(quantize_ggml)(Array x, u64 n, int kind, u8 *codes, u64 *first_nan) {
    u64 warps = (u64)gridDim.x * blockDim.x / WARP, warp = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    u32 lane = threadIdx.x % WARP, bytes = bytes_of_kind(kind);
    for (u64 first = 256 * warp; first < n; first += 256 * warps) {
        u8 *to = codes + first / (kind < Q4_K ? 32 : 256) * bytes;
        float numbers[2][4];
#pragma unroll
        for (int j = 0; j < 2; j++) load_finite(x, first + 128 * j + 4 * lane, n, true, first_nan, numbers[j]);
        if (kind == Q4_K) {
            encode_q4_k(numbers, to);
        } else if (kind == Q6_K) {
            encode_q6_k(numbers, to);
        } else {
#pragma unroll 1
            for (u32 j = 0; j < 2; j++) {
                u32 block = 4 * j + lane / PLAIN_LANES;
                float own[4];
                pick(numbers, j, own);
                encode_plain(kind, own, to + block * bytes, first + 32 * block < n);
            }
        }
    }
}

// Four codes, one a byte: each stands for (code - zero) · scale, and `offset` more if there is one.
struct Coded {
    u32 codes;
    int zero;
    float scale, offset;
    bool has_offset;
};

// Half `half` of the bytes.
__device__ __forceinline__ u32 nibbles(const u8 *from, u32 half) { return load_bytes(from, 4) >> (4 * half) & 0x0f0f0f0fu; }

// Numbers `at`..`at` + 4 of a block of 32.
__device__ __forceinline__ Coded decode_plain(int kind, const u8 *from, u32 at) {
    float d = get_f16(from);
    // As if eight bits with a sign had their zero in the middle.
    if (kind == Q8_0) return {load_bytes(from + 2 + at, 4) ^ 0x80808080u, 128, d, 0.0f, false};
    u32 half = at / 16, place = at % 16;
    if (kind == Q4_0) return {nibbles(from + 2 + place, half), 8, d, 0.0f, false};
    if (kind == Q4_1) return {nibbles(from + 4 + place, half), 0, d, get_f16(from + 2), true};
    u32 fifth = load_bytes(from + 2, 4) >> at;
    u32 spread = (fifth & 1) | (fifth & 2) << 7 | (fifth & 4) << 14 | (fifth & 8) << 21;
    return {nibbles(from + 6 + place, half) | spread << 4, 16, d, 0.0f, false};
}

// Those of a block of 256.
__device__ __forceinline__ Coded decode_q4_k(const u8 *from, u32 at) {
    u32 block = at / 32, k = block % 4, a = from[4 + k], b = from[8 + k], low = from[12 + k];
    u32 sc = block < 4 ? a & 63 : (low & 15) | a >> 6 << 4, mn = block < 4 ? b & 63 : low >> 4 | b >> 6 << 4;
    float scale = get_f16(from) * (float)sc, offset = get_f16(from + 2) * (float)mn;
    return {nibbles(from + 16 + block / 2 * 32 + at % 32, block % 2), 0, scale, -offset, true};
}

__device__ __forceinline__ Coded decode_q6_k(const u8 *from, u32 at) {
    u32 half = at / 128, row = at / 32 % 4, place = at % 32;
    u32 low = nibbles(from + (2 * half + row % 2) * 32 + place, row / 2);
    u32 upper = load_bytes(from + 128 + half * 32 + place, 4) >> (2 * row) & 0x03030303u;
    float scale = get_f16(from + 208) * (float)(i8)from[192 + at / 16];
    return {low | upper << 4, 32, scale, 0.0f, false};
}

KERNEL(dequantize_ggml)(const u8 *codes, int kind, u64 n, Array out) {
    u32 bytes = bytes_of_kind(kind);
    for (u64 i = first_quad(); i < n; i += quad_stride()) {
        Coded found = kind == Q4_K   ? decode_q4_k(codes + i / 256 * bytes, (u32)(i % 256))
                      : kind == Q6_K ? decode_q6_k(codes + i / 256 * bytes, (u32)(i % 256))
                                     : decode_plain(kind, codes + i / 32 * bytes, (u32)(i % 32));
        float numbers[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            numbers[k] = (float)((int)code_of(found.codes, k) - found.zero) * found.scale;
            if (found.has_offset) numbers[k] = numbers[k] + found.offset;
        }
        store4<float>(out, i, n, numbers);
    }
}
