// Coded state of a tile while a step works on it: codes become float32, the rule steps those, and when all elements of the block are
// new its scale is known and they become codes again; as rust/optim/coded.rs.
// needs: coded.cuh fold.cuh

// The numbers that belong to a lane: eight for each state array.
template <int STATES> struct Decoded {
    float numbers[STATES][8];
};

// Four codes of elements i..i + 4, the first in the lowest byte; zeros behind the last one.
__device__ __forceinline__ u32 load_codes(u64 codes, u64 i, u64 len) {
    if (i + 4 <= len) return *global<const u32>(codes + i);
    u32 four = 0;
    for (u32 e = 0; e < 4; e++)
        if (i + e < len) four |= (u32)*global<const u8>(codes + i + e) << (8 * e);
    return four;
}

__device__ __forceinline__ void store_codes(u64 codes, u64 i, u64 len, u32 four) {
    if (i + 4 <= len) {
        *global<u32>(codes + i) = four;
        return;
    }
    for (u32 e = 0; e < 4; e++)
        if (i + e < len) *global<u8>(codes + i + e) = (u8)(four >> (8 * e));
}

// Decodes the tile that begins at `start`.
template <int STATES>
__device__ __forceinline__ void fill(const Row &row, const StateGrids &grids, u64 start, Decoded<STATES> &decoded) {
    u64 i = start + 4 * lane_of_warp();
#pragma unroll
    for (int k = 0; k < STATES; k++) {
        if (!row.codes[k]) continue;
        u32 codes[2] = {load_codes(row.codes[k], i, row.len), load_codes(row.codes[k], i + LANES, row.len)};
        decode_state(row.codecs[k], grids, codes, global<const float>(row.scales[k])[start / STATE_BLOCK], decoded.numbers[k]);
    }
}

// The numbers of quad 0 or 1 stand in for the state arrays that have codes.
template <int STATES, class T>
__device__ __forceinline__ void stand_in(const Row &row, const Decoded<STATES> &decoded, int quad, Quads<T> &quads) {
#pragma unroll
    for (int k = 0; k < STATES; k++)
        if (row.codes[k])
#pragma unroll
            for (int e = 0; e < 4; e++) quads.x[STATE + k][e] = (T)(quad ? decoded.numbers[k][4 + e] : decoded.numbers[k][e]);
}

// Takes the new numbers of a quad of elements i..i + 4.
template <int STATES, class T>
__device__ __forceinline__ void take(const Row &row, const Quads<T> &quads, int quad, u64 i, Decoded<STATES> &decoded) {
#pragma unroll
    for (int k = 0; k < STATES; k++)
        if (row.codes[k])
#pragma unroll
            for (int e = 0; e < 4; e++) {
                float number = i + e < row.len ? (float)quads.x[STATE + k][e] : 0.0f;
                decoded.numbers[k][e] = quad ? decoded.numbers[k][e] : number;
                decoded.numbers[k][4 + e] = quad ? number : decoded.numbers[k][4 + e];
            }
}

// Random words of the lane's elements.
__device__ __forceinline__ void words_of(const Pass &pass, const Row &row, u64 updates, int k, u64 i, u32 (&words)[8]) {
    Philox philox = {pass.state_rounding_seed, (u32)updates, STATE_ROUNDING_STREAM + row.tensor + k * SLOT_STREAMS};
    u32 four[4];
#pragma unroll
    for (int q = 0; q < 2; q++) {
        philox_words(philox, (i + q * LANES) / 4, four);
#pragma unroll
        for (int e = 0; e < 4; e++) words[4 * q + e] = four[e];
    }
}

// Encodes the tile; all lanes of the warp must come here.
template <int STATES>
__device__ __forceinline__ void leave(const Pass &pass, const Row &row, const StateGrids &grids, u64 updates, u64 start,
                                      const Decoded<STATES> &decoded) {
    u64 i = start + 4 * lane_of_warp();
#pragma unroll
    for (int k = 0; k < STATES; k++) {
        if (!row.codes[k]) continue;
        u32 codes[2], words[8];
        float scale;
        if (pass.rounds_state) {
            words_of(pass, row, updates, k, i, words);
            scale = encode_state_randomly(row.codecs[k], grids, decoded.numbers[k], codes, words);
        } else {
            scale = encode_state(row.codecs[k], grids, decoded.numbers[k], codes);
        }
        store_codes(row.codes[k], i, row.len, codes[0]);
        store_codes(row.codes[k], i + LANES, row.len, codes[1]);
        if (lane_of_warp() == 0) global<float>(row.scales[k])[start / STATE_BLOCK] = scale;
    }
}
