// What the gradients of a norm add up; as rust/norm/products.rs.
// needs: types.cuh

// g and g·x̂ with g = dy or dy·weight.
struct Products {
    double mean, rstd;

    __device__ __forceinline__ double g_x_hat(double g, double x) const { return g * ((x - mean) * rstd); }
};
