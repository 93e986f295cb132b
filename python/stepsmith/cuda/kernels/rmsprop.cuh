// RMSprop: v = α·v + (1 - α)·g²; centered: a += (1 - α)(g - a), v - a² instead of v below; d = √v + ε, or √(v + ε);
// b = μ·b + g / d, p -= lr·b; without momentum p -= lr·g / d. v - a² can round below 0: then it counts as 0.
// needs: pipeline.cuh

template <class T> struct RmsProp : Rule<T, 3> {
    T weight_decay, lr, alpha, one_minus_alpha, eps, momentum;
    bool centered, eps_inside_sqrt;

    __device__ explicit RmsProp(Scalars<T> s)
        : weight_decay(s.number()), lr(s.number()), alpha(s.number()), one_minus_alpha(s.number()), eps(s.number()),
          momentum(s.number()), centered(s.flag()), eps_inside_sqrt(s.flag()) {}

    __device__ __forceinline__ T step(T param, T grad, T (&state)[3]) const {
        T square_avg = state[0], grad_avg = state[1], buffer = state[2];
        if (weight_decay != T(0)) grad += param * weight_decay;
        square_avg = square_avg * alpha + grad * grad * one_minus_alpha;
        T variance = square_avg;
        if (centered) {
            grad_avg = grad_avg + (grad - grad_avg) * one_minus_alpha;
            variance = larger(T(0), square_avg - grad_avg * grad_avg);
        }
        T denom = eps_inside_sqrt ? square_root(variance + eps) : square_root(variance) + eps;
        state[0] = square_avg, state[1] = grad_avg;
        if (momentum == T(0)) return param - grad * lr / denom;
        buffer = buffer * momentum + grad / denom;
        state[2] = buffer;
        return param - buffer * lr;
    }
};

RULE(rmsprop, RmsProp)
