// The numbers of the polynomials, as in rust/math/constants.rs, which says what each is and how good (a test compares the two).
// needs: types.cuh

// Horner's rule, the coefficient of the highest power first.
template <class T, int N> __device__ __forceinline__ T in_a_row(T x, const T (&coefficients)[N]) {
    T sum = coefficients[0];
#pragma unroll
    for (int k = 1; k < N; k++) sum = sum * x + coefficients[k];
    return sum;
}

// Horner's rule in x² for the even and for the odd powers, side by side; the coefficient of the highest power first.
template <class T, int N> __device__ __forceinline__ T polynomial(T x, const T (&coefficients)[N]) {
    const int last = N - 1;
    T square = x * x;
    T sums[2] = {coefficients[0], coefficients[1]};
#pragma unroll
    for (int k = 2; k <= last; k++) sums[k % 2] = sums[k % 2] * square + coefficients[k];
    return sums[1 - last % 2] * x + sums[last % 2];
}

template <class T> struct Constants;

template <> struct Constants<float> {
    static constexpr float FAR = 128.0f;
    static constexpr float LOG2_E = 1.44269504088896340736f;
    static constexpr float LN2_HIGH = 45426.0f / 65536.0f;
    static constexpr float LN2_LOW = 1.4286068e-6f;
    static constexpr u32 SQRT_HALF_BITS = 0x3f3504f3u;
    static constexpr float EXP_LEAST = -104.0f;
    static constexpr float EXP_MOST = 89.0f;
    static constexpr float EXPM1_LEAST = -18.0f;
    static constexpr float ERF_MOST = 3.95f;
    static constexpr float ERF_CENTER = 2.5f;
    static constexpr int FRACTION_BITS = 23, BIAS_OF_EXPONENT = 127, TINY = 24, LIFT = 65;
    static __device__ __forceinline__ float expm1(float x) {
        constexpr float c[] = {0.00019846015f, 0.0013941734f, 0.008333465f, 0.041666407f, 0.16666666f, 0.5f};
        return polynomial(x, c);
    }
    static __device__ __forceinline__ float log(float x) {
        constexpr float c[] = {0.29871735f, 0.39977562f, 0.66666776f};
        return polynomial(x, c);
    }
    static __device__ __forceinline__ float tanh(float x) {
        constexpr float c[] = {-0.006170458f, 0.021000598f, -0.053835757f, 0.13332437f, -0.33333313f};
        return polynomial(x, c);
    }
    static __device__ __forceinline__ float erf_near(float x) {
        constexpr float c[] = {7.0635826e-5f, -0.0007765814f, 0.00516026f, -0.026839223f, 0.11283256f, -0.37612602f, 0.12837917f};
        return in_a_row(x, c);
    }
    static __device__ __forceinline__ float erf_far(float x) {
        constexpr float c[] = {-0.00017949585f, 9.300879e-5f, 0.002740636f, -0.006501807f, -0.012316988f, 0.093634225f, -0.1900613f,
                              0.14203262f};
        return polynomial(x, c);
    }
};

template <> struct Constants<double> {
    static constexpr double FAR = 1024.0;
    static constexpr double LOG2_E = 1.44269504088896340736;
    static constexpr double LN2_HIGH = 0.6931471805598903;
    static constexpr double LN2_LOW = 5.497923018708371e-14;
    static constexpr u64 SQRT_HALF_BITS = 0x3fe6a09e667f3bcdull;
    static constexpr double EXP_LEAST = -746.0;
    static constexpr double EXP_MOST = 710.0;
    static constexpr double EXPM1_LEAST = -38.0;
    static constexpr double ERF_MOST = 6.0;
    static constexpr double ERF_CENTER = 3.125;
    static constexpr int FRACTION_BITS = 52, BIAS_OF_EXPONENT = 1023, TINY = 54, LIFT = 129;
    static __device__ __forceinline__ double expm1(double x) {
        constexpr double c[] = {2.087516587025832e-9, 2.5110111859299245e-8, 2.755740643512145e-7, 2.755724136270004e-6,
                              2.4801587164170775e-5, 0.0001984126988869067, 0.0013888888888968652, 0.008333333333320736,
                              0.04166666666666649, 0.16666666666666677, 0.5};
        return polynomial(x, c);
    }
    static __device__ __forceinline__ double log(double x) {
        constexpr double c[] = {0.14798255855916423, 0.15313832707390068, 0.18183572322608005, 0.22222198429840084, 0.285714287436755,
                              0.39999999999409414, 0.6666666666666735};
        return polynomial(x, c);
    }
    static __device__ __forceinline__ double tanh(double x) {
        constexpr double c[] = {4.960356035477829e-5, -0.00020822945906843598, 0.0005778541572334013, -0.0014527793675010196,
                              0.003591630139728437, -0.008863183249543946, 0.021869485124211385, -0.053968253839889097,
                              0.1333333333309364, -0.3333333333333178};
        return polynomial(x, c);
    }
    static __device__ __forceinline__ double erf_near(double x) {
        constexpr double c[] = {5.265758014782682e-11, -1.0921386316879446e-9, 1.453036845506365e-8, -1.6328934627635814e-7,
                              1.6458753898073928e-6, -1.4925438876978913e-5, 0.00012055323829852163, -0.0008548326757099761,
                              0.005223977620450722, -0.026866170644572838, 0.11283791670951869, -0.37612638903183676,
                              0.12837916709551256};
        return in_a_row(x, c);
    }
    static __device__ __forceinline__ double erf_far(double x) {
        constexpr double c[] = {-2.899897700417489e-14, -5.4948087902519094e-14, 1.802415692076464e-12, -1.676136200826115e-13,
                              -6.382263486041836e-11, 1.8351464040139478e-10, 1.4412465260167012e-9, -1.0073184736836385e-8,
                              -9.10994366110335e-9, 2.9737868962776464e-7, -7.289692555646683e-7, -4.367486270609221e-6,
                              2.9002478417416192e-5, -1.2651251115307662e-5, -0.00043543741109845915, 0.0015686071020680084,
                              0.0005112788057580194, -0.018995415936145944, 0.06158538194024521, -0.09175274674821383,
                              0.056088390952173106};
        return polynomial(x, c);
    }
};
