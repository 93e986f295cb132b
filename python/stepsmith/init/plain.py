"""Initializers that do not look at the shape."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith.init._target import Array, Shape, check_rng, store, target

__all__ = ["constant", "generator", "normal", "ones", "uniform", "zeros"]


def generator(seed: int, *key: int) -> np.random.Generator:
    """A Generator that depends on `seed` and `key` alone; different keys give independent streams.

    Example:
        >>> bool(generator(0, 3, 1).random() == generator(0, 3, 1).random())
        True
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def constant(
    shape: Shape,
    rng: np.random.Generator | None = None,  # noqa: ARG001 - every initializer takes one
    *,
    val: float,
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """One value everywhere; `rng` is taken so that it may stand for any initializer, and nothing is drawn from it.

    Args:
        shape: Any.
        rng: Left alone.
        val: The value, finite.
        dtype: See `uniform`.
        out: Likewise.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.nn.init.constant_``.

    Example:
        >>> constant((2,), val=0.5)
        array([0.5, 0.5], dtype=float32)
    """
    val = _check.number("constant", "val", val)
    return store(target("constant", shape, dtype, out), val)


def zeros(
    shape: Shape,
    rng: np.random.Generator | None = None,  # noqa: ARG001 - every initializer takes one
    *,
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Zeros; see `constant`.

    Example:
        >>> zeros((2,))
        array([0., 0.], dtype=float32)
    """
    return store(target("zeros", shape, dtype, out), 0.0)


def ones(
    shape: Shape,
    rng: np.random.Generator | None = None,  # noqa: ARG001 - every initializer takes one
    *,
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Ones; see `constant`.

    Example:
        >>> ones((2,))
        array([1., 1.], dtype=float32)
    """
    return store(target("ones", shape, dtype, out), 1.0)


def uniform(
    shape: Shape,
    rng: np.random.Generator,
    *,
    a: float = 0.0,
    b: float = 1.0,
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """U(a, b), drawn in float64 and rounded once.

    Args:
        shape: Any.
        rng: Source of the draws.
        a: Lower bound.
        b: Upper bound, at least `a`; a draw may round up to it.
        dtype: float32 (the default), float64, bfloat16 or float16.
        out: Array of that shape to fill, of any layout; its dtype is the result's. With `dtype` too the two must agree.
            One on a GPU gets the same numbers, drawn on the CPU.

    Raises:
        TypeError: An argument of another kind, an `out` of another dtype than `dtype`.
        ValueError: Bounds out of order, an `out` that has another shape, is read-only or overlaps itself.

    Follows: ``torch.nn.init.uniform_``.

    Example:
        >>> out = np.empty((2, 3), np.float64)
        >>> uniform((2, 3), np.random.default_rng(0), a=-1.0, out=out) is out
        True
    """
    a, b = _check.number("uniform", "a", a), _check.number("uniform", "b", b)
    if b < a:
        raise ValueError(f"uniform: b must be at least a={a}, got {b}")
    check_rng("uniform", rng)
    result = target("uniform", shape, dtype, out)
    return store(result, rng.uniform(a, b, result.shape))


def normal(
    shape: Shape,
    rng: np.random.Generator,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Normal with that mean and standard deviation; see `uniform`.

    Args:
        shape: Any.
        rng: Source of the draws.
        mean: Any finite number.
        std: At least 0.
        dtype: See `uniform`.
        out: Likewise.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.nn.init.normal_``.

    Example:
        >>> normal((2, 3), np.random.default_rng(0), std=0.02).shape
        (2, 3)
    """
    mean, std = _check.number("normal", "mean", mean), _check.number("normal", "std", std, low=0.0)
    check_rng("normal", rng)
    result = target("normal", shape, dtype, out)
    return store(result, rng.normal(mean, std, result.shape))
