// Adam, AdamW and AMSGrad: m += (1 - β1)(g - m); v = β2·v + (1 - β2)·g²;
// p = p·decay - step_size·m / (√v·inv_sqrt_bias_correction2 + ε).
// needs: pipeline.cuh

template <class T> struct Adam : Rule<T, 3> {
    T weight_decay, decay, one_minus_beta1, beta2, one_minus_beta2, step_size, inv_sqrt_bias_correction2, eps;
    bool amsgrad;

    __device__ explicit Adam(Scalars<T> s)
        : weight_decay(s.number()), decay(s.number()), one_minus_beta1(s.number()), beta2(s.number()),
          one_minus_beta2(s.number()), step_size(s.number()), inv_sqrt_bias_correction2(s.number()), eps(s.number()),
          amsgrad(s.flag()) {}

    __device__ __forceinline__ T step(T param, T grad, T (&state)[3]) const {
        T m = state[0], v = state[1], v_max = state[2];
        if (weight_decay != T(0)) grad += param * weight_decay;
        m = m + (grad - m) * one_minus_beta1;
        v = v * beta2 + grad * grad * one_minus_beta2;
        v_max = amsgrad ? larger(v_max, v) : v;
        T denom = square_root(v_max) * inv_sqrt_bias_correction2 + eps;
        state[0] = m, state[1] = v, state[2] = v_max;
        return param * decay - m * step_size / denom;
    }
};

RULE(adam, Adam)
