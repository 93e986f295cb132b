// Activations of arrays, after a bias has been added: y = f(x + bias) and its gradients; the same as rust/activation/apply.rs.
// needs: smooth.cuh bias.cuh elements.cuh reduce.cuh

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
    const Array &out, &x, &dy;
    const T *bias;
    const Line &line;
    const Activation &activation;

    __device__ __forceinline__ void read(u64 i, u32 count, Stored<T> &own_x, Stored<T> &own_dy) const {
        load_some(x, i, count, own_x);
        if (activation.is_backward) load_some(dy, i, count, own_dy);
    }

    // y, or dx, of the elements from `i` on.
    __device__ __forceinline__ Quad<T> write(u64 i, u32 count, const Stored<T> &stored_x, const Stored<T> &stored_dy) const {
        Quad<T> own_x, own_dy = {};
        stored_x.convert(own_x.x);
        if (activation.is_backward) stored_dy.convert(own_dy.x);
        if (bias) add_bias(line, bias, i, own_x.x);
        const double *s = activation.scalars;
        Quad<T> y = apply<T>(activation.kind, activation.is_backward, (T)s[0], (T)s[1], (T)s[2], own_x, own_dy);
        store_some<T>(out, i, count, y.x);
        return y;
    }
};

// Quads of a walk, some at a time, and the sums over each place of a quad.
template <class T>
__device__ __forceinline__ void walk(const Pass<T> &pass, u64 i, u64 end, u64 step, u32 width, double (&sums)[4]) {
    const int AT_ONCE = sizeof(T) == 8 ? 1 : 2;
#pragma unroll 1
    for (; i < end; i += AT_ONCE * step) {
        Stored<T> x[AT_ONCE], dy[AT_ONCE];
        u32 counts[AT_ONCE];
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
            u64 at = i + n * step;
            counts[n] = at >= end ? 0 : end - at < width ? (u32)(end - at) : width;
            pass.read(at, counts[n], x[n], dy[n]);
        }
#pragma unroll
        for (int n = 0; n < AT_ONCE; n++) {
            if (counts[n] == 0) break;
            Quad<T> y = pass.write(i + n * step, counts[n], x[n], dy[n]);
#pragma unroll
            for (u32 k = 0; k < 4; k++) sums[k] += k < counts[n] ? (double)y.x[k] : 0.0;
        }
    }
}

// With `sums` a thread goes down the lines of a piece, at the same places of each; else over the whole grid's quads.
template <class T> __device__ __forceinline__ void run(const Pass<T> &pass, u64 n, const Pieces &pieces, double *sums) {
    u64 threads = quad_stride() / 4, len = pass.line.len, quads = (len + 3) / 4, items = sums ? pieces.count * quads : threads;
#pragma unroll 1
    for (u64 item = first_quad() / 4; item < items; item += threads) {
        u64 piece = sums ? item / quads : 0, at = (item - piece * quads) * 4, start = piece * pieces.turn;
        u64 end = sums && start + pieces.turn < n ? start + pieces.turn : n;
        u32 width = sums && len - at < 4 ? (u32)(len - at) : 4;
        double own[4] = {0.0, 0.0, 0.0, 0.0};
        walk(pass, start + at, end, sums ? len : quad_stride(), width, own);
        for (u32 k = 0; sums && k < width; k++) sums[piece * len + at + k] = take(own, k);
    }
}

// Sums of runs: a warp goes over a channel's elements in a piece, part by part as blocks cut them.
template <class T> __device__ __forceinline__ void run_runs(const Pass<T> &pass, u64 n, const Pieces &pieces, double *sums) {
    u64 channels = pass.line.channels.n, inner = pass.line.inner.n, sample = channels * inner;
    u64 warps = (u64)gridDim.x * warps_of_block();
    for (u64 item = (u64)blockIdx.x * warps_of_block() + warp_of_block(); item < pieces.count * channels; item += warps) {
        u64 piece = item / channels, channel = item - piece * channels;
        u64 start = pieces.start(piece), end = pieces.end(piece, n);
        double sum = 0.0;
        for (u64 first = start / sample * sample; first < end; first += sample) {
            u64 low = first + channel * inner, high = low + inner < end ? low + inner : end;
            for (u64 at = low < start ? start : low; at < high;) {
                u64 cut = first + ((at - first) / PART + 1) * PART, part_end = cut < high ? cut : high;
                Lanes lanes = {{0.0, 0.0, 0.0, 0.0}};
                walk(pass, at + 4 * lane_of_warp(), part_end, LANES, 4, lanes.sums);
                sum += fold(lanes);
                at = part_end;
            }
        }
        if (lane_of_warp() == 0) sums[item] = sum;
    }
}

#define ACTIVATE(T, suffix) \
    KERNEL(activate_##suffix)(Array out, Array x, Array dy, const T *bias, Line line, Activation activation, u64 n, \
                              Pieces pieces, double *sums) { \
        run<T>(Pass<T>{out, x, dy, bias, line, activation}, n, pieces, sums); \
    } \
    KERNEL(activate_runs_##suffix)(Array out, Array x, Array dy, const T *bias, Line line, Activation activation, u64 n, \
                                   Pieces pieces, double *sums) { \
        run_runs<T>(Pass<T>{out, x, dy, bias, line, activation}, n, pieces, sums); \
    }

ACTIVATE(float, f32)
ACTIVATE(double, f64)

KERNEL(add_sums)(const double *sums, u64 pieces, Line line, double *channels) {
    u64 channel = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (channel < line.channels.n) add_to_channel(sums, pieces, line, channel, channels);
}
