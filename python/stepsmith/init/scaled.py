"""Initializers whose spread depends on how many inputs and outputs a weight has."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith.init._target import Array, check_rng, store, target

__all__ = [
    "calculate_gain",
    "fans",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "xavier_normal",
    "xavier_uniform",
]

# Squares, so that a rectified unit's 2 meets the variance without having been a root.
_SQUARED_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 25.0 / 9.0, "relu": 2.0, "leaky_relu": 2.0, "selu": 9.0 / 16.0}


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(n_in, n_out) of a weight of shape (out, in, ...); `ValueError` below two axes or for an empty fan.

    Example:
        >>> fans((128, 64)), fans((8, 3, 5, 5))
        ((64, 128), (75, 200))
    """
    if not isinstance(shape, tuple | list):
        raise TypeError(f"init: shape must be a tuple of integers, got {shape!r}")
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"init: shape must have two or more axes, none empty, got {tuple(shape)}")
    receptive = math.prod(shape[2:])
    return shape[1] * receptive, shape[0] * receptive


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """How much wider a weight should be for what follows it.

    1 for "linear" and "sigmoid", 5/3 for "tanh", √2 for "relu", √(2 / (1 + param²)) for "leaky_relu", 3/4 for "selu".

    Args:
        nonlinearity: One of these.
        param: Slope of "leaky_relu" below 0, 0.01 if None; the others take none.

    Raises:
        TypeError, ValueError: Another nonlinearity, a slope without "leaky_relu".

    Follows: ``torch.nn.init.calculate_gain``.

    Example:
        >>> calculate_gain("tanh"), calculate_gain("leaky_relu", 1.0)
        (1.6666666666666667, 1.0)
    """
    _check.one_of("calculate_gain", "nonlinearity", nonlinearity, _SQUARED_GAINS)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else _check.number("calculate_gain", "param", param)
        return math.sqrt(2.0 / (1.0 + slope * slope))
    if param is not None:
        raise ValueError(f"calculate_gain: param must be None for {nonlinearity}, got {param!r}")
    return math.sqrt(_SQUARED_GAINS[nonlinearity])


def xavier_uniform(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    *,
    gain: float = 1.0,
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """U(-a, a) with a = gain·√(6 / (n_in + n_out)).

    Args:
        shape: (out, in, ...).
        rng: Source of the draws.
        gain: Factor on the bound, at least 0; see `calculate_gain`.
        dtype: See `uniform`.
        out: Likewise.

    Raises:
        TypeError, ValueError: A shape without two fans, an argument of another kind or out of range, by name.

    Follows: ``torch.nn.init.xavier_uniform_``; Glorot and Bengio, "Training deep feedforward networks", 2010.

    Example:
        >>> weight = xavier_uniform((3, 3), np.random.default_rng(0))
        >>> weight.dtype, bool(abs(weight).max() <= 1.0)
        (dtype('float32'), True)
    """
    return _uniform("xavier_uniform", shape, rng, *_xavier(shape), gain, dtype, out)


def xavier_normal(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    *,
    gain: float = 1.0,
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Normal with mean 0 and variance gain²·2 / (n_in + n_out); see `xavier_uniform`.

    Example:
        >>> xavier_normal((2, 5), np.random.default_rng(0)).shape
        (2, 5)
    """
    return _normal("xavier_normal", shape, rng, *_xavier(shape), gain, dtype, out)


def he_uniform(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    *,
    gain: float = 1.0,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """U(-w, w) with w = gain·g·√(3 / n) and g the nonlinearity's gain; as it stands √(6 / n_in), which suits ReLU.

    Args:
        shape: (out, in, ...).
        rng: Source of the draws.
        gain: Further factor on the bound, at least 0.
        a: Slope of the leaky ReLU below 0; 0 is ReLU, and must stand for other nonlinearities.
        mode: "fan_in" keeps the size of what goes forward (n = n_in), "fan_out" of what goes back (n = n_out).
        nonlinearity: As for `calculate_gain`.
        dtype: See `uniform`.
        out: Likewise.

    Raises:
        TypeError, ValueError: A shape without two fans, an argument of another kind or out of range, by name.

    Follows: ``torch.nn.init.kaiming_uniform_``; He et al., "Delving deep into rectifiers", 2015.

    Example:
        >>> bool(abs(he_uniform((4, 6), np.random.default_rng(0))).max() <= 1.0)
        True
    """
    return _uniform("he_uniform", shape, rng, *_he("he_uniform", shape, a, mode, nonlinearity), gain, dtype, out)


def he_normal(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    *,
    gain: float = 1.0,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Normal with mean 0 and variance gain²·g² / n; as it stands 2 / n_in, which suits ReLU; see `he_uniform`.

    Example:
        >>> he_normal((2, 5), np.random.default_rng(0), dtype=np.float64).dtype
        dtype('float64')
    """
    return _normal("he_normal", shape, rng, *_he("he_normal", shape, a, mode, nonlinearity), gain, dtype, out)


def lecun_uniform(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    *,
    gain: float = 1.0,
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """U(-w, w) with w = gain·√(3 / n_in) (LeCun et al., "Efficient backprop", 1998); see `xavier_uniform`.

    Example:
        >>> bool(abs(lecun_uniform((4, 3), np.random.default_rng(0))).max() <= 1.0)
        True
    """
    return _uniform("lecun_uniform", shape, rng, 1.0, fans(shape)[0], gain, dtype, out)


def lecun_normal(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    *,
    gain: float = 1.0,
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Normal, not truncated, with mean 0 and variance gain² / n_in; see `lecun_uniform`.

    Example:
        >>> lecun_normal((2, 5), np.random.default_rng(0)).shape
        (2, 5)
    """
    return _normal("lecun_normal", shape, rng, 1.0, fans(shape)[0], gain, dtype, out)


def _xavier(shape: tuple[int, ...]) -> tuple[float, int]:
    """What the variance is a quotient of."""
    return 2.0, sum(fans(shape))


def _he(owner: str, shape: tuple[int, ...], a: float, mode: str, nonlinearity: str) -> tuple[float, int]:
    """What the variance is a quotient of."""
    a = _check.number(owner, "a", a)
    _check.one_of(owner, "mode", mode, ("fan_in", "fan_out"))
    _check.one_of(owner, "nonlinearity", nonlinearity, _SQUARED_GAINS)
    if a != 0.0 and nonlinearity != "leaky_relu":
        raise ValueError(f"{owner}: a must be 0 for {nonlinearity}, got {a}")
    return _SQUARED_GAINS[nonlinearity] / (1.0 + a * a), fans(shape)[mode == "fan_out"]


def _uniform(
    owner: str,
    shape: tuple[int, ...],
    rng: np.random.Generator,
    squared_gain: float,
    fan: int,
    gain: float,
    dtype: npt.DTypeLike | None,
    out: Array | None,
) -> Array:
    bound = _check.number(owner, "gain", gain, low=0.0) * math.sqrt(3.0 * squared_gain / fan)
    check_rng(owner, rng)
    result = target(owner, shape, dtype, out)
    return store(result, rng.uniform(-bound, bound, result.shape))


def _normal(
    owner: str,
    shape: tuple[int, ...],
    rng: np.random.Generator,
    squared_gain: float,
    fan: int,
    gain: float,
    dtype: npt.DTypeLike | None,
    out: Array | None,
) -> Array:
    std = _check.number(owner, "gain", gain, low=0.0) * math.sqrt(squared_gain / fan)
    check_rng(owner, rng)
    result = target(owner, shape, dtype, out)
    return store(result, rng.normal(0.0, std, result.shape))
