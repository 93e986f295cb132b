// The formulas of an element, from statistics to outputs and from sums to gradients; the same lines as rust/norm/formula.rs.
// needs: types.cuh

// x̂ = ((x - mean) - rest)·rstd, the mean as a number of the compute type and what that leaves of it.
template <class T> struct Normalize {
    T mean, rest, rstd;

    __device__ __forceinline__ Normalize(double wide_mean, double wide_rstd) : mean((T)wide_mean), rstd((T)wide_rstd) {
        double left = wide_mean - (double)mean;
        rest = (T)(is_finite(left) ? left : 0.0);
    }

    __device__ __forceinline__ T x_hat(T x) const { return ((x - mean) - rest) * rstd; }
};

// dx = (g - mean_g - x̂·mean_gx)·rstd with g = dy or dy·weight.
template <class T> struct Differentiate {
    Normalize<T> normalize;
    T mean_g, mean_gx;

    __device__ __forceinline__ T dx(T x, T g) const { return (g - mean_g - normalize.x_hat(x) * mean_gx) * normalize.rstd; }
};
