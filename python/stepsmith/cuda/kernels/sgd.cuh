// Stochastic gradient descent with momentum: b = g at the first step, else μ·b + (1 - dampening)·g;
// d = g + μ·b (Nesterov) or b; p -= lr·d.
// needs: pipeline.cuh

template <class T> struct Sgd : Rule<T, 1> {
    T lr, weight_decay, momentum, one_minus_dampening;
    bool nesterov, first_step;

    __device__ explicit Sgd(Scalars<T> s)
        : lr(s.number()), weight_decay(s.number()), momentum(s.number()), one_minus_dampening(s.number()), nesterov(s.flag()),
          first_step(s.flag()) {}

    __device__ __forceinline__ T step(T param, T grad, T (&state)[1]) const {
        T buffer = state[0];
        if (weight_decay != T(0)) grad += param * weight_decay;
        if (momentum == T(0)) return param - grad * lr;
        buffer = first_step ? grad : buffer * momentum + grad * one_minus_dampening;
        T direction = nesterov ? grad + buffer * momentum : buffer;
        state[0] = buffer;
        return param - direction * lr;
    }
};

RULE(sgd, Sgd)
