// Quotients by a number that a kernel gets as an argument: a product where an index fits 32 bits, as most do.
// needs: types.cuh

// Mirrors `DIVISOR` of stepsmith/cuda/_arrays.py: `inverse` is 2^64 / n rounded up, 0 for n = 1.
struct Divisor {
    u64 n;
    u64 inverse;
};

__device__ __forceinline__ u64 quotient(u64 i, const Divisor &by) {
    if (by.n == 1) return i;
    return i >> 32 || by.n >> 32 ? i / by.n : __umul64hi(i, by.inverse);
}

__device__ __forceinline__ u64 remainder(u64 i, const Divisor &by) { return i - quotient(i, by) * by.n; }
