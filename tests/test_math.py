"""The oracle's functions against mpmath, its activations against PyTorch's; the bits that the Rust tests read."""

from pathlib import Path

import mpmath
import numpy as np
import pytest
import scipy.special

import reference_math as ref
from reference_math import FUNCTIONS, PAIRS

GOLDEN = Path(__file__).parent / "golden"
LAYERS = np.load(GOLDEN / "layers.npz")
NAMES = [forward.__name__ for forward, _ in PAIRS]
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
TINY = {F32: 2.0**-149, F64: 2.0**-1074}
DIGITS = {F32: 23, F64: 52}
# Units in the last place that a result may be off. Found: float32 over every number there is, float64 over millions.
WORST = {
    "exp": (0.91, 0.90),
    "expm1": (1.73, 1.60),
    "log": (0.85, 0.90),
    "log1p": (1.40, 1.50),
    "tanh": (1.50, 1.50),
    "erf": (1.74, 1.60),
    "sigmoid": (1.97, 1.99),
}
functions = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
dtypes = pytest.mark.parametrize("dtype", [F32, F64], ids=str)

# The same functions by others: float64 where float32 is measured, 60 digits where float64 is.
DOUBLE = {
    **{name: getattr(np, name) for name in ("exp", "expm1", "log", "log1p", "tanh")},
    "erf": scipy.special.erf,
    "sigmoid": scipy.special.expit,
}
EXACT = {
    **{name: getattr(mpmath, name) for name in ("exp", "expm1", "log", "log1p", "tanh", "erf")},
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
}


