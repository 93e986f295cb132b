// exp, expm1, log, log1p, tanh, erf and sigmoid of plain operations; the same lines as rust/math/mod.rs.
// needs: constants.cuh

// What follows from the numbers of a compute type.
template <class T> struct Math : Constants<T> {
    typedef Constants<T> C;
    typedef typename Float<T>::Bits Bits;
    static constexpr T WHOLE_NUMBER = (T)(1ull << C::FRACTION_BITS);
    static constexpr T SHIFTER = (T)1.5 * WHOLE_NUMBER;
    static constexpr T LIFTED_SHIFTER = SHIFTER + (T)(C::LIFT + C::BIAS_OF_EXPONENT);
    static constexpr T BIAS = (T)((1ull << C::FRACTION_BITS) + C::BIAS_OF_EXPONENT);
    static constexpr T TINY_SCALE = (T)(1ull << C::TINY);
    static constexpr T TINY_BIAS = (T)((1ull << C::FRACTION_BITS) + C::BIAS_OF_EXPONENT + C::TINY);
    static constexpr Bits FRACTION = ((Bits)1 << C::FRACTION_BITS) - 1;
    static constexpr Bits ONE_BITS = (Bits)C::BIAS_OF_EXPONENT << C::FRACTION_BITS;
    static constexpr Bits TWO_BITS = ONE_BITS + ((Bits)1 << C::FRACTION_BITS);
    static constexpr Bits ONE_LESS_SQRT_HALF = ONE_BITS - C::SQRT_HALF_BITS;
    // The bits of 2^fraction bits and of 2^-lift, and of the least normal number.
    static constexpr Bits WHOLE = (Bits)(C::BIAS_OF_EXPONENT + C::FRACTION_BITS) << C::FRACTION_BITS;
    static constexpr Bits LOWERED = (Bits)(C::BIAS_OF_EXPONENT - C::LIFT) << C::FRACTION_BITS;
    static constexpr Bits LEAST = (Bits)1 << C::FRACTION_BITS;
};

template <class T> __device__ __forceinline__ T infinity() { return Float<T>::of(Float<T>::INFINITE); }
template <class T> __device__ __forceinline__ T not_a_number() { return Float<T>::of(Float<T>::INFINITE | Math<T>::LEAST / 2); }

// `x`, but no less than `least`; NaN stays.
template <class T> __device__ __forceinline__ T at_least(T x, T least) { return least > x ? least : x; }

// `x`, but no more than `most`; NaN stays.
template <class T> __device__ __forceinline__ T at_most(T x, T most) { return most < x ? most : x; }

// x = n·ln 2 + high - low with |high - low| ≤ ln 2 / 2: `high` is exact, and n stands in the low bits of `shifted`.
template <class T> struct Reduced {
    T shifted, high, low;
};

template <class T> __device__ __forceinline__ Reduced<T> reduced(T x) {
    T shifted = x * Math<T>::LOG2_E + Math<T>::SHIFTER;
    T n = shifted - Math<T>::SHIFTER;
    return {shifted, x - n * Math<T>::LN2_HIGH, n * Math<T>::LN2_LOW};
}

// e^r - 1 = r + r²·P(r) for r = high - low; `low` is added where its digits still count.
template <class T> __device__ __forceinline__ T expm1_reduced(T high, T low) {
    T r = high - low;
    return (r * r * Math<T>::expm1(r) - low) + high;
}

// Two powers of two whose product is 2^n: each is a normal number where 2^n no longer is.
template <class T> struct Powers {
    T a, b;
};

template <class T> __device__ __forceinline__ Powers<T> powers(T shifted) {
    typedef typename Float<T>::Bits Bits;
    Bits sum = bits_of(shifted) - (bits_of(Math<T>::SHIFTER) - 2 * Math<T>::BIAS_OF_EXPONENT);
    Bits half = sum >> 1;
    return {Float<T>::of(half << Math<T>::FRACTION_BITS), Float<T>::of((sum - half) << Math<T>::FRACTION_BITS)};
}

// e^x = 2^n·e^r.
template <class T> __device__ __forceinline__ T exponential(T x) {
    x = at_most(at_least(x, Math<T>::EXP_LEAST), Math<T>::EXP_MOST);
    Reduced<T> r = reduced(x);
    Powers<T> power = powers(r.shifted);
    return (expm1_reduced(r.high, r.low) + T(1)) * power.a * power.b;
}

// e^x of x ≤ 0, the same bits with less work; of other x nothing is promised but that NaN travels.
template <class T> __device__ __forceinline__ T exp_of_negative(T x) {
    x = at_least(x, Math<T>::EXP_LEAST);
    T lifted = x * Math<T>::LOG2_E + Math<T>::LIFTED_SHIFTER;
    T n = lifted - Math<T>::LIFTED_SHIFTER;
    T power = Float<T>::of(bits_of(lifted) << Math<T>::FRACTION_BITS);
    T e = expm1_reduced(x - n * Math<T>::LN2_HIGH, n * Math<T>::LN2_LOW) + T(1);
    return e * power * Float<T>::of(Math<T>::LOWERED);
}

