// Adagrad: sum += g²; p -= step_size·g / (√sum + ε).
// needs: pipeline.cuh

template <class T> struct Adagrad : Rule<T, 1> {
    T weight_decay, step_size, eps;

    __device__ explicit Adagrad(Scalars<T> s) : weight_decay(s.number()), step_size(s.number()), eps(s.number()) {}

    __device__ __forceinline__ T step(T param, T grad, T (&state)[1]) const {
        T sum = state[0];
        if (weight_decay != T(0)) grad += param * weight_decay;
        sum = sum + grad * grad;
        T denom = square_root(sum) + eps;
        state[0] = sum;
        return param - grad * step_size / denom;
    }
};

RULE(adagrad, Adagrad)
