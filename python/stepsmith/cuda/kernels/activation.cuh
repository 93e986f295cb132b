// Activations of arrays, after a bias has been added: y = f(x + bias) and its gradients; the same as rust/activation/apply.rs.
// needs: smooth.cuh channel_sums.cuh elements.cuh

// Mirrors `KINDS` of stepsmith/cuda/activation.py.
enum Kind : int { GELU, GELU_TANH, SILU, SIGMOID, TANH, SOFTPLUS, HARDTANH, SOFTSIGN, RELU, LEAKY_RELU, ELU };

// An activation with its scalars, forward or backward.
struct Activation {
    double scalars[3];
    int kind;
    int is_backward;
};

template <class T> struct Quad {
    T x[4];
};

template <class T, class A> __device__ __forceinline__ Quad<T> each(A activation, bool is_backward, Quad<T> x, Quad<T> dy) {
    Quad<T> y = {};
#pragma unroll(sizeof(T) == 8 ? 1 : 4)
    for (u32 k = 0; k < 4; k++) {
        T own = take(x.x, k);
        put(y.x, k, is_backward ? activation.backward(own, take(dy.x, k)) : activation.forward(own));
    }
    return y;
}

// A function of its own, so that kernels share its text.
template <class T> __device__ __noinline__ Quad<T> apply(int kind, bool is_backward, T a, T b, T c, Quad<T> x, Quad<T> dy) {
    switch (kind) {
    case GELU: return each<T>(Gelu<T>(), is_backward, x, dy);
    case GELU_TANH: return each<T>(GeluTanh<T>(), is_backward, x, dy);
    case SILU: return each<T>(Silu<T>(), is_backward, x, dy);
    case SIGMOID: return each<T>(Sigmoid<T>(), is_backward, x, dy);
    case TANH: return each<T>(Tanh<T>(), is_backward, x, dy);
    case SOFTPLUS: return each<T>(Softplus<T>{a, b, c}, is_backward, x, dy);
    case HARDTANH: return each<T>(HardTanh<T>{a, b}, is_backward, x, dy);
    case SOFTSIGN: return each<T>(SoftSign<T>(), is_backward, x, dy);
    case RELU: return each<T>(Relu<T>(), is_backward, x, dy);
    case LEAKY_RELU: return each<T>(LeakyRelu<T>{a}, is_backward, x, dy);
    default: return each<T>(Elu<T>{a}, is_backward, x, dy);
    }
}

// One call.
template <class T> struct Pass {
    typedef T Element;
    static constexpr int AT_ONCE = sizeof(T) == 8 ? 1 : 2;
    const Array &out, &x, &dy;
    const T *bias;
    const Line &line;
    const Activation &activation;

    struct Some {
        Stored<T> x, dy;
    };

    __device__ __forceinline__ void read(u64 i, u32 count, Some &some) const {
        load_some(x, i, count, some.x);
        if (activation.is_backward) load_some(dy, i, count, some.dy);
    }

    // y, or dx, of the elements from `i` on.
    __device__ __forceinline__ void write(u64 i, u32 count, const Some &some, T (&y)[4]) const {
        Quad<T> own_x, own_dy = {};
        some.x.convert(own_x.x);
        if (activation.is_backward) some.dy.convert(own_dy.x);
        if (bias) add_bias(line, bias, i, own_x.x);
        const double *s = activation.scalars;
        Quad<T> found = apply<T>(activation.kind, activation.is_backward, (T)s[0], (T)s[1], (T)s[2], own_x, own_dy);
        store_some<T>(out, i, count, found.x);
        y[0] = found.x[0], y[1] = found.x[1], y[2] = found.x[2], y[3] = found.x[3];
    }
};

#define ACTIVATE(T, suffix) \
    KERNEL(activate_##suffix)(Array out, Array x, Array dy, const T *bias, Line line, Activation activation, u64 n, \
                              Pieces pieces, double *sums) { \
        run(Pass<T>{out, x, dy, bias, line, activation}, n, pieces, sums); \
    } \
    KERNEL(activate_runs_##suffix)(Array out, Array x, Array dy, const T *bias, Line line, Activation activation, u64 n, \
                                   Pieces pieces, double *sums) { \
        run_runs(Pass<T>{out, x, dy, bias, line, activation}, n, pieces, sums); \
    }

ACTIVATE(float, f32)
ACTIVATE(double, f64)