// e^x - 1 = 2^n·(e^r - 1) + (2^n - 1), exact about 0. With 2^n = a·b: (a·(e^r - 1) + (a - 1/b))·b.
template <class T> __device__ __forceinline__ T exponential_less_one(T x) {
    Reduced<T> r = reduced(at_most(at_least(x, Math<T>::EXPM1_LEAST), Math<T>::EXP_MOST));
    Powers<T> power = powers(r.shifted);
    T inverse = Float<T>::of(2 * Math<T>::ONE_BITS - bits_of(power.b));
    return with_sign_of((expm1_reduced(r.high, r.low) * power.a + (power.a - inverse)) * power.b, x);
}

// tanh(x) = x + x·z·P(z), z = x², below 9/16, from there 1 - 2e / (1 + e) with e = e^(-2x), odd.
template <class T> __device__ __forceinline__ T hyperbolic_tangent(T x) {
    T a = magnitude(x), z = a * a;
    T near = a + a * (z * Math<T>::tanh(z));
    T e = exp_of_negative(a * T(-2));
    T far = T(1) - (e + e) / (e + T(1));
    return with_sign_of(a < T(0.5625) ? near : far, x);
}

// 1 / (1 + e^-x), with z = e^-|x| alone. What the sum 1 + z lost is taken off the quotient.
template <class T> __device__ __forceinline__ T sigmoid(T x) {
    T z = exp_of_negative(-magnitude(x));
    T sum = z + T(1);
    T lost = z - (sum - T(1));
    T y = (x < T(0) ? z : T(1)) / sum;
    return y - y * lost;
}

// x = 2^n·m with m between √½ and √2, as (n + bias + 2^fraction bits, m); x positive and normal.
template <class T> struct Split {
    T exponent, m;
};

template <class T> __device__ __forceinline__ Split<T> split(T x) {
    typename Float<T>::Bits lifted = bits_of(x) + Math<T>::ONE_LESS_SQRT_HALF;
    return {Float<T>::of((lifted >> Math<T>::FRACTION_BITS) | Math<T>::WHOLE),
            Float<T>::of((lifted & Math<T>::FRACTION) + Math<T>::SQRT_HALF_BITS)};
}

// n·ln 2 + log(1 + f) with s = f / (2 + f): log(1 + f) = f - f²/2 + s·(f²/2 + R), R = s²·P(s²) from the series of atanh.
template <class T> __device__ __forceinline__ T log_reduced(T n, T f) {
    T half = f * f * T(0.5);
    T s = f / (f + T(2));
    T z = s * s;
    T rest = s * (half + z * Math<T>::log(z)) + n * Math<T>::LN2_LOW;
    return n * Math<T>::LN2_HIGH - ((half - rest) - f);
}

// The logarithm `y` of `x`, but -Inf of 0, NaN below, and Inf of Inf.
template <class T> __device__ __forceinline__ T log_or_limit(T x, T y) {
    T limit = x == T(0) ? -infinity<T>() : not_a_number<T>();
    y = x > T(0) ? y : limit;
    return x == infinity<T>() ? x : y;
}

// log(x) = n·ln 2 + log(m); numbers below the least normal one are scaled up first.
template <class T> __device__ __forceinline__ T logarithm(T x) {
    bool tiny = x < Float<T>::of(Math<T>::LEAST);
    Split<T> parts = split(tiny ? x * Math<T>::TINY_SCALE : x);
    T bias = tiny ? Math<T>::TINY_BIAS : Math<T>::BIAS;
    return log_or_limit(x, log_reduced(parts.exponent - bias, parts.m - T(1)));
}

// log(1 + x) of finite x > -1, 0 without its sign: what the sum u = 1 + x lost, `lost`·2^-n, is added to m - 1.
template <class T> __device__ __forceinline__ T log1p_inside(T x) {
    T u = x + T(1);
    T back = u - T(1);
    T lost = (T(1) - (u - back)) + (x - back);
    Split<T> parts = split(u);
    // 2^(1 - n): 2^-n of the largest u is no number of its own.
    T scale = Float<T>::of((bits_of(parts.m) - bits_of(u)) + Math<T>::TWO_BITS);
    T f = (parts.m - T(1)) + lost * scale * T(0.5);
    return log_reduced(parts.exponent - Math<T>::BIAS, f);
}

// log(1 + x), exact about 0.
template <class T> __device__ __forceinline__ T logarithm_of_one_plus(T x) {
    return with_sign_of(log_or_limit(x + T(1), log1p_inside(x)), x);
}

// erf(x) = x + x·P(x²) below 9/8, from there 1 - Q(x - center)⁴, odd: the fourth root of 1 - erf is a far shorter polynomial.
template <class T> __device__ __forceinline__ T error_function(T x) {
    T a = magnitude(x);
    T near = a + a * Math<T>::erf_near(a * a);
    T root = Math<T>::erf_far(at_most(a, Math<T>::ERF_MOST) - Math<T>::ERF_CENTER);
    T square = root * root;
    T far = T(1) - square * square;
    return with_sign_of(a < T(1.125) ? near : far, x);
}
