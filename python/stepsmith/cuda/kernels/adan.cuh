// Adan: d = g - g_prev (0 at the first step); m += (1 - β1)(g - m); m_diff += (1 - β2)(d - m_diff);
// n = β3·n + (1 - β3)(g + β2·d)²;
// p = (p·decay - (step_size·m + diff_step_size·m_diff) / (√n·inv_sqrt_bias_correction3 + ε))·shrink; g_prev = g.
// needs: pipeline.cuh

template <class T> struct Adan : Rule<T, 4> {
    T decay, shrink, one_minus_beta1, beta2, one_minus_beta2, beta3, one_minus_beta3, step_size, diff_step_size,
      inv_sqrt_bias_correction3, eps;
    bool first_step;

    __device__ explicit Adan(Scalars<T> s)
        : decay(s.number()), shrink(s.number()), one_minus_beta1(s.number()), beta2(s.number()), one_minus_beta2(s.number()),
          beta3(s.number()), one_minus_beta3(s.number()), step_size(s.number()), diff_step_size(s.number()),
          inv_sqrt_bias_correction3(s.number()), eps(s.number()), first_step(s.flag()) {}

    __device__ __forceinline__ T step(T param, T grad, T (&state)[4]) const {
        T m = state[0], m_diff = state[1], n = state[2], prev_grad = state[3];
        T diff = first_step ? T(0) : grad - prev_grad;
        m = m + (grad - m) * one_minus_beta1;
        m_diff = m_diff + (diff - m_diff) * one_minus_beta2;
        T ahead = grad + diff * beta2;
        n = n * beta3 + ahead * ahead * one_minus_beta3;
        T denom = square_root(n) * inv_sqrt_bias_correction3 + eps;
        T update = (m * step_size + m_diff * diff_step_size) / denom;
        state[0] = m, state[1] = m_diff, state[2] = n, state[3] = grad;
        return (param * decay - update) * shrink;
    }
};

RULE(adan, Adan)
