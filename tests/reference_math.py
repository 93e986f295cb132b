"""The NumPy oracle of the functions and activations: rust/math/, rust/activation/ and this file say the same lines.

Arrays are float32 or float64 and so are the constants; whole numbers are the arrays' bits.
"""

from functools import partial

import numpy as np

quiet = np.errstate(all="ignore")


class F32:
    """Constants of float32: rust/math/constants.rs."""

    dtype, bits = np.float32, np.uint32
    FRACTION_BITS, BIASES, TINY = 23, 127, 24
    FAR, ERF_MOST, ERF_CENTER = np.float32([128.0, 3.95, 2.5])
    LN2_HIGH = np.float32(45_426.0 / 65_536.0)
    LN2_LOW = np.float32(1.428_606_8e-6)
    EXP_LEAST, EXP_MOST, EXPM1_LEAST = np.float32([-104.0, 89.0, -18.0])
    EXPM1 = np.float32([0.000_198_460_15, 0.001_394_173_4, 0.008_333_465, 0.041_666_407, 0.166_666_66, 0.5])
    LOG = np.float32([0.298_717_35, 0.399_775_62, 0.666_667_76])
    TANH = np.float32([-0.006_170_458, 0.021_000_598, -0.053_835_757, 0.133_324_37, -0.333_333_13])
    ERF_NEAR = np.float32(
        [7.063_582_6e-5, -0.000_776_581_4, 0.005_160_26, -0.026_839_223, 0.112_832_56, -0.376_126_02, 0.128_379_17]
    )
    ERF_FAR = np.float32(
        [
            -0.000_179_495_85,
            9.300_879e-5,
            0.002_740_636,
            -0.006_501_807,
            -0.012_316_988,
            0.093_634_225,
            -0.190_061_3,
            0.142_032_62,
        ]
    )


class F64:
    """Constants of float64."""

    dtype, bits = np.float64, np.uint64
    FRACTION_BITS, BIASES, TINY = 52, 1023, 54
    FAR, ERF_MOST, ERF_CENTER = np.float64([1024.0, 6.0, 3.125])
    LN2_HIGH = np.float64(0.693_147_180_559_890_3)
    LN2_LOW = np.float64(5.497_923_018_708_371e-14)
    EXP_LEAST, EXP_MOST, EXPM1_LEAST = np.float64([-746.0, 710.0, -38.0])
    EXPM1 = np.float64(
        [
            2.087_516_587_025_832e-9,
            2.511_011_185_929_924_5e-8,
            2.755_740_643_512_145e-7,
            2.755_724_136_270_004e-6,
            2.480_158_716_417_077_5e-5,
            0.000_198_412_698_886_906_7,
            0.001_388_888_888_896_865_2,
            0.008_333_333_333_320_736,
            0.041_666_666_666_666_49,
            0.166_666_666_666_666_77,
            0.5,
        ]
    )
    LOG = np.float64(
        [
            0.147_982_558_559_164_23,
            0.153_138_327_073_900_68,
            0.181_835_723_226_080_05,
            0.222_221_984_298_400_84,
            0.285_714_287_436_755,
            0.399_999_999_994_094_14,
            0.666_666_666_666_673_5,
        ]
    )
    TANH = np.float64(
        [
            4.960_356_035_477_829e-5,
            -0.000_208_229_459_068_435_98,
            0.000_577_854_157_233_401_3,
            -0.001_452_779_367_501_019_6,
            0.003_591_630_139_728_437,
            -0.008_863_183_249_543_946,
            0.021_869_485_124_211_385,
            -0.053_968_253_839_889_097,
            0.133_333_333_330_936_4,
            -0.333_333_333_333_317_8,
        ]
    )
    ERF_NEAR = np.float64(
        [
            5.265_758_014_782_682e-11,
            -1.092_138_631_687_944_6e-9,
            1.453_036_845_506_365e-8,
            -1.632_893_462_763_581_4e-7,
            1.645_875_389_807_392_8e-6,
            -1.492_543_887_697_891_3e-5,
            0.000_120_553_238_298_521_63,
            -0.000_854_832_675_709_976_1,
            0.005_223_977_620_450_722,
            -0.026_866_170_644_572_838,
            0.112_837_916_709_518_69,
            -0.376_126_389_031_836_76,
            0.128_379_167_095_512_56,
        ]
    )
    ERF_FAR = np.float64(
        [
            -2.899_897_700_417_489e-14,
            -5.494_808_790_251_909_4e-14,
            1.802_415_692_076_464e-12,
            -1.676_136_200_826_115e-13,
            -6.382_263_486_041_836e-11,
            1.835_146_404_013_947_8e-10,
            1.441_246_526_016_701_2e-9,
            -1.007_318_473_683_638_5e-8,
            -9.109_943_661_103_35e-9,
            2.973_786_896_277_646_4e-7,
            -7.289_692_555_646_683e-7,
            -4.367_486_270_609_221e-6,
            2.900_247_841_741_619_2e-5,
            -1.265_125_111_530_766_2e-5,
            -0.000_435_437_411_098_459_15,
            0.001_568_607_102_068_008_4,
            0.000_511_278_805_758_019_4,
            -0.018_995_415_936_145_944,
            0.061_585_381_940_245_21,
            -0.091_752_746_748_213_83,
            0.056_088_390_952_173_106,
        ]
    )


