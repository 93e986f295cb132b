// Averaged stochastic gradient descent: p = p·decay - η·g; ax += μ(p - ax), or p itself while μ is 1.
// needs: pipeline.cuh

template <class T> struct Asgd : Rule<T, 1> {
    T weight_decay, decay, eta, mu;
    bool averaging;

    __device__ explicit Asgd(Scalars<T> s)
        : weight_decay(s.number()), decay(s.number()), eta(s.number()), mu(s.number()), averaging(s.flag()) {}

    __device__ __forceinline__ T step(T param, T grad, T (&state)[1]) const {
        T ax = state[0];
        if (weight_decay != T(0)) grad += param * weight_decay;
        param = param * decay - grad * eta;
        ax = averaging ? ax + (param - ax) * mu : param;
        state[0] = ax;
        return param;
    }
};

RULE(asgd, Asgd)
