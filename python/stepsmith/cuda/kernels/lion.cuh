// Lion: p = p·decay - lr·sign(m + (1 - β1)(g - m)); m += (1 - β2)(g - m). sign(0) = 0.
// needs: pipeline.cuh

template <class T> struct Lion : Rule<T, 1> {
    T decay, one_minus_beta1, one_minus_beta2, lr;

    __device__ explicit Lion(Scalars<T> s)
        : decay(s.number()), one_minus_beta1(s.number()), one_minus_beta2(s.number()), lr(s.number()) {}

    __device__ __forceinline__ T step(T param, T grad, T (&state)[1]) const {
        T m = state[0];
        T direction = m + (grad - m) * one_minus_beta1;
        m = m + (grad - m) * one_minus_beta2;
        state[0] = m;
        return param * decay - sign(direction) * lr;
    }
};

RULE(lion, Lion)
