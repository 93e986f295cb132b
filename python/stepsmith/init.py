"""Initializers: parameters drawn from a NumPy Generator.

A weight's shape is (out, in, ...) as in PyTorch; axes after the second (a convolution's kernel) multiply both fans.
Draws are made in float64 and rounded once to `dtype`, so float32 and float64 models start from the same numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["fans", "generator", "he_normal", "he_uniform", "xavier_normal", "xavier_uniform", "zeros"]

Array = npt.NDArray[Any]


def generator(seed: int, *key: int) -> np.random.Generator:
    """A Generator that depends on `seed` and `key` alone; different keys give independent streams.

    Example:
        >>> bool(generator(0, 3, 1).random() == generator(0, 3, 1).random())
        True
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(n_in, n_out) of a weight of shape (out, in, ...); `ValueError` below two axes or for an empty fan.

    Example:
        >>> fans((128, 64)), fans((8, 3, 5, 5))
        ((64, 128), (75, 200))
    """
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"init: shape must have two or more axes, none empty, got {tuple(shape)}")
    receptive = math.prod(shape[2:])
    return shape[1] * receptive, shape[0] * receptive


def xavier_uniform(
    shape: tuple[int, ...], rng: np.random.Generator, *, gain: float = 1.0, dtype: npt.DTypeLike = np.float32
) -> Array:
    """U(-a, a) with a = gain·√(6 / (n_in + n_out)) (Glorot and Bengio 2010).

    Args:
        shape: (out, in, ...).
        rng: Source of the draws.
        gain: Factor on the bound.
        dtype: Of the result.

    Raises:
        ValueError: A shape without two fans.

    Example:
        >>> weight = xavier_uniform((3, 3), np.random.default_rng(0))
        >>> weight.dtype, bool(abs(weight).max() <= 1.0)
        (dtype('float32'), True)
    """
    n_in, n_out = fans(shape)
    bound = gain * math.sqrt(6.0 / (n_in + n_out))
    return rng.uniform(-bound, bound, shape).astype(dtype)


def xavier_normal(
    shape: tuple[int, ...], rng: np.random.Generator, *, gain: float = 1.0, dtype: npt.DTypeLike = np.float32
) -> Array:
    """Normal with mean 0 and variance gain²·2 / (n_in + n_out) (Glorot and Bengio 2010); see `xavier_uniform`.

    Example:
        >>> xavier_normal((2, 5), np.random.default_rng(0)).shape
        (2, 5)
    """
    n_in, n_out = fans(shape)
    return rng.normal(0.0, gain * math.sqrt(2.0 / (n_in + n_out)), shape).astype(dtype)


def he_uniform(
    shape: tuple[int, ...], rng: np.random.Generator, *, gain: float = 1.0, dtype: npt.DTypeLike = np.float32
) -> Array:
    """U(-a, a) with a = gain·√(6 / n_in) (He et al. 2015, for ReLU); see `xavier_uniform`.

    Example:
        >>> bool(abs(he_uniform((4, 6), np.random.default_rng(0))).max() <= 1.0)
        True
    """
    bound = gain * math.sqrt(6.0 / fans(shape)[0])
    return rng.uniform(-bound, bound, shape).astype(dtype)


def he_normal(
    shape: tuple[int, ...], rng: np.random.Generator, *, gain: float = 1.0, dtype: npt.DTypeLike = np.float32
) -> Array:
    """Normal with mean 0 and variance gain²·2 / n_in (He et al. 2015, for ReLU); see `xavier_uniform`.

    Example:
        >>> he_normal((2, 5), np.random.default_rng(0), dtype=np.float64).dtype
        dtype('float64')
    """
    return rng.normal(0.0, gain * math.sqrt(2.0 / fans(shape)[0]), shape).astype(dtype)


def zeros(
    shape: tuple[int, ...],
    rng: np.random.Generator | None = None,  # noqa: ARG001 - every initializer takes one
    *,
    dtype: npt.DTypeLike = np.float32,
) -> Array:
    """Zeros; `rng` is taken so that it may stand for any initializer, and nothing is drawn from it.

    Example:
        >>> zeros((2,))
        array([0., 0.], dtype=float32)
    """
    return np.zeros(shape, dtype)
