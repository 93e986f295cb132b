// LARS: u = g + λp; d = lr·trust_coefficient·(‖p‖ / ‖u‖)·u, or lr·u if a norm is 0; b = μ·b + d; p -= d + μ·b (Nesterov) or b.
// needs: measure.cuh

template <class T> struct Lars : Rule<T, 1> {
    static const bool MEASURES = true;

    T weight_decay, momentum;
    bool nesterov;
    double lr, trust_coefficient;
    T step_size;

    __device__ explicit Lars(Scalars<T> s)
        : weight_decay(s.number()), momentum(s.number()), nesterov(s.flag()), lr(s.exact()), trust_coefficient(s.exact()),
          step_size(0) {}

    __device__ __forceinline__ T measure(T param, T grad, const T (&)[1]) const { return grad + param * weight_decay; }

    __device__ __forceinline__ void measured(const Norms &norms) {
        bool both = norms.param > 0.0 && norms.measured > 0.0;
        double ratio = both ? trust_coefficient * norms.param / norms.measured : 1.0;
        step_size = (T)(lr * ratio);
    }

    __device__ __forceinline__ T step(T param, T grad, T (&state)[1]) const {
        T buffer = state[0];
        T direction = (grad + param * weight_decay) * step_size;
        buffer = buffer * momentum + direction;
        direction = nesterov ? direction + buffer * momentum : buffer;
        state[0] = buffer;
        return param - direction;
    }
};

RULE(lars, Lars)
MEASURED(lars, Lars)