def everywhere(dtype: np.dtype, count: int, seed: int = 0) -> np.ndarray:
    """Random bits (every exponent, both signs, below the least normal number too), and numbers of everyday size."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2 ** (8 * dtype.itemsize), count // 2, dtype=f"u{dtype.itemsize}", endpoint=False)
    scale = 2.0 ** rng.uniform(-12, 7 if dtype == F32 else 10, count - count // 2)
    return np.concatenate([bits.view(dtype), (scale * rng.choice([-1, 1], scale.size)).astype(dtype)])


def edges(dtype: np.dtype) -> np.ndarray:
    """Neighbours of the places where a formula changes or a result leaves the range."""
    info = np.finfo(dtype)
    places = [0.5, 1, 2, np.sqrt(0.5), np.sqrt(2), np.log(2) / 2, np.log(2) * 1.5, float(info.tiny), float(info.eps)]
    places += [np.log(float(info.max)), np.log(float(info.tiny)), np.log(TINY[dtype]), 9.01, 17.33, 18.0, 36.7, 38.0]
    places += [3.8325, 3.9192, 3.95, 5.8636, 5.921587, float(info.max), 2.0 ** DIGITS[dtype], TINY[dtype]]
    bits = np.array(places, dtype).view(f"u{dtype.itemsize}")
    near = (bits[:, None] + np.arange(-20, 21).astype(bits.dtype)).reshape(-1).view(dtype)
    near = near[~np.isnan(near)]
    return np.concatenate([near, -near])


def domain(function, x: np.ndarray) -> np.ndarray:
    """Where the function is a number."""
    least = {"log": 0.0, "log1p": -1.0}.get(function.__name__, -np.inf)
    return x[np.isfinite(x) & (x > least)]


def ulps_of_float32(function, x: np.ndarray) -> np.ndarray:
    got = function(x)
    with np.errstate(all="ignore"):
        want = DOUBLE[function.__name__](x.astype(np.float64))
        _, exponent = np.frexp(want)
        unit = np.maximum(np.ldexp(1.0, np.maximum(exponent - 24, -149)), 2.0**-149)
        error = np.abs(got.astype(np.float64) - want) / unit
        return np.where(np.isinf(want.astype(np.float32)) & np.isinf(got), 0.0, error)


def ulps_of_float64(function, x: np.ndarray) -> np.ndarray:
    got = function(x)
    errors = np.zeros(x.size)
    with mpmath.workdps(60):
        for i in range(x.size):
            want = EXACT[function.__name__](mpmath.mpf(float(x[i])))
            if np.isinf(got[i]):
                errors[i] = 0 if abs(want) >= mpmath.mpf(2) ** 1024 * (1 - mpmath.mpf(2) ** -54) else np.inf
                continue
            unit = mpmath.mpf(2) ** max(mpmath.frexp(want)[1] - 53, -1074)
            errors[i] = abs(mpmath.mpf(float(got[i])) - want) / unit
    return errors


def assert_within(function, dtype: np.dtype, x: np.ndarray) -> None:
    errors = (ulps_of_float32 if dtype == F32 else ulps_of_float64)(function, x)
    worst = int(np.argmax(errors))
    assert not np.isnan(errors).any(), x[np.isnan(errors)][:5]
    assert errors[worst] <= WORST[function.__name__][dtype == F64], (errors[worst], x[worst])


@functions
@dtypes
def test_functions_stay_within_their_figure(function, dtype) -> None:
    x = np.concatenate([everywhere(dtype, 20_000 if dtype == F32 else 3_000), edges(dtype)])
    x = np.clip(x, -2000, 2000) if dtype == F64 and function.__name__ not in ("log", "log1p") else x
    assert_within(function, dtype, domain(function, x))


@pytest.mark.slow
@functions
@dtypes
def test_functions_stay_within_their_figure_over_large_counts(function, dtype) -> None:
    for seed in range(1, 11):
        x = everywhere(dtype, 2_000_000 if dtype == F32 else 10_000, seed)
        x = np.clip(x, -2000, 2000) if dtype == F64 and function.__name__ not in ("log", "log1p") else x
        assert_within(function, dtype, domain(function, x))


def test_figures_are_what_was_promised() -> None:
    assert all(single <= 2 and double <= 4 for single, double in WORST.values())
    assert set(WORST) == {function.__name__ for function in FUNCTIONS} == set(EXACT) == set(DOUBLE)


@dtypes
def test_limits_zeros_and_nan(dtype) -> None:
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0, -1.0], dtype)
    with np.errstate(all="ignore"):
        for function in FUNCTIONS:
            got, want = function(x), DOUBLE[function.__name__](x.astype(np.float64))
            np.testing.assert_array_equal(got[:5], want[:5].astype(dtype), function.__name__)
            np.testing.assert_array_equal(np.signbit(got[3:5]), np.signbit(want[3:5]), function.__name__)
            np.testing.assert_allclose(got[5:], want[5:], rtol=4 * np.finfo(dtype).eps, err_msg=function.__name__)


@pytest.mark.parametrize("name", NAMES)
@dtypes
def test_activations_equal_pytorchs(name, dtype) -> None:
    x, dy, y, dx = (LAYERS[f"act-{name}/{field}"].astype(dtype) for field in ("in0", "dy", "y", "d0"))
    forward, backward = ref.activation(name, dtype)
    for got, want in [(forward(x), y), (backward(x, dy), dx)]:
        assert got.dtype == dtype
        assert np.abs(got - want).max() <= (1e-12 if dtype == F64 else 2e-6) * np.abs(want).max()


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_are_the_slopes_of_the_values(name) -> None:
    x = np.linspace(-7.0, 7.0, 999) + 1e-3
    x = x[np.abs(np.abs(x) - 1) > 1e-2]
    forward, backward = ref.activation(name, F64)
    h = 2.0**-14
    slope = (forward(x + h) - forward(x - h)) / (2 * h)
    np.testing.assert_allclose(backward(x, np.ones_like(x)), slope, rtol=1e-6, atol=1e-7)


# The Rust tests read their inputs and results from here; `python tests/test_math.py` writes the file.

SCALARS = {
    "softplus": {"beta": 2.0, "inv_beta": 0.5, "threshold": 20.0},
    "hardtanh": {"min_val": -0.7, "max_val": 1.1},
    "leaky_relu": {"negative_slope": 0.01},
    "elu": {"alpha": 1.3},
}


def inputs(dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Some 200 numbers: edges, everyday ones, any bits; and gradients."""
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 89.0, -89.0, 128.0, -128.0], dtype)
    x = np.concatenate([special, edges(dtype)[::41], edges(dtype)[20::97], everywhere(dtype, 130, 5)])
    dy = np.random.default_rng(6).standard_normal(x.size).astype(dtype)
    return x, dy


def row(dtype: np.dtype, name: str, values: np.ndarray) -> str:
    assert values.dtype == dtype
    scalars = ",".join(repr(value) for value in SCALARS.get(name, {}).values()) or "-"
    values = np.where(np.isnan(values), dtype.type(np.nan), values)
    bits = values.view(f"u{dtype.itemsize}")
    return " ".join([f"f{8 * dtype.itemsize}", name, scalars, *(f"{word:x}" for word in bits)])


def golden_text() -> str:
    rows = []
    for dtype in (F32, F64):
        x, dy = inputs(dtype)
        rows += [row(dtype, "x", x), row(dtype, "dy", dy)]
        rows += [row(dtype, f.__name__, f(x)) for f in FUNCTIONS if f.__name__ not in NAMES]
        for name in NAMES:
            forward, backward = ref.activation(name, dtype, **SCALARS.get(name, {}))
            rows += [row(dtype, name, forward(x)), row(dtype, f"{name}_backward", backward(x, dy))]
    return "\n".join(rows) + "\n"


def test_the_bits_that_rust_is_tested_with_are_the_oracles() -> None:
    assert (GOLDEN / "math.txt").read_text() == golden_text()


if __name__ == "__main__":
    (GOLDEN / "math.txt").write_text(golden_text())
