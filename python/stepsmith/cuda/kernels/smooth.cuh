// Activations with a derivative everywhere; the same lines as rust/activation/smooth.rs.
//
// x is brought within ± FAR where a tail that is 0 there would meet Inf; nothing else changes.
// needs: kinked.cuh

// Φ(x) = (1 + erf(x / √2)) / 2.
template <class T> __device__ __forceinline__ T normal_cdf(T x) {
    return (error_function(x * T(0.70710678118654752440)) + T(1)) * T(0.5);
}

// φ(x) = e^(-x²/2) / √(2π).
template <class T> __device__ __forceinline__ T normal_pdf(T x) {
    return exp_of_negative(x * x * -T(0.5)) * T(0.3989422804014327);
}

// σ(x) and its derivative σ(x)·σ(-x), by one exponential and one division.
template <class T> struct Logistic {
    T y, slope;
};

template <class T> __device__ __forceinline__ Logistic<T> logistic(T x) {
    T z = exp_of_negative(-magnitude(x));
    T large = T(1) / (z + T(1));
    T small = z * large;
    return {x < T(0) ? small : large, small * large};
}

template <class T> struct Gelu {
    __device__ __forceinline__ T forward(T x) const {
        x = at_least(x, -Math<T>::FAR);
        return x * normal_cdf(x);
    }
    // Φ + x·φ.
    __device__ __forceinline__ T backward(T x, T dy) const {
        x = within(x, Math<T>::FAR);
        return dy * (normal_cdf(x) + x * normal_pdf(x));
    }
};

template <class T> struct GeluTanh {
    static constexpr T SQRT_8_OVER_PI = T(1.5957691216057307);
    // 2u and its derivative.
    static __device__ __forceinline__ T argument(T x) { return x * (x * x * T(0.044715) + T(1)) * SQRT_8_OVER_PI; }
    static __device__ __forceinline__ T slope_of_argument(T x) { return (x * x * T(0.134145) + T(1)) * SQRT_8_OVER_PI; }

    __device__ __forceinline__ T forward(T x) const {
        x = at_least(x, -Math<T>::FAR);
        return x * sigmoid(argument(x));
    }
    // σ(2u) + x·σ'(2u)·2u'.
    __device__ __forceinline__ T backward(T x, T dy) const {
        x = within(x, Math<T>::FAR);
        Logistic<T> of = logistic(argument(x));
        return dy * (of.y + x * of.slope * slope_of_argument(x));
    }
};

template <class T> struct Silu {
    __device__ __forceinline__ T forward(T x) const {
        x = at_least(x, -Math<T>::FAR);
        return x * sigmoid(x);
    }
    // σ + x·σ'.
    __device__ __forceinline__ T backward(T x, T dy) const {
        x = within(x, Math<T>::FAR);
        Logistic<T> of = logistic(x);
        return dy * (of.y + x * of.slope);
    }
};

template <class T> struct Sigmoid {
    __device__ __forceinline__ T forward(T x) const { return sigmoid(x); }
    __device__ __forceinline__ T backward(T x, T dy) const { return dy * logistic(x).slope; }
};

template <class T> struct Tanh {
    __device__ __forceinline__ T forward(T x) const { return hyperbolic_tangent(x); }
    // 1 - tanh² = 4·σ'(2x), which keeps its digits where tanh nears 1.
    __device__ __forceinline__ T backward(T x, T dy) const { return dy * (logistic(x * T(2)).slope * T(4)); }
};

template <class T> struct Softplus {
    T beta, inv_beta, threshold;
    // log(1 + e^z) = max(z, 0) + log(1 + e^-|z|).
    __device__ __forceinline__ T forward(T x) const {
        T z = x * beta;
        T y = ((z > T(0) ? z : T(0)) + log1p_inside(exp_of_negative(-magnitude(z)))) * inv_beta;
        return z > threshold ? x : y;
    }
    __device__ __forceinline__ T backward(T x, T dy) const {
        T z = x * beta;
        return z > threshold ? dy : dy * sigmoid(z);
    }
};
