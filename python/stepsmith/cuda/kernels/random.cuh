// Philox4x32-10, random numbers by counter; the same lines as rust/random.rs.
//
// Key = seed. Counter words = (block low, block high, step, stream), block = element / 4; element i takes word i mod 4.
// needs: types.cuh

const int ROUNDS = 10;

// A stream of numbers: everything of the counter but the element.
struct Philox {
    u64 seed;
    u32 step;
    u32 stream;
};

// The four words that belong to a block.
__device__ __forceinline__ void philox_words(const Philox &philox, u64 block, u32 (&x)[4]) {
    u32 key[2] = {(u32)philox.seed, (u32)(philox.seed >> 32)};
    x[0] = (u32)block, x[1] = (u32)(block >> 32), x[2] = philox.step, x[3] = philox.stream;
#pragma unroll
    for (int round = 0; round < ROUNDS; round++) {
        u32 a_high = __umulhi(x[0], 0xd2511f53u), a_low = x[0] * 0xd2511f53u;
        u32 b_high = __umulhi(x[2], 0xcd9e8d57u), b_low = x[2] * 0xcd9e8d57u;
        x[0] = b_high ^ x[1] ^ key[0];
        x[1] = b_low;
        x[2] = a_high ^ x[3] ^ key[1];
        x[3] = a_low;
        key[0] += 0x9e3779b9u;
        key[1] += 0xbb67ae85u;
    }
}

// The words of elements i..i + 4, whatever block `i` begins in.
__device__ __forceinline__ void philox_quad(const Philox &philox, u64 i, u32 (&x)[4]) {
    philox_words(philox, i / 4, x);
    u32 skip = (u32)(i & 3);
    if (skip == 0) return;
    u32 next[4], both[4];
    philox_words(philox, i / 4 + 1, next);
#pragma unroll
    for (u32 k = 0; k < 4; k++) {
        u32 from = k + skip;
        both[k] = from == 1 ? x[1] : from == 2 ? x[2] : from == 3 ? x[3] : from == 4 ? next[0] : from == 5 ? next[1] : next[2];
    }
#pragma unroll
    for (int k = 0; k < 4; k++) x[k] = both[k];
}

// In [0, 1): (word >> 8)·2⁻²⁴.
__device__ __forceinline__ float uniform_of(u32 word) { return (float)(word >> 8) * (1.0f / 16777216.0f); }
