// Blocks of 256 numbers, which a warp holds; the same bytes as rust/quant/ggml/q4_k.rs and q6_k.rs.
// needs: ggml_lanes.cuh

// Scales that are no larger are zero, ranges that are no wider a point.
constexpr float POINT = 1e-30f;

// Numbers as far as there are codes: nothing that is summed overflows then.
__device__ __forceinline__ void limit(float (&x)[2][4], float low, float high) {
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
        for (int k = 0; k < 4; k++) x[j][k] = within(x[j][k], low, high);
}

// What a block's line is before its numbers are rounded: code · scale - low, neither below zero.
struct FittedLine {
    float scale, low;
};

// A quad's codes on a line as whole numbers.
__device__ __forceinline__ void codes_on(const float (&x)[4], float low, float inverse, float (&codes)[4]) {
#pragma unroll
    for (int k = 0; k < 4; k++) codes[k] = rounded((x[k] + low) * inverse, 0.0f, 15.0f);
}

__device__ __forceinline__ float total_of_products(const float (&a)[4], const float (&b)[4], int lanes) {
    float products[4] = {a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]};
    return total(products, lanes);
}

// The line through (code, number) with the least squared error, through zero if it would begin above; the one that the codes were
// made with if they are all alike.
__device__ __forceinline__ FittedLine regress(const float (&x)[4], const float (&p)[4], float sum, FittedLine line) {
    float codes = total(p, 8), squares = total_of_products(p, p, 8), products = total_of_products(p, x, 8);
    float spread = 32.0f * squares - codes * codes;
    if (spread == 0.0f) return line;
    float scale = (32.0f * products - codes * sum) / spread;
    float low = (scale * codes - sum) * (1.0f / 32.0f);
    if (low < 0.0f) return {products / squares, 0.0f};
    return {scale, low};
}

__device__ __forceinline__ float error_of(const float (&x)[4], const float (&p)[4], FittedLine line) {
    float errors[4];
#pragma unroll
    for (int k = 0; k < 4; k++) errors[k] = x[k] - (p[k] * line.scale - line.low);
    return total_of_products(errors, errors, 8);
}

// The line of the least squared error among those that codes of some numbers of steps imply: some numbers at the ends of a block's
// range may be cut off.
__device__ __forceinline__ FittedLine fit_line(const float (&x)[4]) {
    Extremes found = extremes(x, 8);
    float low = larger(-found.least, 0.0f), range = found.largest + low, sum = total(x, 8);
    FittedLine best = {0.0f, low};
    float least_error = __uint_as_float(Float<float>::INFINITE);
#pragma unroll 1
    for (int k = 0; k < 4; k++) {
        float scale = range / (13.5f + 0.5f * k), codes[4];
        codes_on(x, low, scale > POINT ? 1.0f / scale : 0.0f, codes);
        FittedLine line = regress(x, codes, sum, {scale, low});
        float error = error_of(x, codes, line);
        if (error < least_error) best = line, least_error = error;
    }
    return best;
}

// The largest of what the teams of a warp have; `x` is the same in all lanes of a team.
__device__ __forceinline__ float largest_of_teams(float x, int lanes) {
    for (int step = lanes; step < WARP; step *= 2) x = larger(x, __shfl_xor_sync(EVERY_LANE, x, step));
    return x;
}

// Eight blocks of 32, each with a scale and a minimum of six bits: d and dmin, twelve bytes of scales and minimums, then bytes of
// two codes: block 2p in the low halves of 32 bytes, block 2p + 1 in the high ones. A team holds blocks t and t + 4.
__device__ __forceinline__ void encode_q4_k(float (&x)[2][4], u8 *to) {
    u32 lane = threadIdx.x % WARP, team = lane / 8;
    limit(x, -63.0f * F16_MAX, 15.0f * 63.0f * F16_MAX);
    FittedLine lines[2];
#pragma unroll 1
    for (u32 j = 0; j < 2; j++) {
        float own[4];
        pick(x, j, own);
        FittedLine line = fit_line(own);
        lines[0] = j == 0 ? line : lines[0], lines[1] = line;
    }
    FittedLine most = {larger(lines[0].scale, larger(lines[1].scale, 0.0f)), larger(lines[0].low, larger(lines[1].low, 0.0f))};
    float d = as_f16(largest_of_teams(most.scale, 8) / 63.0f), dmin = as_f16(largest_of_teams(most.low, 8) / 63.0f);
    float by_scale = inverse(d), by_low = inverse(dmin);
    u32 sc[2], mn[2];
#pragma unroll
    for (int j = 0; j < 2; j++) {
        sc[j] = (u32)rounded(lines[j].scale * by_scale, 0.0f, 63.0f);
        mn[j] = (u32)rounded(lines[j].low * by_low, 0.0f, 63.0f);
        float codes[4];
        codes_on(x[j], dmin * (float)mn[j], inverse(d * (float)sc[j]), codes);
        u32 own = to_bytes(codes), other = __shfl_xor_sync(EVERY_LANE, own, 8);
        if (team % 2 == 0) store_bytes(to + 16 + (2 * j + team / 2) * 32 + 4 * (lane % 8), own | other << 4, 4);
    }
    if (lane == 0) put_f16(to, d), put_f16(to + 2, dmin);
    if (lane % 8 == 0) {
        // Blocks 0 to 3 have six bits of a byte each, those of 4 to 7 are cut in two: the upper two bits stand above them.
        to[4 + team] = (u8)(sc[0] | sc[1] >> 4 << 6);
        to[8 + team] = (u8)(mn[0] | mn[1] >> 4 << 6);
        to[12 + team] = (u8)((sc[1] & 15) | mn[1] << 4);
    }
}

