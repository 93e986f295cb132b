"""The NumPy oracle of the functions and activations: rust/math/, rust/activation/ and this file say the same lines.

Arrays are float32 or float64 and so are the constants; whole numbers are the arrays' bits.
"""

from functools import partial

import numpy as np

from reference_constants import of

quiet = np.errstate(all="ignore")


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


def in_a_row(x, coefficients):
    sum = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        sum = sum * x + coefficient
    return sum


def polynomial(x, coefficients):
    square, last = x * x, len(coefficients) - 1
    sums = [np.full_like(x, coefficients[0]), np.full_like(x, coefficients[1])]
    for k in range(2, last + 1):
        sums[k % 2] = sums[k % 2] * square + coefficients[k]
    return sums[1 - last % 2] * x + sums[last % 2]


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
def exp_of_negative(x):
    c = of(x)
    x = at_least(x, c.EXP_LEAST)
    lifted = x * c.LOG2_E + c.LIFTED_SHIFTER
    n = lifted - c.LIFTED_SHIFTER
    power = from_bits(to_bits(lifted) << c.FRACTION_BITS)
    return (expm1_reduced(x - n * c.LN2_HIGH, n * c.LN2_LOW) + 1) * power * c.LOWERED


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
    e = exp_of_negative(a * -2)
    far = 1 - (e + e) / (e + 1)
    return np.copysign(np.where(a < 0.5625, near, far), x)


@quiet
def sigmoid(x):
    z = exp_of_negative(-np.abs(x))
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
    return np.copysign(log_or_limit(x + 1, log1p_inside(x)), x)


def log1p_inside(x):
    c = of(x)
    u = x + 1
    back = u - 1
    lost = (1 - (u - back)) + (x - back)
    exponent, m = split(u)
    scale = from_bits((to_bits(m) - to_bits(u)) + c.TWO_BITS)
    f = (m - 1) + lost * scale * c.dtype(0.5)
    return log_reduced(exponent - c.BIAS, f)


@quiet
def erf(x):
    c = of(x)
    a = np.abs(x)
    near = a + a * in_a_row(a * a, c.ERF_NEAR)
    root = polynomial(at_most(a, c.ERF_MOST) - c.ERF_CENTER, c.ERF_FAR)
    square = root * root
    far = 1 - square * square
    return np.copysign(np.where(a < 1.125, near, far), x)


FUNCTIONS = [exp, expm1, log, log1p, tanh, erf, sigmoid]

# Activations: rust/activation/smooth.rs.


def normal_cdf(x):
    return (erf(x * x.dtype.type(0.707_106_781_186_547_6)) + 1) * x.dtype.type(0.5)


def normal_pdf(x):
    return exp_of_negative(x * x * x.dtype.type(-0.5)) * x.dtype.type(0.398_942_280_401_432_7)


def logistic(x):
    z = exp_of_negative(-np.abs(x))
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
    y = (np.where(z > 0, z, np.zeros_like(z)) + log1p_inside(exp_of_negative(-np.abs(z)))) * inv_beta
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
    return np.where(x > 0, dy, dy * (exp_of_negative(x) * alpha))


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
