// Sixteen levels: NF4 (Dettmers et al. 2023), and FP4 as bitsandbytes has it; the same codes as rust/quant/fourbit.rs. A number
// halfway between two levels, as float32 has it, takes the lower one.
// needs: values.cuh

// The bits of levels in rising order: quantiles of a normal distribution, with an exact zero.
constexpr u32 NF4_LEVELS[16] = {
    0xbf800000, 0xbf3239b1, 0xbf066b30, 0xbeca32a0, 0xbe91a24d, 0xbe3d353f, 0xbdba7871, 0x00000000,
    0x3da2faff, 0x3e24cae3, 0x3e7c04dd, 0x3ead033a, 0x3ee1a4b8, 0x3f1007ab, 0x3f3913b3, 0x3f800000,
};

// Magnitudes, then the negative ones: 0, 1/192, 1/6, 1/4, 1/3, 1/2, 2/3 and 1.
constexpr u32 FP4_LEVELS[16] = {
    0x00000000, 0x3baaaaab, 0x3e2aaaab, 0x3e800000, 0x3eaaaaab, 0x3f000000, 0x3f2aaaab, 0x3f800000,
    0x80000000, 0xbbaaaaab, 0xbe2aaaab, 0xbe800000, 0xbeaaaaab, 0xbf000000, 0xbf2aaaab, 0xbf800000,
};

// The code of each rank among FP4's levels, in four bits each, the lowest rank in the lowest ones.
constexpr u64 FP4_CODES = 0xbadcfe9832547610ull;

// Halfway between neighbours of the first `N` + 1 levels, as float32 has it.
template <int N> struct Middles {
    float of[N];

    constexpr explicit Middles(const u32 (&bits)[16]) : of() {
        for (int i = 0; i < N; i++) of[i] = (float)((number_of(bits[i]) + number_of(bits[i + 1])) / 2);
    }

    // How many are below a number.
    __device__ __forceinline__ u32 below(float x) const {
        u32 rank = 0;
#pragma unroll
        for (int i = 0; i < N; i++) rank += x > of[i];
        return rank;
    }
};

__device__ __forceinline__ u32 nearest_nf4(float scaled) {
    constexpr Middles<15> middles(NF4_LEVELS);
    return middles.below(scaled);
}

// Zero has no sign, so that its code is one.
__device__ __forceinline__ u32 nearest_fp4(float scaled) {
    constexpr Middles<7> middles(FP4_LEVELS);
    u32 rank = middles.below(magnitude(scaled)) + (scaled < -middles.of[0] ? 8 : 0);
    return (u32)(FP4_CODES >> (4 * rank)) & 15;
}
