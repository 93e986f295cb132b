// Storage types and how they become the compute type: a uniform branch at run time, the same conversions as rust/dtype.rs.
// needs: half.cuh

// How elements are stored.
enum DType : int { ABSENT, F32, F64, BF16, F16 };

__device__ __forceinline__ u32 item_size(int dtype) { return dtype == F64 ? 8 : dtype == F32 ? 4 : 2; }

// A pointer that the compiler takes for one to the device's memory: loads and stores need not ask which memory they are for.
template <class T> __device__ __forceinline__ T *global(u64 address) {
#ifdef STEPSMITH_SHIM
    shim::check_alignment(address, alignof(T));
    return (T *)address;
#else
    return (T *)__cvta_global_to_generic((size_t)address);
#endif
}

// float64 becomes bfloat16 and float16 by way of float32.
template <class T> __device__ __forceinline__ T load_at(u64 address, int dtype) {
    switch (dtype) {
    case F32: return (T)*global<const float>(address);
    case F64: return (T)*global<const double>(address);
    case BF16: return (T)from_bf16(*global<const u16>(address));
    case F16: return (T)from_f16(*global<const u16>(address));
    default: return T(0);
    }
}

template <class T> __device__ __forceinline__ void store_at(u64 address, int dtype, T x) {
    switch (dtype) {
    case F32: *global<float>(address) = (float)x; break;
    case F64: *global<double>(address) = (double)x; break;
    case BF16: *global<u16>(address) = to_bf16((float)x); break;
    case F16: *global<u16>(address) = to_f16((float)x); break;
    default: break;
    }
}

// Sets of storage types, a bit each: where an array cannot have others, a kernel has no code for them.
const u32 HALVES = 1u << BF16 | 1u << F16;
const u32 ANY = 1u << F32 | 1u << F64 | HALVES;

__device__ __forceinline__ bool is_in(u32 set, int dtype, int which) { return set >> which & 1 && dtype == which; }

// What four stored elements are.
template <class T> __device__ __forceinline__ void unpack(const float4 &raw, T (&x)[4]) {
    x[0] = (T)raw.x, x[1] = (T)raw.y, x[2] = (T)raw.z, x[3] = (T)raw.w;
}
template <class T> __device__ __forceinline__ void unpack_bf16(const uint2 &raw, T (&x)[4]) {
    x[0] = (T)__uint_as_float(raw.x << 16), x[1] = (T)__uint_as_float(raw.x & 0xffff0000u);
    x[2] = (T)__uint_as_float(raw.y << 16), x[3] = (T)__uint_as_float(raw.y & 0xffff0000u);
}
template <class T> __device__ __forceinline__ void unpack_f16(const uint2 &raw, T (&x)[4]) {
    x[0] = (T)from_f16((u16)raw.x), x[1] = (T)from_f16((u16)(raw.x >> 16));
    x[2] = (T)from_f16((u16)raw.y), x[3] = (T)from_f16((u16)(raw.y >> 16));
}

// Some quads, `step` bytes apart, all of them asked for before the first is looked at. Zeros for a type that is not in the set.
template <class T, int N>
__device__ __forceinline__ void load_quads(u64 address, u64 step, int dtype, T (&x)[N][4], u32 set = ANY) {
    if (is_in(set, dtype, F32)) {
        float4 raw[N];
#pragma unroll
        for (int q = 0; q < N; q++) raw[q] = *global<const float4>(address + q * step);
#pragma unroll
        for (int q = 0; q < N; q++) unpack(raw[q], x[q]);
    } else if (is_in(set, dtype, F64)) {
#pragma unroll
        for (int q = 0; q < N; q++) {
            double2 low = global<const double2>(address + q * step)[0], high = global<const double2>(address + q * step)[1];
            x[q][0] = (T)low.x, x[q][1] = (T)low.y, x[q][2] = (T)high.x, x[q][3] = (T)high.y;
        }
    } else if (is_in(set, dtype, BF16) || is_in(set, dtype, F16)) {
        uint2 raw[N];
#pragma unroll
        for (int q = 0; q < N; q++) raw[q] = *global<const uint2>(address + q * step);
#pragma unroll
        for (int q = 0; q < N; q++)
            if (is_in(set, dtype, BF16)) unpack_bf16(raw[q], x[q]);
            else unpack_f16(raw[q], x[q]);
    } else {
#pragma unroll
        for (int q = 0; q < N; q++) x[q][0] = x[q][1] = x[q][2] = x[q][3] = T(0);
    }
}

// Four elements that follow each other, at a multiple of four of them: 16 bytes at once.
template <class T> __device__ __forceinline__ void load_quad(u64 address, int dtype, T (&x)[4], u32 set = ANY) {
    load_quads<T, 1>(address, 0, dtype, *(T(*)[1][4]) & x, set);
}

// Nothing for a type that is not in the set.
template <class T> __device__ __forceinline__ void store_quad(u64 address, int dtype, const T (&x)[4], u32 set = ANY) {
    if (is_in(set, dtype, F32)) {
        *global<float4>(address) = {(float)x[0], (float)x[1], (float)x[2], (float)x[3]};
    } else if (is_in(set, dtype, F64)) {
        global<double2>(address)[0] = {(double)x[0], (double)x[1]};
        global<double2>(address)[1] = {(double)x[2], (double)x[3]};
    } else if (is_in(set, dtype, BF16)) {
        u32 low = to_bf16((float)x[0]) | (u32)to_bf16((float)x[1]) << 16;
        u32 high = to_bf16((float)x[2]) | (u32)to_bf16((float)x[3]) << 16;
        *global<uint2>(address) = {low, high};
    } else if (is_in(set, dtype, F16)) {
        u32 low = to_f16((float)x[0]) | (u32)to_f16((float)x[1]) << 16;
        u32 high = to_f16((float)x[2]) | (u32)to_f16((float)x[3]) << 16;
        *global<uint2>(address) = {low, high};
    }
}

// Two elements, at a multiple of two of them.
template <class T> __device__ __forceinline__ void load_pair(u64 address, int dtype, T (&x)[2], u32 set = ANY) {
    if (is_in(set, dtype, F32)) {
        float2 raw = *global<const float2>(address);
        x[0] = (T)raw.x, x[1] = (T)raw.y;
    } else if (is_in(set, dtype, F64)) {
        double2 raw = *global<const double2>(address);
        x[0] = (T)raw.x, x[1] = (T)raw.y;
    } else if (is_in(set, dtype, BF16)) {
        u32 raw = *global<const u32>(address);
        x[0] = (T)__uint_as_float(raw << 16), x[1] = (T)__uint_as_float(raw & 0xffff0000u);
    } else if (is_in(set, dtype, F16)) {
        u32 raw = *global<const u32>(address);
        x[0] = (T)from_f16((u16)raw), x[1] = (T)from_f16((u16)(raw >> 16));
    } else {
        x[0] = x[1] = T(0);
    }
}

template <class T> __device__ __forceinline__ void store_pair(u64 address, int dtype, const T (&x)[2], u32 set = ANY) {
    if (is_in(set, dtype, F32)) {
        *global<float2>(address) = {(float)x[0], (float)x[1]};
    } else if (is_in(set, dtype, F64)) {
        *global<double2>(address) = {(double)x[0], (double)x[1]};
    } else if (is_in(set, dtype, BF16)) {
        *global<u32>(address) = to_bf16((float)x[0]) | (u32)to_bf16((float)x[1]) << 16;
    } else if (is_in(set, dtype, F16)) {
        *global<u32>(address) = to_f16((float)x[0]) | (u32)to_f16((float)x[1]) << 16;
    }
}
