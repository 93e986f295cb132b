// Rprop: s = g·prev; Δ *= η+ where s > 0, η- where s < 0, clamped; g = 0 where s < 0; p -= sign(g)·Δ; prev = g.
// needs: pipeline.cuh

template <class T> struct Rprop : Rule<T, 2> {
    T eta_minus, eta_plus, step_size_min, step_size_max;

    __device__ explicit Rprop(Scalars<T> s)
        : eta_minus(s.number()), eta_plus(s.number()), step_size_min(s.number()), step_size_max(s.number()) {}

    __device__ __forceinline__ T step(T param, T grad, T (&state)[2]) const {
        T prev = state[0], step_size = state[1];
        T agreement = grad * prev;
        T eta = agreement > T(0) ? eta_plus : agreement < T(0) ? eta_minus : T(1);
        step_size = larger(step_size_min, step_size * eta);
        step_size = step_size > step_size_max ? step_size_max : step_size;
        grad = agreement < T(0) ? T(0) : grad;
        state[0] = grad, state[1] = step_size;
        return param - sign(grad) * step_size;
    }
};

RULE(rprop, Rprop)
