// NAdam: m += (1 - β1)(g - m); v = β2·v + (1 - β2)·g²;
// p = p·decay - (grad_step·g + m_step·m) / (√(v·inv_bias_correction2) + ε).
// needs: pipeline.cuh

template <class T> struct NAdam : Rule<T, 2> {
    T weight_decay, decay, one_minus_beta1, beta2, one_minus_beta2, grad_step, m_step, inv_bias_correction2, eps;

    __device__ explicit NAdam(Scalars<T> s)
        : weight_decay(s.number()), decay(s.number()), one_minus_beta1(s.number()), beta2(s.number()), one_minus_beta2(s.number()),
          grad_step(s.number()), m_step(s.number()), inv_bias_correction2(s.number()), eps(s.number()) {}

    __device__ __forceinline__ T step(T param, T grad, T (&state)[2]) const {
        T m = state[0], v = state[1];
        if (weight_decay != T(0)) grad += param * weight_decay;
        m = m + (grad - m) * one_minus_beta1;
        v = v * beta2 + grad * grad * one_minus_beta2;
        T denom = square_root(v * inv_bias_correction2) + eps;
        state[0] = m, state[1] = v;
        return param * decay - (grad * grad_step + m * m_step) / denom;
    }
};

RULE(nadam, NAdam)
