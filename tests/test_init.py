"""Initializers: moments and bounds at five standard errors, exact truncation, seeds, dtypes, `out`, errors."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from helpers import assert_same_bits, misaligned
from stepsmith import init

Array = np.ndarray[Any, Any]
N_OUT, N_IN = 300, 200
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(np.float32), np.dtype(np.float64), BFLOAT16, np.dtype(np.float16)]
VARIANCE: dict[Callable[..., Array], float] = {
    init.xavier_uniform: 2.0 / (N_IN + N_OUT),
    init.xavier_normal: 2.0 / (N_IN + N_OUT),
    init.he_uniform: 2.0 / N_IN,
    init.he_normal: 2.0 / N_IN,
    init.lecun_uniform: 1.0 / N_IN,
    init.lecun_normal: 1.0 / N_IN,
}
RANDOM = [*VARIANCE, init.orthogonal, init.uniform, init.normal, init.truncated_normal]
EVERY = [*RANDOM, init.zeros, init.ones, partial(init.constant, val=0.1)]


def name_of(function: Any) -> str:
    return getattr(function, "__name__", "constant")


def is_uniform(function: Callable[..., Array]) -> bool:
    return function.__name__.endswith("uniform")


scaled = pytest.mark.parametrize("function", VARIANCE, ids=name_of)
random = pytest.mark.parametrize("function", RANDOM, ids=name_of)
every = pytest.mark.parametrize("function", EVERY, ids=name_of)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def assert_moments(draws: Array, mean: float, variance: float, kurtosis: float) -> None:
    """Mean and variance within five standard errors, which depend on the fourth standardized moment."""
    n, centred = draws.size, draws - mean
    assert abs(centred.mean()) < 5 * math.sqrt(variance / n)
    assert abs((centred**2).mean() - variance) < 5 * variance * math.sqrt((kurtosis - 1) / n)
    assert abs((centred**4).mean() / variance**2 - kurtosis) < 0.15, "uniform and normal must not be mixed up"


# Distributions.


@scaled
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_moments_are_the_formula_s(function, gain) -> None:
    weight = function((N_OUT, N_IN), rng(7), gain=gain, dtype=np.float64)
    assert_moments(weight, 0.0, gain**2 * VARIANCE[function], 1.8 if is_uniform(function) else 3.0)


@pytest.mark.parametrize("function", [*filter(is_uniform, VARIANCE)], ids=name_of)
def test_uniform_fills_its_bounds(function) -> None:
    bound = math.sqrt(3.0 * VARIANCE[function])
    weight = function((N_OUT, N_IN), rng(8), dtype=np.float64)
    assert 0.999 * bound < weight.max() <= bound
    assert -bound <= weight.min() < -0.999 * bound


def test_plain_distributions_have_their_moments_and_bounds() -> None:
    draws = init.uniform((300, 200), rng(1), a=-1.0, b=3.0, dtype=np.float64)
    assert_moments(draws, 1.0, 16 / 12, 1.8)
    assert -1 <= draws.min() < -0.999
    assert 2.999 < draws.max() <= 3
    assert_moments(init.normal((300, 200), rng(2), mean=-2.0, std=0.3, dtype=np.float64), -2.0, 0.09, 3.0)
    assert (init.normal((9,), rng(2), mean=-2.0, std=0.0) == -2).all()


@pytest.mark.parametrize("function", [init.he_uniform, init.he_normal], ids=name_of)
def test_he_counts_the_fan_that_mode_names_and_the_gain_of_the_nonlinearity(function) -> None:
    shape = (60, 20, 3, 5)
    for settings, variance in (
        ({}, 2 / 300),
        ({"mode": "fan_out"}, 2 / 900),
        ({"a": 1.0}, 1 / 300),
        ({"nonlinearity": "relu"}, 2 / 300),
        ({"nonlinearity": "tanh", "gain": 3.0}, 25 / 300),
    ):
        weight = function(shape, rng(3), dtype=np.float64, **settings)
        assert_moments(weight, 0.0, variance, 1.8 if is_uniform(function) else 3.0)


def test_gains() -> None:
    gains = [init.calculate_gain(name) for name in ("linear", "sigmoid", "tanh", "relu", "selu")]
    assert gains == [1.0, 1.0, 5 / 3, math.sqrt(2), 0.75]
    assert init.calculate_gain("leaky_relu") == math.sqrt(2 / (1 + 1e-4))
    assert init.calculate_gain("leaky_relu", 2) == math.sqrt(0.4)


def test_kernel_counts_in_both_fans() -> None:
    assert init.fans((8, 3, 5, 5)) == (75, 200)
    weight = init.xavier_uniform((80, 30, 3, 5), rng(4), dtype=np.float64)
    assert_moments(weight, 0.0, 2 / (80 * 15 + 30 * 15), 1.8)


def test_other_names_are_the_same_functions() -> None:
    assert init.kaiming_uniform is init.he_uniform
    assert init.kaiming_normal is init.he_normal
    assert init.glorot_uniform is init.xavier_uniform
    assert init.glorot_normal is init.xavier_normal
    assert init.trunc_normal is init.truncated_normal


def normal_mass(low: Array, high: Array) -> Array:
    """Mass of the standard normal between; erfc keeps its digits in the tails."""
    sign = np.where(low + high > 0, 1, -1)
    near, far = np.where(sign > 0, low, -high), np.where(sign > 0, high, -low)
    return np.array([math.erfc(a / math.sqrt(2)) - math.erfc(b / math.sqrt(2)) for a, b in zip(near, far)]) / 2


# Bounds in standard deviations, for each way to propose and mirrored; the last is 30 of them out.
@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-2, 2),
        (-0.5, 4),
        (-4, 0.5),
        (-0.1, 0.2),
        (0.3, 0.5),
        (-0.5, -0.3),
        (1, 9),
        (-9, -1),
        (1, 1.8),
        (2, 2.2),
        (30, 31),
    ],
)
def test_truncated_normal_has_the_analytic_distribution(low, high) -> None:
    mean, std, n = 3.0, 0.25, 20_000
    a, b = mean + std * low, mean + std * high
    draws = np.sort(init.truncated_normal((n,), rng(5), mean=mean, std=std, a=a, b=b, dtype=np.float64))
    assert a <= draws[0] <= draws[-1] <= b
    z = (draws - mean) / std
    cdf = normal_mass(np.full(n, float(low)), z) / normal_mass(np.array([float(low)]), np.array([float(high)]))
    rank = np.arange(n)
    distance = max((cdf - rank / n).max(), ((rank + 1) / n - cdf).max())
    # Kolmogorov: more than 2.23/√n comes once in 10,000 seeds.
    assert distance < 2.23 / math.sqrt(n)


def test_truncated_normal_holds_its_bounds_far_out() -> None:
    for low, width in ((1e5, 1.0), (-1e5, 1e-9), (1e12, 5.0)):
        draws = init.truncated_normal((500,), rng(6), a=low, b=low + width, dtype=np.float64)
        assert ((draws >= low) & (draws <= low + width)).all()
    offset = 1e7 * (init.truncated_normal((20_000,), rng(6), a=0.0, b=1.0, mean=-1e7, dtype=np.float64))
    assert abs(offset.mean() - 1.0) < 5 / math.sqrt(offset.size), (
        "so far out the tail is an exponential of mean std² / distance"
    )


# Orthogonal matrices.


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)])
@pytest.mark.parametrize("shape", [(5, 5), (40, 17), (17, 40), (6, 2, 3, 2), (1, 4), (4, 1)])
def test_orthogonal_side_is_orthonormal_times_gain(shape, dtype, tolerance) -> None:
    weight = init.orthogonal(shape, rng(9), gain=2.0, dtype=dtype)
    assert weight.shape == shape
    matrix = weight.reshape(shape[0], -1).astype(np.float64) / 2.0
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    assert np.abs(gram - np.eye(len(gram))).max() < tolerance


def test_orthogonal_is_uniform_over_all_such_matrices() -> None:
    """Without R's signs the entry at the corner always has one sign."""
    corner = np.array([init.orthogonal((3, 2), rng(seed), dtype=np.float64)[0, 0] for seed in range(2000)])
    # An entry of a random unit vector in three dimensions is uniform on [-1, 1].
    assert_moments(corner, 0.0, 1 / 3, 1.8)
    assert {float(init.orthogonal((1, 1), rng(seed))[0, 0]) for seed in range(20)} == {-1.0, 1.0}


