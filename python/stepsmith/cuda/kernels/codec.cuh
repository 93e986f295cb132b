// A codec of blocks: how a number is rounded, and what the elements of a block share; one kernel for all of them.
// needs: dynamic8.cuh float8.cuh fourbit.cuh micro.cuh

// How numbers are rounded once they are scaled.
enum Rounding : int { TO_DYNAMIC8, TO_UNSIGNED_DYNAMIC8, TO_NF4, TO_FP4, TO_E4M3, TO_E5M2, TO_UE5M3, TO_E2M1 };

// What the elements of a block share: nothing; absmax / largest level as float32; a power of two as a byte; a number under the
// tensor's as a byte.
enum Sharing : int { NOTHING, ABSMAX, POWER, UNDER_TENSOR };

// Mirrors `CODEC` of stepsmith/cuda/quant.py.
struct Codec {
    int rounding;
    int sharing;
    float largest; // level
    u32 most;      // exponent of the largest number
    float tensor;  // scale
};

// Of one block: numbers are multiplied by lift and inverse, one after the other; without `has_codes` all codes are 0.
struct Share {
    float scale, lift, inverse;
    u32 byte;
    bool has_codes;
};

// Infinity becomes the largest number, unless a block with one is NaN.
__device__ __forceinline__ bool saturates(const Codec &codec) { return codec.sharing != POWER; }

// Of a block whose numbers have these largest bits without their signs.
__device__ __forceinline__ Share share_of(const Codec &codec, u32 largest) {
    if (codec.sharing == ABSMAX) {
        Scaling by = scaling_of(largest, codec.largest);
        return {by.scale, by.lift, by.inverse, 0, by.is_finite};
    }
    if (codec.sharing == POWER) {
        u32 byte = power_of_two(largest, codec.most);
        return {0.0f, 1.0f, inverse_of_power(byte), byte, byte != E8M0_NAN};
    }
    if (codec.sharing == UNDER_TENSOR) {
        // The inverse of a tiny scale may be no number, so that numbers are lifted first; a scale of zero makes them zero.
        u32 byte = under_tensor(__uint_as_float(largest), codec.tensor);
        float value = value_under_tensor(byte, codec.tensor), lift = value < LOW ? LIFT : 1.0f;
        return {0.0f, lift, value > 0.0f ? 1.0f / (value * lift) : 0.0f, byte, true};
    }
    return {0.0f, 1.0f, 1.0f, 0, true};
}

__device__ __forceinline__ void store_share(const Codec &codec, const Share &share, void *scales, u64 block) {
    if (codec.sharing == ABSMAX) {
        ((float *)scales)[block] = share.scale;
    } else if (codec.sharing != NOTHING) {
        ((u8 *)scales)[block] = (u8)share.byte;
    }
}

// What the numbers of a block's codes are multiplied by.
__device__ __forceinline__ float factor_of(const Codec &codec, const void *scales, u64 block) {
    switch (codec.sharing) {
    case ABSMAX: return ((const float *)scales)[block];
    case POWER: return value_of_power(((const u8 *)scales)[block]);
    case UNDER_TENSOR: return value_under_tensor(((const u8 *)scales)[block], codec.tensor);
    default: return 1.0f;
    }
}

// What `round_to` looks up.
struct Grids {
    Dynamic8<true, false> dynamic8;
    Dynamic8<false, false> unsigned_dynamic8;
};

// In shared memory, that which is needed; all threads of a block must come here, which may use it after the next __syncthreads().
__device__ __forceinline__ Grids grids_of(int rounding) {
    return {{shared_grid<true>(rounding == TO_DYNAMIC8)}, {shared_grid<false>(rounding == TO_UNSIGNED_DYNAMIC8)}};
}

// The code next to a scaled number.
__device__ __forceinline__ u32 round_to(int rounding, const Grids &grids, float x) {
    switch (rounding) {
    case TO_DYNAMIC8: return grids.dynamic8.nearest(x, x);
    case TO_UNSIGNED_DYNAMIC8: return grids.unsigned_dynamic8.nearest(x, x);
    case TO_NF4: return nearest_nf4(x);
    case TO_FP4: return nearest_fp4(x);
    case TO_E4M3: return encode_finite<E4m3>(x);
    case TO_E5M2: return encode_finite<E5m2>(x);
    case TO_UE5M3: return Ue5m3<false>().nearest(x, x);
    default: return encode_finite<E2m1>(x);
    }
}

// The codes of four numbers of a block, one a byte.
__device__ __forceinline__ u32 encode_quad(const Codec &codec, const Grids &grids, const Share &share, const float (&x)[4]) {
    u32 codes = 0;
    if (!share.has_codes) return codes;
#pragma unroll
    for (int k = 0; k < 4; k++) codes |= round_to(codec.rounding, grids, x[k] * share.lift * share.inverse) << (8 * k);
    return codes;
}