for c in (F32, F64):
    c.LOG2_E = c.dtype(1.442_695_040_888_963_4)
    c.SHIFTER = c.dtype(1.5 * 2.0**c.FRACTION_BITS)
    c.SHIFTER_LESS_BIASES = c.SHIFTER.view(c.bits) - c.bits(2 * c.BIASES)
    c.FRACTION = c.bits(2**c.FRACTION_BITS - 1)
    c.ONE_TWICE = c.dtype(1.0).view(c.bits) * c.bits(2)
    c.TWO_BITS = c.dtype(2.0).view(c.bits)
    c.SQRT_HALF_BITS = c.dtype(0.707_106_781_186_547_6).view(c.bits)
    c.ONE_LESS_SQRT_HALF = c.dtype(1.0).view(c.bits) - c.SQRT_HALF_BITS
    c.WHOLE = c.dtype(2.0**c.FRACTION_BITS).view(c.bits)
    c.BIAS = c.dtype(2**c.FRACTION_BITS + c.BIASES)
    c.TINY_SCALE = c.dtype(2.0**c.TINY)
    c.TINY_BIAS = c.dtype(2**c.FRACTION_BITS + c.BIASES + c.TINY)
    c.FRACTION_BITS = c.bits(c.FRACTION_BITS)


def of(x):
    return {np.dtype(np.float32): F32, np.dtype(np.float64): F64}[x.dtype]


def to_bits(x):
    return x.view(of(x).bits)


def from_bits(bits):
    return bits.view(f"f{bits.itemsize}")


def at_least(x, least):
    return np.where(x < least, least, x)


def at_most(x, most):
    return np.where(x > most, most, x)


def within(x, far):
    return at_most(at_least(x, -far), far)


def polynomial(x, coefficients):
    sum = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        sum = sum * x + coefficient
    return sum


# Functions: rust/math/mod.rs.


def reduce(x):
    c = of(x)
    shifted = x * c.LOG2_E + c.SHIFTER
    n = shifted - c.SHIFTER
    return shifted, x - n * c.LN2_HIGH, n * c.LN2_LOW


def expm1_reduced(high, low):
    r = high - low
    return (r * r * polynomial(r, of(r).EXPM1) - low) + high


def powers(shifted):
    c = of(shifted)
    sum = to_bits(shifted) - c.SHIFTER_LESS_BIASES
    half = sum >> c.bits(1)
    return from_bits(half << c.FRACTION_BITS), from_bits((sum - half) << c.FRACTION_BITS)


