// Adamax: m += (1 - β1)(g - m); u = max(β2·u, |g| + ε); p -= step_size·m / u.
// needs: pipeline.cuh

template <class T> struct Adamax : Rule<T, 2> {
    T weight_decay, one_minus_beta1, beta2, step_size, eps;

    __device__ explicit Adamax(Scalars<T> s)
        : weight_decay(s.number()), one_minus_beta1(s.number()), beta2(s.number()), step_size(s.number()), eps(s.number()) {}

    __device__ __forceinline__ T step(T param, T grad, T (&state)[2]) const {
        T m = state[0], u = state[1];
        if (weight_decay != T(0)) grad += param * weight_decay;
        m = m + (grad - m) * one_minus_beta1;
        u = larger(u * beta2, magnitude(grad) + eps);
        state[0] = m, state[1] = u;
        return param - m * step_size / u;
    }
};

RULE(adamax, Adamax)
