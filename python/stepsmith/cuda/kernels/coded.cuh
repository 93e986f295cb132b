// State kept as codes of eight bits: a block of 256 elements in C order shares a scale, and a warp works on one block; see
// scaled.cuh for how it holds the numbers and the codes. The same codecs as rust/optim/coded.rs.
// needs: scaled.cuh dynamic8.cuh float8.cuh

// Elements that share a scale.
const u32 STATE_BLOCK = 256;

// How a state array is coded. Without signs what is above zero stays so: a second moment of 0 would make a step of any size.
enum StateCodec : int { DYNAMIC8, UNSIGNED_DYNAMIC8, E4M3, UE5M3 };

// What the codecs look up.
struct StateGrids {
    Dynamic8<true, false> dynamic8;
    Dynamic8<false, true> unsigned_dynamic8;
};

// In shared memory; all threads of a block must come here, which may use them after the next __syncthreads().
__device__ __forceinline__ StateGrids state_grids(bool are_wanted = true) {
    return {{shared_grid<true>(are_wanted)}, {shared_grid<false>(are_wanted)}};
}

__device__ __forceinline__ void decode_state(int codec, const StateGrids &grids, const u32 (&codes)[2], float scale,
                                             float (&x)[8]) {
    switch (codec) {
    case DYNAMIC8: return decode_block(grids.dynamic8, codes, scale, x);
    case UNSIGNED_DYNAMIC8: return decode_block(grids.unsigned_dynamic8, codes, scale, x);
    case E4M3: return decode_block(Float8<E4m3>(), codes, scale, x);
    default: return decode_block(Ue5m3<true>(), codes, scale, x);
    }
}

// Returns the scale; the codec must be the same for all lanes.
__device__ __forceinline__ float encode_state(int codec, const StateGrids &grids, const float (&x)[8], u32 (&codes)[2]) {
    switch (codec) {
    case DYNAMIC8: return encode_block(grids.dynamic8, x, codes);
    case UNSIGNED_DYNAMIC8: return encode_block(grids.unsigned_dynamic8, x, codes);
    case E4M3: return encode_block(Float8<E4m3>(), x, codes);
    default: return encode_block(Ue5m3<true>(), x, codes);
    }
}

// With random words each number becomes one of the two levels around it, without bias.
__device__ __forceinline__ float encode_state_randomly(int codec, const StateGrids &grids, const float (&x)[8], u32 (&codes)[2],
                                                       const u32 (&words)[8]) {
    switch (codec) {
    case DYNAMIC8: return encode_block_randomly(grids.dynamic8, x, codes, words);
    case UNSIGNED_DYNAMIC8: return encode_block_randomly(grids.unsigned_dynamic8, x, codes, words);
    case E4M3: return encode_block_randomly(Float8<E4m3>(), x, codes, words);
    default: return encode_block_randomly(Ue5m3<true>(), x, codes, words);
    }
}
