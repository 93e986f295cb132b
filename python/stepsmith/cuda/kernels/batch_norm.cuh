// Batch norm: what is made of the sums over channels, then one output element of each element; the same as rust/norm/batch.rs and
// channel_map.rs.
// needs: elements.cuh divide.cuh norm_formula.cuh channel_shape.cuh

// Numbers of the channels in the compute type: rows of a table.
enum Numbers : int { MEAN, REST, RSTD, MEAN_G, MEAN_GX, ALL };

template <class T> __device__ __forceinline__ void note(T *table, u64 channels, u64 channel, double mean, double rstd) {
    Normalize<T> normalize(mean, rstd);
    table[MEAN * channels + channel] = normalize.mean;
    table[REST * channels + channel] = normalize.rest;
    table[RSTD * channels + channel] = normalize.rstd;
}

// Mirrors `STATISTICS` of stepsmith/cuda/batch_norm.py.
struct Statistics {
    double momentum;
    double eps;
    int training; // are they those of the elements, or the running ones?
    int moves;    // do the running ones move towards them?
};

// old + (value - old)·momentum in float64, rounded once.
template <class T> __device__ __forceinline__ void move_towards(const Array &running, u64 channel, double value, double momentum) {
    double old = (double)load_element<T>(running, channel);
    store_element<T>(running, channel, (T)(old + (value - old) * momentum));
}

template <class T>
__device__ __forceinline__ void find(const Channels &shape, const Statistics &statistics, const double *means,
                                     const double *squares, const Array &running_mean, const Array &running_var,
                                     double *mean, double *rstd, T *table) {
    u64 channel = (u64)blockIdx.x * blockDim.x + threadIdx.x, values = shape.samples * shape.inner;
    if (channel >= shape.channels) return;
    double own_mean, own_squares, count = 1.0;
    if (statistics.training) {
        Moments all = merged(means + channel, squares + channel, shape.channels, shape.pieces, shape.tall * shape.inner, values);
        own_mean = all.mean, own_squares = all.squares, count = values ? (double)values : 1.0;
    } else {
        own_mean = (double)load_element<T>(running_mean, channel), own_squares = (double)load_element<T>(running_var, channel);
    }
    double own_rstd = 1.0 / square_root(own_squares / count + statistics.eps);
    mean[channel] = own_mean, rstd[channel] = own_rstd;
    note(table, shape.channels, channel, own_mean, own_rstd);
    if (!statistics.moves) return;
    move_towards<T>(running_mean, channel, own_mean, statistics.momentum);
    move_towards<T>(running_var, channel, own_squares / (double)(values - 1), statistics.momentum);
}

// For the gradients: the means of g and of g·x̂ from the sums over a channel, or no mean at all if statistics were given.
template <class T>
__device__ __forceinline__ void differentiate(const Channels &shape, const double *mean, const double *rstd, const double *sums_gx,
                                              const double *sums_g, const T *weight, int training, T *table) {
    u64 channel = (u64)blockIdx.x * blockDim.x + threadIdx.x, values = shape.samples * shape.inner;
    if (channel >= shape.channels) return;
    note(table, shape.channels, channel, training ? mean[channel] : 0.0, rstd[channel]);
    double count = values ? (double)values : 1.0, factor = weight ? (double)weight[channel] : 1.0;
    table[MEAN_G * shape.channels + channel] = (T)(factor * sums_g[channel] / count);
    table[MEAN_GX * shape.channels + channel] = (T)(factor * sums_gx[channel] / count);
}

// How four elements that follow each other belong to channels: all to one, to four in a row, or each to any.
enum Spread : int { SAME, NEXT, ANY_ONE };

// Mirrors `MAP` of stepsmith/cuda/batch_norm.py.
struct Map {
    Divisor channels;
    Divisor inner;
    int spread;
};

// The channels of a quad and their numbers.
struct Places {
    u64 channel[4];
    int spread;

    __device__ __forceinline__ Places(const Map &map, u64 i) : spread(map.spread) {
        u64 run = quotient(i, map.inner), place = i - run * map.inner.n;
        channel[0] = remainder(run, map.channels);
#pragma unroll
        for (int k = 1; k < 4; k++) {
            place = place + 1 == map.inner.n ? 0 : place + 1;
            channel[k] = place ? channel[k - 1] : channel[k - 1] + 1 == map.channels.n ? 0 : channel[k - 1] + 1;
        }
    }

    template <class T> __device__ __forceinline__ void load(const T *numbers, T (&x)[4]) const {
        if (spread == NEXT) return load_quad<T>((u64)(numbers + channel[0]), sizeof(T) == 8 ? F64 : F32, x);
#pragma unroll
        for (int k = 0; k < 4; k++) x[k] = k && spread == SAME ? x[0] : numbers[channel[k]];
    }
};

// y of `x`, or dx of `x` and `dy` where there is one.
template <class T>
__device__ __forceinline__ void apply(const Map &map, const Array &out, const Array &x, const Array &dy, const T *table,
                                      const T *weight, const T *bias, u64 n) {
    const u64 channels = map.channels.n;
#pragma unroll 1
    for (u64 i = first_quad(); i < n; i += quad_stride()) {
        const u32 count = n - i < 4 ? (u32)(n - i) : 4;
        Stored<T> stored_x, stored_dy;
        load_some(x, i, count, stored_x);
        if (!is_absent(dy)) load_some(dy, i, count, stored_dy);
        const Places places(map, i);
        T own[4], g[4], mean[4], rest[4], rstd[4], factor[4];
        places.load(table + MEAN * channels, mean);
        places.load(table + REST * channels, rest);
        places.load(table + RSTD * channels, rstd);
        stored_x.convert(own);
#pragma unroll
        for (int k = 0; k < 4; k++) own[k] = ((own[k] - mean[k]) - rest[k]) * rstd[k];
        if (weight) places.load(weight, factor);
        if (is_absent(dy)) {
#pragma unroll
            for (int k = 0; k < 4 && weight; k++) own[k] = own[k] * factor[k];
            if (bias) places.load(bias, g);
#pragma unroll
            for (int k = 0; k < 4 && bias; k++) own[k] = own[k] + g[k];
        } else {
            stored_dy.convert(g);
            places.load(table + MEAN_G * channels, mean);
            places.load(table + MEAN_GX * channels, rest);
#pragma unroll
            for (int k = 0; k < 4; k++) own[k] = ((weight ? g[k] * factor[k] : g[k]) - mean[k] - own[k] * rest[k]) * rstd[k];
        }
        store_some(out, i, count, own);
    }
}

#define BATCH_KERNELS(T, suffix) \
    KERNEL(batch_statistics_##suffix)(Channels shape, Statistics statistics, const double *means, const double *squares, \
                                      Array running_mean, Array running_var, double *mean, double *rstd, T *table) { \
        find<T>(shape, statistics, means, squares, running_mean, running_var, mean, rstd, table); \
    } \
    KERNEL(batch_gradients_##suffix)(Channels shape, const double *mean, const double *rstd, const double *sums_gx, \
                                     const double *sums_g, const T *weight, int training, T *table) { \
        differentiate<T>(shape, mean, rstd, sums_gx, sums_g, weight, training, table); \
    } \
    KERNEL(channel_map_##suffix)(Map map, Array out, Array x, Array dy, const T *table, const T *weight, const T *bias, u64 n) { \
        apply<T>(map, out, x, dy, table, weight, bias, n); \
    }
BATCH_KERNELS(float, f32)
BATCH_KERNELS(double, f64)
