// Casts between stored types, 8-bit floats among them, each number by way of float32; see rust/quant/cast.rs.
// needs: bytes.cuh arrays.cuh float8.cuh

// Types of elements beside those of storage.cuh.
enum Format : int { AS_E4M3 = 5, AS_E5M2 = 6 };

__device__ __forceinline__ bool has_codes(const Array &array) { return array.dtype >= AS_E4M3; }

// The processor's own conversions between the wide types lose the sign of NaN.
__device__ __forceinline__ float narrow(double x) {
    u32 sign = (u32)(bits_of(x) >> 32) & Float<float>::SIGN;
    return __uint_as_float((bits_of((float)x) & ~Float<float>::SIGN) | sign);
}

__device__ __forceinline__ double widen(float x) {
    u64 sign = (u64)(bits_of(x) & Float<float>::SIGN) << 32;
    return Float<double>::of((bits_of((double)x) & ~Float<double>::SIGN) | sign);
}

// The bytes of elements i..i + 4 of n as a word.
__device__ __forceinline__ u32 load_codes(const Array &array, u64 i, u64 n) {
    if (array.axes == 0) return load_bytes((const u8 *)array.address + i, (u32)(n - i < 4 ? n - i : 4));
    u32 word = 0;
#pragma unroll 1
    for (u32 k = 0; k < 4 && i + k < n; k++) word |= (u32)*global<const u8>(address_of(array, i + k)) << (8 * k);
    return word;
}

__device__ __forceinline__ void store_codes(const Array &array, u64 i, u64 n, u32 word) {
    if (array.axes == 0) return store_bytes((u8 *)array.address + i, word, (u32)(n - i < 4 ? n - i : 4));
#pragma unroll 1
    for (u32 k = 0; k < 4 && i + k < n; k++) *global<u8>(address_of(array, i + k)) = (u8)(word >> (8 * k));
}

__device__ __forceinline__ void load_single(const Array &array, u64 i, u64 n, float (&x)[4]) {
    if (array.dtype == F64) {
        double wide[4];
        load4<double>(array, i, n, wide);
#pragma unroll
        for (int k = 0; k < 4; k++) x[k] = narrow(wide[k]);
    } else if (has_codes(array)) {
        u32 codes = load_codes(array, i, n);
#pragma unroll
        for (int k = 0; k < 4; k++)
            x[k] = array.dtype == AS_E4M3 ? decode_any<E4m3>(code_of(codes, k)) : decode_any<E5m2>(code_of(codes, k));
    } else {
        load4<float>(array, i, n, x);
    }
}

__device__ __forceinline__ void store_single(const Array &array, u64 i, u64 n, bool saturates, const float (&x)[4]) {
    if (array.dtype == F64) {
        double wide[4] = {widen(x[0]), widen(x[1]), widen(x[2]), widen(x[3])};
        store4<double>(array, i, n, wide);
    } else if (has_codes(array)) {
        u32 codes = 0;
#pragma unroll
        for (int k = 0; k < 4; k++)
            codes |= (array.dtype == AS_E4M3 ? encode_any<E4m3>(x[k], saturates) : encode_any<E5m2>(x[k], saturates)) << (8 * k);
        store_codes(array, i, n, codes);
    } else {
        store4<float>(array, i, n, x);
    }
}

KERNEL(cast)(Array x, Array out, u64 n, int saturates) {
    for (u64 i = first_quad(); i < n; i += quad_stride()) {
        float numbers[4];
        load_single(x, i, n, numbers);
        store_single(out, i, n, saturates, numbers);
    }
}
