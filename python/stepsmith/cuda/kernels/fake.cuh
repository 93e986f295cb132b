// There and back at once, and its gradients: numbers stay numbers, as if they had been codes; the same lines as
// rust/quant/affine/fake_formula.rs.
// needs: channel_sums.cuh elements.cuh

// Mirrors `SETTINGS` of stepsmith/cuda/quant/fake.py: the least and the largest code, and whether numbers are multiplied by 1 /
// scale.
struct FakeSettings {
    double qmin, qmax;
    int is_reciprocal;
    int is_backward;
};

// 1.5 times a power of two: added to a number it leaves the nearest integer, half to even, in the lowest bits.
template <class T> struct FakeShifter;
template <> struct FakeShifter<float> { static constexpr float VALUE = 12582912.0f; };
template <> struct FakeShifter<double> { static constexpr double VALUE = 6755399441055744.0; };

// a where a < b, else b: NaN in `b` stays.
template <class T> __device__ __forceinline__ T smaller(T a, T b) { return a < b ? a : b; }

// The numbers of a scale.
template <class T> struct FakeNumbers {
    T scale, inverse, low, high;
    bool is_reciprocal;

    __device__ __forceinline__ T scaled(T x) const { return is_reciprocal ? x * inverse : x / scale; }

    // The nearest integer, if that is at most a step outside the bounds; NaN stays.
    __device__ __forceinline__ T rounded(T scaled) const {
        T near = smaller(high + T(1), larger(low - T(1), scaled));
        return (near + FakeShifter<T>::VALUE) - FakeShifter<T>::VALUE;
    }

    __device__ __forceinline__ T forward(T rounded) const { return smaller(high, larger(low, rounded)) * scale; }

    __device__ __forceinline__ T straight(T x, T rounded, T dy) const {
        return rounded >= low && rounded <= high ? dy : x != x ? x : T(0);
    }

    __device__ __forceinline__ T learned(T scaled, T rounded, T dy) const {
        T below = rounded < low ? low : rounded - scaled;
        return (rounded > high ? high : below) * dy;
    }
};

// A function of its own, so that its many callers share the text.
template <class T>
__device__ __noinline__ FakeNumbers<T> numbers_of(double qmin, double qmax, bool is_reciprocal, double scale, double zero) {
    T own = (T)scale;
    return {own, is_reciprocal ? T(1) / own : T(1), (T)(qmin - zero), (T)(qmax - zero), is_reciprocal};
}

// One call.
template <class T> struct FakePass {
    typedef T Element;
    static constexpr int AT_ONCE = 1;
    const Array &out, &x, &dy;
    const double *scales, *zero_points;
    const Line &line;
    const FakeSettings &settings;

    struct Some {
        Stored<T> x, dy;
    };

    __device__ __forceinline__ void read(u64 i, u32 count, Some &some) const {
        load_some(x, i, count, some.x);
        if (settings.is_backward) load_some(dy, i, count, some.dy);
    }

    __device__ __forceinline__ FakeNumbers<T> numbers(u64 channel) const {
        return numbers_of<T>(settings.qmin, settings.qmax, settings.is_reciprocal, scales[channel], zero_points[channel]);
    }

    // y of the elements from `i` on, or dx and what goes into the gradients of the scales.
    __device__ __forceinline__ void write(u64 i, u32 count, const Some &some, T (&terms)[4]) const {
        u64 run = quotient(i, line.inner), place = i - run * line.inner.n, channel = remainder(run, line.channels);
        T own[4], gradient[4] = {}, y[4];
        some.x.convert(own);
        if (settings.is_backward) some.dy.convert(gradient);
        FakeNumbers<T> numbers = this->numbers(channel);
#pragma unroll
        for (u32 k = 0; k < 4; k++) {
            T scaled = numbers.scaled(own[k]), rounded = numbers.rounded(scaled);
            y[k] = settings.is_backward ? numbers.straight(own[k], rounded, gradient[k]) : numbers.forward(rounded);
            terms[k] = numbers.learned(scaled, rounded, gradient[k]);
            place++;
            if (k + 1 >= count || place < line.inner.n) continue;
            place = 0, channel = channel + 1 == line.channels.n ? 0 : channel + 1;
            numbers = this->numbers(channel);
        }
        store_some<T>(out, i, count, y);
    }
};

#define FAKE(T, suffix) \
    KERNEL(fake_quantize_##suffix)(Array out, Array x, Array dy, const double *scales, const double *zero_points, Line line, \
                                   FakeSettings settings, u64 n, Pieces pieces, double *sums) { \
        run(FakePass<T>{out, x, dy, scales, zero_points, line, settings}, n, pieces, sums); \
    } \
    KERNEL(fake_quantize_runs_##suffix)(Array out, Array x, Array dy, const double *scales, const double *zero_points, Line line, \
                                        FakeSettings settings, u64 n, Pieces pieces, double *sums) { \
        run_runs(FakePass<T>{out, x, dy, scales, zero_points, line, settings}, n, pieces, sums); \
    }

FAKE(float, f32)
FAKE(double, f64)
