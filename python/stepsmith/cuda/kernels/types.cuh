// What every kernel starts from: short names, the word for a kernel, shared memory, bits of numbers.
//
// There are no includes: a source is these files one after another (`// needs:` names those that come before), and the compiler is
// told to keep each operation apart (--fmad=false), to round divisions and square roots correctly, and to keep denormals.

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// `KERNEL(name)(arguments) { ... }`
#define KERNEL(name) extern "C" __global__ void name

// A kernel whose blocks have 256 threads, two of them on a multiprocessor: the compiler may use so many registers and no more.
#define KERNEL_OF_256(name) extern "C" __global__ void __launch_bounds__(256, 2) name

#ifndef STEPSMITH_SHIM
#define SHARED(T, name, N) __shared__ T name[N]
#define DYNAMIC_SHARED(T, name) extern __shared__ __align__(16) T name[]
#endif

#define EVERY_LANE 0xffffffffu

#define WARP 32

// Numbers that differ between the compute types.
template <class T> struct Float;
template <> struct Float<float> {
    typedef u32 Bits;
    static __device__ __forceinline__ u32 bits(float x) { return __float_as_uint(x); }
    static __device__ __forceinline__ float of(u32 bits) { return __uint_as_float(bits); }
    static const u32 SIGN = 0x80000000u;
    static const u32 INFINITE = 0x7f800000u;
    // From 1 to the next number; the least normal number above 0.
    static constexpr float EPSILON = 1.1920929e-7f, LEAST = 1.17549435e-38f;
};
template <> struct Float<double> {
    typedef u64 Bits;
    static __device__ __forceinline__ u64 bits(double x) { return (u64)__double_as_longlong(x); }
    static __device__ __forceinline__ double of(u64 bits) { return __longlong_as_double((i64)bits); }
    static const u64 SIGN = 0x8000000000000000ull;
    static const u64 INFINITE = 0x7ff0000000000000ull;
    static constexpr double EPSILON = 2.220446049250313e-16, LEAST = 2.2250738585072014e-308;
};

template <class T> __device__ __forceinline__ typename Float<T>::Bits bits_of(T x) { return Float<T>::bits(x); }

template <class T> __device__ __forceinline__ T magnitude(T x) { return Float<T>::of(bits_of(x) & ~Float<T>::SIGN); }

template <class T> __device__ __forceinline__ T with_sign_of(T x, T sign) {
    return Float<T>::of((bits_of(x) & ~Float<T>::SIGN) | (bits_of(sign) & Float<T>::SIGN));
}

template <class T> __device__ __forceinline__ bool is_finite(T x) {
    return (bits_of(x) & ~Float<T>::SIGN) < Float<T>::INFINITE;
}

__device__ __forceinline__ float square_root(float x) { return sqrtf(x); }
__device__ __forceinline__ double square_root(double x) { return sqrt(x); }

// a where a > b, else b: NaN in `b` stays.
template <class T> __device__ __forceinline__ T larger(T a, T b) { return a > b ? a : b; }

// 1 where x > 0, -1 where x < 0, else 0.
template <class T> __device__ __forceinline__ T sign(T x) { return x > T(0) ? T(1) : x < T(0) ? T(-1) : T(0); }
