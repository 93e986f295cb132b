// Muon: b += (1 - μ)(g - b); in the rehearsal update = g + μ(b - g) (Nesterov) or b, and nothing else changes; in the step
// p = p·decay - step_size·update, `update` being what the rehearsal's became.
// needs: pipeline.cuh

template <class T> struct Muon : Rule<T, 2> {
    T decay, momentum, one_minus_momentum, step_size;
    bool nesterov, rehearsal;

    __device__ explicit Muon(Scalars<T> s)
        : decay(s.number()), momentum(s.number()), one_minus_momentum(s.number()), step_size(s.number()), nesterov(s.flag()),
          rehearsal(s.flag()) {}

    __device__ __forceinline__ void rehearse() { rehearsal = true; }

    __device__ __forceinline__ T step(T param, T grad, T (&state)[2]) const {
        T before = state[0], update = state[1];
        T buffer = before + (grad - before) * one_minus_momentum;
        if (rehearsal) {
            state[1] = nesterov ? grad + (buffer - grad) * momentum : buffer;
            return param;
        }
        state[0] = buffer;
        return param * decay - update * step_size;
    }
};

RULE(muon, Muon)