@quiet
def exp(x):
    c = of(x)
    x = at_most(at_least(x, c.EXP_LEAST), c.EXP_MOST)
    shifted, high, low = reduce(x)
    a, b = powers(shifted)
    return (expm1_reduced(high, low) + 1) * a * b


@quiet
def expm1(x):
    c = of(x)
    shifted, high, low = reduce(at_most(at_least(x, c.EXPM1_LEAST), c.EXP_MOST))
    a, b = powers(shifted)
    inverse = from_bits(c.ONE_TWICE - to_bits(b))
    return np.copysign((expm1_reduced(high, low) * a + (a - inverse)) * b, x)


@quiet
def tanh(x):
    a = np.abs(x)
    z = a * a
    near = a + a * (z * polynomial(z, of(x).TANH))
    far = 1 - 2 / (exp(a * 2) + 1)
    return np.copysign(np.where(a < 0.5625, near, far), x)


@quiet
def sigmoid(x):
    z = exp(-np.abs(x))
    sum = z + 1
    lost = z - (sum - 1)
    y = np.where(x < 0, z, np.ones_like(x)) / sum
    return y - y * lost


def split(x):
    c = of(x)
    lifted = to_bits(x) + c.ONE_LESS_SQRT_HALF
    exponent = from_bits((lifted >> c.FRACTION_BITS) | c.WHOLE)
    return exponent, from_bits((lifted & c.FRACTION) + c.SQRT_HALF_BITS)


def log_reduced(n, f):
    c = of(f)
    half = f * f * c.dtype(0.5)
    s = f / (f + 2)
    z = s * s
    rest = s * (half + z * polynomial(z, c.LOG)) + n * c.LN2_LOW
    return n * c.LN2_HIGH - ((half - rest) - f)


def log_or_limit(x, y):
    zero, infinity = np.zeros_like(x), np.full_like(x, np.inf)
    limit = np.where(x == zero, -infinity, np.full_like(x, np.nan))
    y = np.where(x > zero, y, limit)
    return np.where(x == infinity, x, y)


@quiet
def log(x):
    c = of(x)
    tiny = x < np.finfo(x.dtype).tiny
    exponent, m = split(np.where(tiny, x * c.TINY_SCALE, x))
    bias = np.where(tiny, c.TINY_BIAS, c.BIAS)
    return log_or_limit(x, log_reduced(exponent - bias, m - 1))


@quiet
def log1p(x):
    c = of(x)
    u = x + 1
    back = u - 1
    lost = (1 - (u - back)) + (x - back)
    exponent, m = split(u)
    scale = from_bits((to_bits(m) - to_bits(u)) + c.TWO_BITS)
    f = (m - 1) + lost * scale * c.dtype(0.5)
    return np.copysign(log_or_limit(u, log_reduced(exponent - c.BIAS, f)), x)


@quiet
def erf(x):
    c = of(x)
    a = np.abs(x)
    near = a + a * polynomial(a * a, c.ERF_NEAR)
    root = polynomial(at_most(a, c.ERF_MOST) - c.ERF_CENTER, c.ERF_FAR)
    square = root * root
    far = 1 - square * square
    return np.copysign(np.where(a < 1.125, near, far), x)


FUNCTIONS = [exp, expm1, log, log1p, tanh, erf, sigmoid]

# Activations: rust/activation/smooth.rs.


def normal_cdf(x):
    return (erf(x * x.dtype.type(0.707_106_781_186_547_6)) + 1) * x.dtype.type(0.5)


def normal_pdf(x):
    return exp(x * x * x.dtype.type(-0.5)) * x.dtype.type(0.398_942_280_401_432_7)


def logistic(x):
    z = exp(-np.abs(x))
    large = 1 / (z + 1)
    small = z * large
    return np.where(x < 0, small, large), small * large


def gelu(x):
    x = at_least(x, -of(x).FAR)
    return x * normal_cdf(x)


def gelu_backward(x, dy):
    x = within(x, of(x).FAR)
    return dy * (normal_cdf(x) + x * normal_pdf(x))


