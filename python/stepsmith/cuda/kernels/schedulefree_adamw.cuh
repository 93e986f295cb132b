// Schedule-free AdamW: v = β2·v + (1 - β2)·g²; n = g / (√(v·inv_bias_correction2) + ε) + λ·y; y += c(z - y) + y_step·n;
// z -= lr·n. The parameter holds y.
// needs: pipeline.cuh

template <class T> struct ScheduleFreeAdamW : Rule<T, 2> {
    T weight_decay, beta2, one_minus_beta2, inv_bias_correction2, eps, average_weight, y_step, lr;

    __device__ explicit ScheduleFreeAdamW(Scalars<T> s)
        : weight_decay(s.number()), beta2(s.number()), one_minus_beta2(s.number()), inv_bias_correction2(s.number()),
          eps(s.number()), average_weight(s.number()), y_step(s.number()), lr(s.number()) {}

    __device__ __forceinline__ T step(T param, T grad, T (&state)[2]) const {
        T z = state[0], v = state[1];
        v = v * beta2 + grad * grad * one_minus_beta2;
        T denom = square_root(v * inv_bias_correction2) + eps;
        T normalized = grad / denom;
        if (weight_decay != T(0)) normalized += param * weight_decay;
        param = param + (z - param) * average_weight + normalized * y_step;
        state[0] = z - normalized * lr, state[1] = v;
        return param;
    }
};

RULE(schedulefree_adamw, ScheduleFreeAdamW)
