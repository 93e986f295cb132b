// Coded state of a tile while a step works on it: codes become float32, the rule steps those, and when all elements of the block are
// new its scale is known and they become codes again; as rust/optim/coded.rs. The numbers lie in the block's dynamic shared memory,
// 32 bytes a thread for each state array, which a launch without coded state does without.
// needs: coded.cuh fold.cuh

// Where a lane's numbers of state array `k` lie from the `n`-th of eight on, up to the next multiple of four; nobody else uses them.
__device__ __forceinline__ float *room(int k, int n) {
    DYNAMIC_SHARED(float4, numbers);
    return (float *)&numbers[(2 * k + n / 4) * blockDim.x + threadIdx.x] + n % 4;
}

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
__device__ __noinline__ void fill(const Row &row, const StateGrids &grids, u64 start) {
    u64 i = start + 4 * lane_of_warp();
#pragma unroll 1
    for (int k = 0; k < MOST_STATE; k++) {
        if (!row.codes[k]) continue;
        u32 codes[2] = {load_codes(row.codes[k], i, row.len), load_codes(row.codes[k], i + LANES, row.len)};
        float x[8];
        decode_state(row.codecs[k], grids, codes, global<const float>(row.scales[k])[start / STATE_BLOCK], x);
#pragma unroll
        for (int n = 0; n < 8; n++) *room(k, n) = x[n];
    }
}

// The numbers from the `n`-th on stand in for the state arrays that have codes.
template <int STATES, class T> __device__ __forceinline__ void stand_in(const Row &row, int n, Part<T> &part) {
#pragma unroll
    for (int k = 0; k < STATES; k++)
        if (row.codes[k])
#pragma unroll
            for (int e = 0; e < Part<T>::COUNT; e++) part.x[STATE + k][e] = (T)room(k, n)[e];
}

// Takes their new values, which belong to the elements from `i` on; zeros behind the last one.
template <int STATES, class T> __device__ __forceinline__ void take(const Row &row, int n, u64 i, const Part<T> &part) {
#pragma unroll
    for (int k = 0; k < STATES; k++)
        if (row.codes[k])
#pragma unroll
            for (int e = 0; e < Part<T>::COUNT; e++) room(k, n)[e] = i + e < row.len ? (float)part.x[STATE + k][e] : 0.0f;
}

// Random words of a lane's elements.
__device__ __forceinline__ void words_of(const Pass &pass, const Row &row, int k, u64 i, u32 (&words)[8]) {
    u32 stream = STATE_ROUNDING_STREAM + row.tensor + k * SLOT_STREAMS;
    Philox philox = {pass.state_rounding_seed, (u32)pass.control->updates, stream};
    u32 four[4];
#pragma unroll
    for (int quad = 0; quad < 2; quad++) {
        philox_words(philox, (i + quad * LANES) / 4, four);
#pragma unroll
        for (int e = 0; e < 4; e++) words[4 * quad + e] = four[e];
    }
}

// Encodes the tile; all lanes of the warp must come here.
__device__ __noinline__ void leave(const Pass &pass, const Row &row, const StateGrids &grids, u64 start) {
    u64 i = start + 4 * lane_of_warp();
#pragma unroll 1
    for (int k = 0; k < MOST_STATE; k++) {
        if (!row.codes[k]) continue;
        u32 codes[2], words[8];
        float x[8], scale;
#pragma unroll
        for (int n = 0; n < 8; n++) x[n] = *room(k, n);
        if (pass.rounds_state) {
            words_of(pass, row, k, i, words);
            scale = encode_state_randomly(row.codecs[k], grids, x, codes, words);
        } else {
            scale = encode_state(row.codecs[k], grids, x, codes);
        }
        store_codes(row.codes[k], i, row.len, codes[0]);
        store_codes(row.codes[k], i + LANES, row.len, codes[1]);
        if (lane_of_warp() == 0) global<float>(row.scales[k])[start / STATE_BLOCK] = scale;
    }
}