__device__ __forceinline__ void codes_by(const float (&x)[4], float inverse, float (&codes)[4]) {
#pragma unroll
    for (int k = 0; k < 4; k++) codes[k] = rounded(x[k] * inverse, -32.0f, 31.0f);
}

// The scale of the least squared error among those that codes of some numbers of steps imply: it takes Σ code·x · scale from Σ x².
__device__ __forceinline__ float fit_scale(const float (&x)[4]) {
    Extremes found = extremes(x, 4);
    float top = found.largest > -found.least ? found.largest : found.least;
    float best = 0.0f, most = -1.0f;
#pragma unroll 1
    for (int k = 0; k < 4; k++) {
        float start = top / -(30.0f + k), codes[4];
        codes_by(x, magnitude(start) > POINT ? 1.0f / start : 0.0f, codes);
        float products = total_of_products(codes, x, 4);
        float scale = products / total_of_products(codes, codes, 4);
        if (products * scale > most) best = scale, most = products * scale;
    }
    return best;
}

// The first of sixteen scales with the largest magnitude, 0 without a sign if all are zero. Lane 4t holds the scales of blocks t
// and t + 8.
__device__ __forceinline__ float top_of_scales(const float (&scales)[2]) {
    u32 place = magnitude(scales[1]) > magnitude(scales[0]) ? 8 : 0;
    float top = place ? scales[1] : scales[0];
    place += threadIdx.x % WARP / 4;
    for (int step = 4; step < WARP; step *= 2) {
        float other = __shfl_xor_sync(EVERY_LANE, top, step);
        u32 its_place = __shfl_xor_sync(EVERY_LANE, place, step);
        bool is_other = magnitude(other) > magnitude(top) || (magnitude(other) == magnitude(top) && its_place < place);
        top = is_other ? other : top, place = is_other ? its_place : place;
    }
    return top == 0.0f ? 0.0f : top;
}

// Sixteen blocks of 16, each with a scale of eight bits: the low four bits of all codes, the upper two, scales, d. In each half
// of the 256, rows of 32 codes lie above one another: rows 0 and 2, rows 1 and 3 share bytes of low bits, all four the bytes of
// upper ones.
__device__ __forceinline__ void encode_q6_k(float (&x)[2][4], u8 *to) {
    u32 lane = threadIdx.x % WARP, row = lane / 8, at = 4 * (lane % 8);
    limit(x, -128.0f * 32.0f * F16_MAX, 128.0f * 32.0f * F16_MAX);
    float scales[2];
#pragma unroll 1
    for (u32 half = 0; half < 2; half++) {
        float own[4];
        pick(x, half, own);
        float scale = fit_scale(own);
        scales[0] = half == 0 ? scale : scales[0], scales[1] = scale;
    }
    float d = as_f16(top_of_scales(scales) / -128.0f + 0.0f), by_scale = inverse(d);
    if (lane == 0) put_f16(to + 208, d);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int sc = (int)rounded(scales[half] * by_scale, -128.0f, 127.0f);
        if (lane % 4 == 0) to[192 + 8 * half + lane / 4] = (u8)sc;
        float codes[4];
        codes_by(x[half], inverse(d * (float)sc), codes);
#pragma unroll
        for (int k = 0; k < 4; k++) codes[k] += 32.0f;
        u32 own = to_bytes(codes), below = __shfl_xor_sync(EVERY_LANE, own, 16);
        if (row < 2) store_bytes(to + (2 * half + row) * 32 + at, (own & 0x0f0f0f0fu) | (below & 0x0f0f0f0fu) << 4, 4);
        u32 upper = (own >> 4 & 0x03030303u) << (2 * row);
        upper |= __shfl_xor_sync(EVERY_LANE, upper, 8);
        upper |= __shfl_xor_sync(EVERY_LANE, upper, 16);
        if (row == 0) store_bytes(to + 128 + half * 32 + at, upper, 4);
    }
}
