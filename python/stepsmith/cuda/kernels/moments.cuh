// Mean and centred sum of squares of some elements; the same lines as rust/norm/moments.rs.
// needs: types.cuh

struct Moments {
    double count, mean, squares;

    // These elements and others, in this order.
    __device__ __forceinline__ Moments merged_with(const Moments &other) const {
        if (count == 0.0) return other;
        double total = count + other.count, share = other.count / total, between = count * other.count / total;
        double delta = other.mean - mean;
        return {total, mean + delta * share, squares + other.squares + delta * delta * between};
    }
};
