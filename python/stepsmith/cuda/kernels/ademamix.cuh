// AdEMAMix: m += (1 - β1)(g - m); v = β2·v + (1 - β2)·g²; m_slow += (1 - β3)(g - m_slow);
// p = p·decay - (step_size·m + slow_step_size·m_slow) / (√v·inv_sqrt_bias_correction2 + ε).
// needs: pipeline.cuh

template <class T> struct AdEmaMix : Rule<T, 3> {
    T decay, one_minus_beta1, beta2, one_minus_beta2, one_minus_beta3, step_size, slow_step_size, inv_sqrt_bias_correction2, eps;

    __device__ explicit AdEmaMix(Scalars<T> s)
        : decay(s.number()), one_minus_beta1(s.number()), beta2(s.number()), one_minus_beta2(s.number()),
          one_minus_beta3(s.number()), step_size(s.number()), slow_step_size(s.number()), inv_sqrt_bias_correction2(s.number()),
          eps(s.number()) {}

    __device__ __forceinline__ T step(T param, T grad, T (&state)[3]) const {
        T m = state[0], v = state[1], m_slow = state[2];
        m = m + (grad - m) * one_minus_beta1;
        v = v * beta2 + grad * grad * one_minus_beta2;
        m_slow = m_slow + (grad - m_slow) * one_minus_beta3;
        T denom = square_root(v) * inv_sqrt_bias_correction2 + eps;
        state[0] = m, state[1] = v, state[2] = m_slow;
        return param * decay - (m * step_size + m_slow * slow_step_size) / denom;
    }
};

RULE(ademamix, AdEmaMix)
