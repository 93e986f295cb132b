// Adadelta: v = ρ·v + (1 - ρ)·g²; δ = √(u + ε) / √(v + ε)·g; u = ρ·u + (1 - ρ)·δ²; p -= lr·δ.
// needs: pipeline.cuh

template <class T> struct Adadelta : Rule<T, 2> {
    T weight_decay, lr, rho, one_minus_rho, eps;

    __device__ explicit Adadelta(Scalars<T> s)
        : weight_decay(s.number()), lr(s.number()), rho(s.number()), one_minus_rho(s.number()), eps(s.number()) {}

    __device__ __forceinline__ T step(T param, T grad, T (&state)[2]) const {
        T square_avg = state[0], acc_delta = state[1];
        if (weight_decay != T(0)) grad += param * weight_decay;
        square_avg = square_avg * rho + grad * grad * one_minus_rho;
        T delta = square_root(acc_delta + eps) / square_root(square_avg + eps) * grad;
        acc_delta = acc_delta * rho + delta * delta * one_minus_rho;
        state[0] = square_avg, state[1] = acc_delta;
        return param - delta * lr;
    }
};

RULE(adadelta, Adadelta)
