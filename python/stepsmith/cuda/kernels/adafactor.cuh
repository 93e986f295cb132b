// Adafactor. Matrices: V = (R / max(mean R, ε1))·C, R and C being averages of the row and column means of g²; others:
// V += (1 - β2)(g² - V). U = g / √max(V, ε1²); p = p·decay - ρ·max(ε2, RMS(p))·U / max(1, RMS(U) / d).
//
// An ε1 of 0 stands for the compute type's own; an ε1² that would be 0 is the least normal number, lest 0 be divided by 0.
// needs: factor.cuh

template <class T> struct Adafactor : Rule<T, 3> {
    static const bool FACTORED = true;
    static const bool MEASURES = true;

    T decay, one_minus_beta2, eps1;
    double eps2, rho, d;
    T step_size;
    bool is_factored;

    __device__ explicit Adafactor(Scalars<T> s)
        : decay(s.number()), one_minus_beta2(s.number()), eps1(s.number()), eps2(s.exact()), rho(s.exact()), d(s.exact()),
          step_size(0), is_factored(false) {}

    __device__ __forceinline__ void of_tensor(bool factored) { is_factored = factored; }

    __device__ __forceinline__ T eps() const { return eps1 == T(0) ? Float<T>::EPSILON : eps1; }

    __device__ __forceinline__ Factoring<T> factoring() const { return {one_minus_beta2, eps()}; }

    // U and the new variance.
    __device__ __forceinline__ T update(T grad, T row_ratio, T col_var, T &variance) const {
        variance = variance + (grad * grad - variance) * one_minus_beta2;
        T estimate = is_factored ? row_ratio * col_var : variance;
        T least = Float<T>::LEAST;
        estimate = larger(estimate, larger(eps() * eps(), least));
        return grad / square_root(estimate);
    }

    __device__ __forceinline__ T measure(T, T grad, const T (&state)[3]) const {
        T variance = state[2];
        return update(grad, state[0], state[1], variance);
    }

    __device__ __forceinline__ void measured(const Norms &norms) {
        double root = square_root((double)norms.len);
        double param = norms.param / root, update = norms.measured / (root * d);
        double alpha = (param > eps2 ? param : eps2) * rho;
        step_size = (T)(update > 1.0 ? alpha / update : alpha);
    }

    __device__ __forceinline__ T step(T param, T grad, T (&state)[3]) const {
        return param * decay - update(grad, state[0], state[1], state[2]) * step_size;
    }
};

RULE(adafactor, Adafactor)
MEASURED(adafactor, Adafactor)
FACTORED(adafactor, Adafactor)