# Constants.


def test_constants_draw_nothing() -> None:
    source = rng()
    assert (init.zeros((3, 4), source, dtype=np.float64) == np.zeros((3, 4))).all()
    assert (init.ones((3, 4), source) == 1).all()
    assert (init.constant((3, 4), source, val=-0.5) == -0.5).all()
    assert source.random() == rng().random()


# Seeds, dtypes, rounding.


@random
def test_seed_decides_and_dtype_only_rounds(function) -> None:
    draws = [function((5, 7), rng(seed), dtype=np.float64) for seed in (1, 1, 2)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).all()
    single = function((5, 7), rng(1))
    assert single.dtype == np.float32
    assert (single == draws[0].astype(np.float32)).all()


def rounded(value: float, digits: int) -> float:
    """The nearest number of so many binary digits, ties to even; not for subnormals."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, digits)), exponent - digits)


@every
@pytest.mark.parametrize(("dtype", "digits"), [(np.float32, 24), (np.float16, 11), (BFLOAT16, 8)])
def test_half_precision_is_rounded_once(function, dtype, digits) -> None:
    exact, got = (function((40, 60), rng(10), dtype=wanted).ravel() for wanted in (np.float64, dtype))
    normal = np.abs(exact) > 1e-4
    assert normal.any() or function is init.zeros
    want = [rounded(value, digits) for value in exact[normal].tolist()]
    assert got.astype(np.float64)[normal].tolist() == want


def test_bfloat16_does_not_round_by_way_of_float32() -> None:
    for sign in (1.0, -1.0):
        for value, want in (
            (1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-7),
            (1 + 2.0**-8 - 2.0**-40, 1.0),
            (1 + 2.0**-8, 1.0),
            (1 + 2.0**-8 + 2.0**-23 - 2.0**-40, 1 + 2.0**-7),
            (1 + 2.0**-8 - 2.0**-23 + 2.0**-40, 1.0),
            (1 + 3 * 2.0**-8, 1 + 2.0**-6),
        ):
            assert float(init.constant((), val=sign * value, dtype=BFLOAT16)) == sign * want


def strided(buffer: Array, *steps: int) -> Array:
    return np.lib.stride_tricks.as_strided(buffer, (4, 6), [step * buffer.itemsize for step in steps])


@every
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_out_of_any_layout_is_filled_and_returned(function, dtype) -> None:
    want = function((4, 6), rng(11), dtype=dtype)
    assert want.dtype == dtype
    for out in (
        np.full((4, 6), -3, dtype),
        np.full((4, 6), -3, dtype, order="F"),
        np.full((8, 12), -3, dtype)[::-2, 1::2],
        misaligned(np.full((4, 6), -3, dtype)),
        strided(np.full(99, -3, dtype), 3, 16),
        # Rows and columns interleave, and yet no two elements meet.
        strided(np.full(99, -3, dtype), 7, 3),
    ):
        assert function((4, 6), rng(11), out=out) is out
        assert_same_bits(out, want)
        assert function((4, 6), rng(12), dtype=dtype, out=out) is out


def test_neighbours_of_out_stay() -> None:
    buffer = np.full((8, 12), -3.0)
    init.uniform((4, 6), rng(), out=buffer[::2, 1::2])
    assert (buffer != -3).sum() == 24


@pytest.mark.parametrize("shape", [(), (0,), 3, (2, 0, 3), (5,)])
def test_plain_initializers_take_any_shape(shape) -> None:
    for function in (init.uniform, init.normal, init.truncated_normal, init.zeros, init.ones):
        assert function(shape, rng()).shape == ((shape,) if isinstance(shape, int) else shape)


def test_generator_keys_are_independent() -> None:
    draws = {init.generator(*key).random() for key in [(0,), (0, 0), (0, 1), (1, 0), (0, 1, 0)]}
    assert len(draws) == 5


# Errors.


@pytest.mark.parametrize("function", [*VARIANCE, init.orthogonal], ids=name_of)
@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (3, 0)])
def test_shape_without_fans_is_an_error(function, shape) -> None:
    with pytest.raises(ValueError, match=r"init: shape must have two or more axes"):
        function(shape, rng())


def read_only() -> Array:
    array = np.zeros((4, 6))
    array.flags.writeable = False
    return array


def overlapping(*strides: int) -> Array:
    return np.lib.stride_tricks.as_strided(np.zeros(100), (4, 6), strides)


BAD_OUT = [
    ([[0.0] * 6] * 4, TypeError, r"out must be a NumPy array .*, got builtins.list"),
    (np.zeros((6, 4)), ValueError, r"out must have shape \(4, 6\), got \(6, 4\)"),
    (np.zeros((4, 6), np.int64), TypeError, r"out must be float32, float64, bfloat16 or float16, got .*int64"),
    (np.zeros((4, 6), ">f8"), TypeError, r"out must be float32, .*, got .*>f8"),
    (read_only(), ValueError, r"out must be writable, got a read-only array"),
    (overlapping(0, 8), ValueError, r"out must not overlap itself, got strides \(0, 8\)"),
    (overlapping(8, 8), ValueError, r"out must not overlap itself, got strides \(8, 8\)"),
    (overlapping(48, 4), ValueError, r"out must not overlap itself, got strides \(48, 4\)"),
    (overlapping(16, 24), ValueError, r"out must not overlap itself, got strides \(16, 24\)"),
]


@every
@pytest.mark.parametrize(("out", "error", "message"), BAD_OUT)
def test_out_that_does_not_fit_is_an_error_before_any_draw(function, out, error, message) -> None:
    source, before = rng(), np.array(out)
    with pytest.raises(error, match=rf"^{name_of(function)}: {message}"):
        function((4, 6), source, out=out)
    assert (np.array(out) == before).all()
    assert source.random() == rng().random()


@every
def test_dtype_is_never_cast_in_silence(function) -> None:
    with pytest.raises(TypeError, match=r"out must be float32 as dtype says, got float64"):
        function((4, 6), rng(), dtype=np.float32, out=np.zeros((4, 6)))
    for dtype in (np.int32, "nonsense", ml_dtypes.float8_e4m3fn, complex):
        with pytest.raises(TypeError, match=r"dtype must be float32, float64, bfloat16 or float16, got "):
            function((4, 6), rng(), dtype=dtype)


@random
@pytest.mark.parametrize("source", [0, None, np.random.RandomState(0)], ids=["seed", "none", "old"])
def test_source_of_draws_must_be_a_generator(function, source) -> None:
    with pytest.raises(TypeError, match=rf"^{function.__name__}: rng must be a numpy.random.Generator, got "):
        function((4, 6), source)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: init.uniform((2,), rng(), a=1.0, b=0.0), ValueError, r"uniform: b must be at least a=1.0, got 0.0"),
        (lambda: init.uniform((2,), rng(), a="0"), TypeError, r"uniform: a must be a number, got '0'"),
        (lambda: init.uniform((2.5,), rng()), TypeError, r"uniform: shape\[0\] must be an integer, got 2.5"),
        (lambda: init.uniform((2, -1), rng()), ValueError, r"uniform: shape\[1\] must be at least 0, got -1"),
        (lambda: init.uniform("ab", rng()), TypeError, r"uniform: shape must be a tuple of integers, got 'ab'"),
        (lambda: init.he_normal(5, rng()), TypeError, r"init: shape must be a tuple of integers, got 5"),
        (
            lambda: init.normal((2,), rng(), std=-1.0),
            ValueError,
            r"normal: std must be finite and at least 0, got -1.0",
        ),
        (lambda: init.normal((2,), rng(), mean=math.nan), ValueError, r"normal: mean must be finite, got nan"),
        (lambda: init.constant((2,), val=math.inf), ValueError, r"constant: val must be finite, got inf"),
        (
            lambda: init.truncated_normal((2,), rng(), std=0.0),
            ValueError,
            r"std must be finite and more than 0, got 0.0",
        ),
        (lambda: init.truncated_normal((2,), rng(), a=2.0), ValueError, r"b must be more than a=2.0, got 2.0"),
        (lambda: init.truncated_normal((2,), rng(), std=1e-320), ValueError, r"std must not be so small that .* got 1"),
        (
            lambda: init.orthogonal((2, 2), rng(), gain=-1),
            ValueError,
            r"orthogonal: gain must be .* at least 0, got -1",
        ),
        (lambda: init.xavier_normal((2, 2), rng(), gain=-1), ValueError, r"xavier_normal: gain must be .* got -1"),
        (lambda: init.lecun_uniform((2, 2), rng(), gain="1"), TypeError, r"lecun_uniform: gain must be a number"),
        (
            lambda: init.he_uniform((2, 2), rng(), mode="in"),
            ValueError,
            r"mode must be one of fan_in, fan_out, got 'in'",
        ),
        (
            lambda: init.he_normal((2, 2), rng(), nonlinearity="x"),
            ValueError,
            r"he_normal: nonlinearity must be one of",
        ),
        (
            lambda: init.he_normal((2, 2), rng(), a=1, nonlinearity="relu"),
            ValueError,
            r"he_normal: a must be 0 for relu, got 1.0",
        ),
        (
            lambda: init.calculate_gain("gelu"),
            ValueError,
            r"calculate_gain: nonlinearity must be one of linear, .* 'gelu'",
        ),
        (lambda: init.calculate_gain("relu", 0.1), ValueError, r"calculate_gain: param must be None for relu, got 0.1"),
        (lambda: init.calculate_gain("leaky_relu", "1"), TypeError, r"calculate_gain: param must be a number, got '1'"),
    ],
)
def test_bad_arguments_are_named(build, error, message) -> None:
    with pytest.raises(error, match=message):
        build()