def gelu_tanh_argument(x):
    sqrt_8_over_pi = x.dtype.type(1.595_769_121_605_730_7)
    square = x * x
    u = x * (square * x.dtype.type(0.044_715) + 1) * sqrt_8_over_pi
    return u, (square * x.dtype.type(0.134_145) + 1) * sqrt_8_over_pi


def gelu_tanh(x):
    x = at_least(x, -of(x).FAR)
    u, _ = gelu_tanh_argument(x)
    return x * sigmoid(u)


def gelu_tanh_backward(x, dy):
    x = within(x, of(x).FAR)
    u, du = gelu_tanh_argument(x)
    y, slope = logistic(u)
    return dy * (y + x * slope * du)


def silu(x):
    x = at_least(x, -of(x).FAR)
    return x * sigmoid(x)


def silu_backward(x, dy):
    x = within(x, of(x).FAR)
    y, slope = logistic(x)
    return dy * (y + x * slope)


def sigmoid_backward(x, dy):
    return dy * logistic(x)[1]


def tanh_backward(x, dy):
    return dy * (logistic(x * 2)[1] * 4)


def softplus(x, *, beta, inv_beta, threshold):
    z = x * beta
    y = (np.where(z > 0, z, np.zeros_like(z)) + log1p(exp(-np.abs(z)))) * inv_beta
    return np.where(z > threshold, x, y)


def softplus_backward(x, dy, *, beta, inv_beta, threshold):
    z = x * beta
    return np.where(z > threshold, dy, dy * sigmoid(z))


# rust/activation/kinked.rs


def relu(x):
    return np.where(x <= 0, np.zeros_like(x), x)


def relu_backward(x, dy):
    return np.where(x > 0, dy, np.where(x <= 0, np.zeros_like(x), x))


def leaky_relu(x, *, negative_slope):
    return np.where(x > 0, x, x * negative_slope)


def leaky_relu_backward(x, dy, *, negative_slope):
    return np.where(x > 0, dy, dy * np.where(x <= 0, negative_slope, x))


def hardtanh(x, *, min_val, max_val):
    return at_most(at_least(x, min_val), max_val)


def hardtanh_backward(x, dy, *, min_val, max_val):
    outside = np.where(np.isnan(x), x, np.zeros_like(x))
    return np.where((x > min_val) & (x < max_val), dy, outside)


def softsign(x):
    x = within(x, np.finfo(x.dtype).max)
    return x / (np.abs(x) + 1)


def softsign_backward(x, dy):
    t = np.abs(x) + 1
    return dy / (t * t)


def elu(x, *, alpha):
    return np.where(x > 0, x, expm1(x) * alpha)


def elu_backward(x, dy, *, alpha):
    return np.where(x > 0, dy, dy * (exp(x) * alpha))


PAIRS = [
    (gelu, gelu_backward),
    (gelu_tanh, gelu_tanh_backward),
    (silu, silu_backward),
    (sigmoid, sigmoid_backward),
    (tanh, tanh_backward),
    (softplus, softplus_backward),
    (hardtanh, hardtanh_backward),
    (softsign, softsign_backward),
    (relu, relu_backward),
    (leaky_relu, leaky_relu_backward),
    (elu, elu_backward),
]
# Scalars are float64 and rounded once to the arrays' type.
DEFAULTS = {
    "softplus": {"beta": 1.0, "inv_beta": 1.0, "threshold": 20.0},
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "leaky_relu": {"negative_slope": 0.01},
    "elu": {"alpha": 1.0},
}


def activation(name, dtype, **scalars):
    """Forward and backward of that name for arrays of the type."""
    scalars = {key: dtype.type(value) for key, value in {**DEFAULTS.get(name, {}), **scalars}.items()}
    forward, backward = next(pair for pair in PAIRS if pair[0].__name__ == name)
    return quiet(partial(forward, **scalars)), quiet(partial(backward, **scalars))
