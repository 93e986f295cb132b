// LAMB: m += (1 - β1)(g - m); v = β2·v + (1 - β2)·g²; u = m·inv_bias_correction1 / (√v·inv_sqrt_bias_correction2 + ε) + λp;
// p -= lr·(‖p‖ / ‖u‖)·u, the ratio being 1 if either is 0.
// needs: measure.cuh

template <class T> struct Lamb : Rule<T, 2> {
    static const bool MEASURES = true;

    T weight_decay, one_minus_beta1, beta2, one_minus_beta2, inv_bias_correction1, inv_sqrt_bias_correction2, eps;
    double lr;
    T step_size;

    __device__ explicit Lamb(Scalars<T> s)
        : weight_decay(s.number()), one_minus_beta1(s.number()), beta2(s.number()), one_minus_beta2(s.number()),
          inv_bias_correction1(s.number()), inv_sqrt_bias_correction2(s.number()), eps(s.number()), lr(s.exact()), step_size(0) {}

    // u and the new moments.
    __device__ __forceinline__ T update(T param, T grad, T &m, T &v) const {
        m = m + (grad - m) * one_minus_beta1;
        v = v * beta2 + grad * grad * one_minus_beta2;
        T denom = square_root(v) * inv_sqrt_bias_correction2 + eps;
        return m * inv_bias_correction1 / denom + param * weight_decay;
    }

    __device__ __forceinline__ T measure(T param, T grad, const T (&state)[2]) const {
        T m = state[0], v = state[1];
        return update(param, grad, m, v);
    }

    __device__ __forceinline__ void measured(const Norms &norms) {
        double ratio = norms.param > 0.0 && norms.measured > 0.0 ? norms.param / norms.measured : 1.0;
        step_size = (T)(lr * ratio);
    }

    __device__ __forceinline__ T step(T param, T grad, T (&state)[2]) const {
        return param - update(param, grad, state[0], state[1]) * step_size;
    }
};

RULE(lamb, Lamb)
MEASURED(lamb, Lamb)
