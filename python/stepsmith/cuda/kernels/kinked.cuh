// Activations made of pieces; the same lines as rust/activation/kinked.rs.
// needs: math.cuh

// `x` between ± `far`; NaN stays.
template <class T> __device__ __forceinline__ T within(T x, T far) { return at_most(at_least(x, -far), far); }

template <class T> struct Relu {
    __device__ __forceinline__ T forward(T x) const { return x <= T(0) ? T(0) : x; }
    __device__ __forceinline__ T backward(T x, T dy) const { return x > T(0) ? dy : x <= T(0) ? T(0) : x; }
};

template <class T> struct LeakyRelu {
    T negative_slope;
    __device__ __forceinline__ T forward(T x) const { return x > T(0) ? x : x * negative_slope; }
    __device__ __forceinline__ T backward(T x, T dy) const { return x > T(0) ? dy : dy * (x <= T(0) ? negative_slope : x); }
};

template <class T> struct HardTanh {
    T min_val, max_val;
    __device__ __forceinline__ T forward(T x) const { return at_most(at_least(x, min_val), max_val); }
    __device__ __forceinline__ T backward(T x, T dy) const {
        T outside = x != x ? x : T(0);
        return x > min_val && x < max_val ? dy : outside;
    }
};

template <class T> struct SoftSign {
    __device__ __forceinline__ T forward(T x) const {
        x = within(x, Float<T>::of(Float<T>::INFINITE - 1));
        return x / (magnitude(x) + T(1));
    }
    // 1 / (1 + |x|)².
    __device__ __forceinline__ T backward(T x, T dy) const {
        T t = magnitude(x) + T(1);
        return dy / (t * t);
    }
};

template <class T> struct Elu {
    T alpha;
    __device__ __forceinline__ T forward(T x) const { return x > T(0) ? x : exponential_less_one(x) * alpha; }
    __device__ __forceinline__ T backward(T x, T dy) const { return x > T(0) ? dy : dy * (exp_of_negative(x) * alpha); }
};
