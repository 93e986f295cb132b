// RAdam: m += (1 - β1)(g - m); v = β2·v + (1 - β2)·g²; p = p·decay - step_size·m / (√v + ε), without the division unless
// rectified.
// needs: pipeline.cuh

template <class T> struct RAdam : Rule<T, 2> {
    T weight_decay, decay, one_minus_beta1, beta2, one_minus_beta2, step_size, eps;
    bool rectified;

    __device__ explicit RAdam(Scalars<T> s)
        : weight_decay(s.number()), decay(s.number()), one_minus_beta1(s.number()), beta2(s.number()), one_minus_beta2(s.number()),
          step_size(s.number()), eps(s.number()), rectified(s.flag()) {}

    __device__ __forceinline__ T step(T param, T grad, T (&state)[2]) const {
        T m = state[0], v = state[1];
        if (weight_decay != T(0)) grad += param * weight_decay;
        m = m + (grad - m) * one_minus_beta1;
        v = v * beta2 + grad * grad * one_minus_beta2;
        state[0] = m, state[1] = v;
        if (!rectified) return param * decay - m * step_size;
        T denom = square_root(v) + eps;
        return param * decay - m * step_size / denom;
    }
};

RULE(radam, RAdam)
