// What a rule is on a GPU: the same lines as its Rust file, a pure function of one element.
//
// `template <class T> struct Adam : Rule<T, 3>` has its scalars as members, in the order of the Rust list, and a constructor that
// takes them from `Scalars`: members are initialized in the order of their declaration. `step` returns the new parameter and writes
// the new state in place.
// needs: types.cuh

// A cohort's scalars in float64, one after another.
template <class T> struct Scalars {
    const double *next;

    // Rounded once to the compute type.
    __device__ __forceinline__ T number() { return (T)*next++; }
    __device__ __forceinline__ bool flag() { return *next++ != 0.0; }
    // One that stays in float64.
    __device__ __forceinline__ double exact() { return *next++; }
};

// What was measured of a tensor.
struct Norms {
    u64 len;
    double param, measured; // 2-norms of the parameter and of what the rule measures
};

// A factored second moment's scalars: weight of a new mean, the least that ratios are taken by.
template <class T> struct Factoring {
    T one_minus_beta2, eps;
};

template <class T, int N> struct Rule {
    static const int STATES = N;
    // May the first two states be means over rows and columns instead?
    static const bool FACTORED = false;
    // Does the update need norms of the whole tensor? Then a sweep takes that of the parameter and that of `measure`.
    static const bool MEASURES = false;

    // What is measured, of one element.
    __device__ __forceinline__ T measure(T param, T, const T (&)[N]) const { return param; }
    // Takes what was measured of the tensor.
    __device__ __forceinline__ void measured(const Norms &) {}
    // The rule of a rehearsal: nothing follows it, and what it changes must mean nothing between steps.
    __device__ __forceinline__ void rehearse() {}
    // Is the tensor's second moment factored, its first two states being means of rows and columns?
    __device__ __forceinline__ void of_tensor(bool) {}
    // How the means of rows and columns are averaged.
    __device__ __forceinline__ Factoring<T> factoring() const { return {T(0), T(0)}; }
};
