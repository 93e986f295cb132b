// Arrays to codes by blocks that share something, and back; see rust/quant/codec.rs. Some lanes of a warp, its team, work on a
// block, each on quads of it.
// needs: bytes.cuh geometry.cuh finite.cuh codec.cuh

// The part of a warp that works on a block.
struct Team {
    u32 lanes; // of a team, a power of two
    u32 lane;  // of this thread in it
    u32 index; // of the team in its warp
    u32 quads; // that a lane works on, one after another
};

__device__ __forceinline__ Team team_of(const Geometry &geometry) {
    u32 log = geometry.log - 2 < 5 ? geometry.log - 2 : 5, lane = threadIdx.x % WARP;
    return {1u << log, lane & ((1u << log) - 1), lane >> log, 1u << (geometry.log - 2 - log)};
}

// Of codes of four bits a block with a float32 scale has the first one of a byte in its high half.
__device__ __forceinline__ u32 packed(const Codec &codec, const Geometry &geometry, u32 codes) {
    return geometry.bits == 8 ? codes : codec.sharing == ABSMAX ? pack_high(codes) : pack_low(codes);
}

__device__ __forceinline__ u32 unpacked(const Codec &codec, const Geometry &geometry, u32 word) {
    return geometry.bits == 8 ? word : codec.sharing == ABSMAX ? unpack_high(word) : unpack_low(word);
}

// The first `count` bytes.
__device__ __forceinline__ u32 first_bytes(u32 word, u32 count) { return count == 4 ? word : word & ((1u << (8 * count)) - 1); }

// Each team reads its block for the largest magnitude, and once more for the codes unless it holds all of it.
KERNEL(quantize)(Array x, Geometry geometry, Codec codec, const float *tensor, u8 *codes, void *scales, u64 *first_nan) {
    if (tensor) codec.tensor = *tensor;
    Grids grids = grids_of(codec.rounding);
    __syncthreads();
    Team team = team_of(geometry);
    u64 teams = WARP / team.lanes, warp = ((u64)blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    u64 stride = (u64)gridDim.x * blockDim.x / WARP * teams, blocks = blocks_of(geometry);
    u32 steps = team.quads == 1 ? 1 : 2 * team.quads;
    for (u64 first = warp * teams; first < blocks; first += stride) {
        u64 block = first + team.index;
        u32 largest = 0;
        Share share = {0.0f, 1.0f, 1.0f, 0, true};
        for (u32 step = 0; step < steps; step++) {
            Quad quad = quad_of(geometry, block, (step & (team.quads - 1)) * team.lanes + team.lane);
            float numbers[4];
            load_finite(x, quad.start, quad.start + quad.count, saturates(codec), first_nan, numbers);
            if (step < team.quads) {
                u32 found = largest_bits(numbers);
                largest = found > largest ? found : largest;
            }
            if (step + 1 == team.quads) {
                share = share_of(codec, largest_of_lanes(largest, team.lanes));
                if (team.lane == 0 && block < blocks) store_share(codec, share, scales, block);
            }
            if (step + team.quads < steps) continue;
            u32 found = first_bytes(encode_quad(codec, grids, share, numbers), quad.count);
            store_bytes(codes + quad.code, packed(codec, geometry, found), bytes_of(geometry, quad));
        }
    }
}

// Quads that a thread reads before it works on them: codes are few bytes, and many must be under way.
const u32 AHEAD = 4;

// The numbers of a quad's codes.
__device__ __forceinline__ void decode_quad(const float *numbers, u32 codes, float factor, float (&x)[4]) {
#pragma unroll
    for (int k = 0; k < 4; k++) x[k] = numbers[code_of(codes, k)] * factor;
}

// `numbers` are those of all codes. Whole quads of one row, which lie on boundaries, go fast.
KERNEL(dequantize)(const u8 *codes, const void *scales, const float *numbers, Geometry geometry, Codec codec, const float *tensor,
                   Array out) {
    if (tensor) codec.tensor = *tensor;
    SHARED(float, table, 256);
    for (u32 i = threadIdx.x; i < 1u << geometry.bits; i += blockDim.x) table[i] = numbers[i];
    __syncthreads();
    u64 stride = (u64)gridDim.x * blockDim.x, thread = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    u32 log = geometry.log - 2, bytes = geometry.bits / 2;
    u64 whole = geometry.rows == 1 && out.quads ? geometry.len / 4 : 0;
    for (u64 first = thread; first < whole; first += AHEAD * stride) {
        u32 words[AHEAD];
#pragma unroll
        for (u32 k = 0; k < AHEAD; k++) {
            u64 at = first + k * stride;
            words[k] = at < whole ? load_bytes(codes + at * bytes, bytes) : 0;
        }
#pragma unroll
        for (u32 k = 0; k < AHEAD; k++) {
            u64 at = first + k * stride;
            if (at >= whole) break;
            float found[4];
            decode_quad(table, unpacked(codec, geometry, words[k]), factor_of(codec, scales, at >> log), found);
            store_quad<float>(out.address + at * 4 * out.item, out.dtype, found);
        }
    }
    for (u64 at = whole + thread; at < blocks_of(geometry) << log; at += stride) {
        Quad quad = quad_of(geometry, at >> log, (u32)(at & ((1u << log) - 1)));
        if (quad.count == 0) continue;
        float found[4];
        u32 word = load_bytes(codes + quad.code, bytes_of(geometry, quad));
        decode_quad(table, unpacked(codec, geometry, word), factor_of(codec, scales, at >> log), found);
        store4<float>(out, quad.start, quad.start + quad.count, found);
    }
}

// The largest magnitude of an array, infinity being the largest number, and the place of its first NaN.
KERNEL(survey)(Array x, u64 n, u64 *largest, u64 *first_nan) {
    u32 found = 0;
    for (u64 i = first_quad(); i < n; i += quad_stride()) {
        float numbers[4];
        load_finite(x, i, n, true, first_nan, numbers);
        u32 own = largest_bits(numbers);
        found = own > found ? own : found;
    }
    found = largest_of_lanes(found, WARP);
    if (threadIdx.x % WARP == 0 && found > 0) atomicMax(largest, (u64)found);
}
