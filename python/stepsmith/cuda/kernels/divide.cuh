// Quotients by a number that a kernel gets as an argument: products where an index fits 32 bits, as most do.
// needs: types.cuh

// Mirrors `DIVISOR` of stepsmith/cuda/_arrays.py: `inverse` is 2^64 / n rounded up, 0 for n = 1.
struct Divisor {
    u64 n;
    u64 inverse;
};

// Of a number and by a number of 32 bits.
__device__ __forceinline__ u32 short_quotient(u32 i, const Divisor &by) {
    u64 low = i * (by.inverse & 0xffffffffu), high = i * (by.inverse >> 32);
    return by.n == 1 ? i : (u32)((high + (low >> 32)) >> 32);
}

__device__ __forceinline__ u64 quotient(u64 i, const Divisor &by) {
    return i >> 32 || by.n >> 32 ? i / by.n : short_quotient((u32)i, by);
}

__device__ __forceinline__ u64 remainder(u64 i, const Divisor &by) { return i - quotient(i, by) * by.n; }
