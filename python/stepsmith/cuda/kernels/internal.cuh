// Rules that are no optimizers: the sweep that a step is measured against, and what functions over arrays do.
//
// Those without state have one that is never there.
// needs: pipeline.cuh

// Adds the gradient to everything.
template <class T> struct Sweep : Rule<T, 4> {
    __device__ explicit Sweep(Scalars<T>) {}

    __device__ __forceinline__ T step(T param, T grad, T (&state)[4]) const {
#pragma unroll
        for (int k = 0; k < 4; k++) state[k] = state[k] + grad;
        return param + grad;
    }
};

// p *= factor
template <class T> struct Scale : Rule<T, 1> {
    T factor;

    __device__ explicit Scale(Scalars<T> s) : factor(s.number()) {}

    __device__ __forceinline__ T step(T param, T, T (&)[1]) const { return param * factor; }
};

// p = limit where p > limit, -limit where p < -limit
template <class T> struct Clamp : Rule<T, 1> {
    T limit;

    __device__ explicit Clamp(Scalars<T> s) : limit(s.number()) {}

    __device__ __forceinline__ T step(T param, T, T (&)[1]) const {
        T below = param > limit ? limit : param;
        return below < -limit ? -limit : below;
    }
};

// p += (end - p)·weight
template <class T> struct Lerp : Rule<T, 1> {
    T weight;

    __device__ explicit Lerp(Scalars<T> s) : weight(s.number()) {}

    __device__ __forceinline__ T step(T param, T, T (&state)[1]) const { return param + (state[0] - param) * weight; }
};

// p += factor·g
template <class T> struct Axpy : Rule<T, 1> {
    T factor;

    __device__ explicit Axpy(Scalars<T> s) : factor(s.number()) {}

    __device__ __forceinline__ T step(T param, T grad, T (&)[1]) const { return param + grad * factor; }
};

// p = factor·g
template <class T> struct Assign : Rule<T, 1> {
    T factor;

    __device__ explicit Assign(Scalars<T> s) : factor(s.number()) {}

    __device__ __forceinline__ T step(T, T grad, T (&)[1]) const { return grad * factor; }
};

RULE(sweep, Sweep)
RULE(scale, Scale)
RULE(clamp, Clamp)
RULE(lerp, Lerp)
RULE(axpy, Axpy)
RULE(assign, Assign)
