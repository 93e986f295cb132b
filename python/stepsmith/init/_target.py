"""Where an initializer writes: the array it makes or is given, and the one rounding on the way there."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith._backend import require_array

__all__ = ["FLOATS", "Array", "Shape", "check_rng", "overlaps_itself", "store", "target"]

Array = npt.NDArray[Any]
Shape = int | tuple[int, ...]

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = (np.dtype(np.float32), np.dtype(np.float64), _BFLOAT16, np.dtype(np.float16))


def target(owner: str, shape: Shape, dtype: npt.DTypeLike | None, out: Array | None) -> Array:
    """The array to fill: `out` if it fits, else a new one; the dtype is `out`'s, else float32 if None is asked for."""
    shape = _shape(owner, shape)
    wanted = None if dtype is None else _float_dtype(owner, "dtype", dtype)
    if out is None:
        return np.empty(shape, np.float32 if wanted is None else wanted)
    require_array(owner, "out", out)
    found = _float_dtype(owner, "out", out.dtype)
    if wanted not in (None, found):
        raise TypeError(f"{owner}: out must be {wanted} as dtype says, got {found}")
    if out.shape != shape:
        raise ValueError(f"{owner}: out must have shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError(f"{owner}: out must be writable, got a read-only array")
    if overlaps_itself(out):
        raise ValueError(f"{owner}: out must not overlap itself, got strides {out.strides}")
    return out


def check_rng(owner: str, rng: object) -> None:
    """A TypeError unless it is a Generator."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"{owner}: rng must be a numpy.random.Generator, got {rng!r}")


def store(result: Array, draws: Array | float) -> Array:
    """Fill the result with float64 numbers, each rounded once."""
    result[...] = _odd_float32(np.asarray(draws)) if result.dtype == _BFLOAT16 else draws
    return result


def _odd_float32(draws: Array) -> Array:
    """float32 numbers that round to the same bfloat16 as the draws do; ml_dtypes would round twice, through nearest.

    An inexact number becomes the odd one of its two float32 neighbours, which no rounding further takes for a tie.
    """
    single: Array = draws.astype(np.float32)
    even = single.view(np.uint32) & 1 == 0
    towards = np.where(draws > single, np.float32(np.inf), np.float32(-np.inf))
    return np.where((single != draws) & even, np.nextafter(single, towards), single)


def _shape(owner: str, shape: Shape) -> tuple[int, ...]:
    lengths = (shape,) if isinstance(shape, Integral) else shape
    if not isinstance(lengths, tuple | list):
        raise TypeError(f"{owner}: shape must be a tuple of integers, got {shape!r}")
    return tuple(_check.integer(owner, f"shape[{i}]", length, low=0) for i, length in enumerate(lengths))


def _float_dtype(owner: str, argument: str, dtype: npt.DTypeLike) -> np.dtype[Any]:
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found not in FLOATS:
        raise TypeError(f"{owner}: {argument} must be float32, float64, bfloat16 or float16, got {dtype!r}")
    return found


def overlaps_itself(array: Array) -> bool:
    """Whether two of its elements share memory."""
    if array.flags.c_contiguous or array.size < 2:
        return False
    reach, nested = array.itemsize, True
    axes = sorted((abs(stride), length) for stride, length in zip(array.strides, array.shape) if length > 1)
    for stride, length in axes:
        nested = nested and stride >= reach
        reach += stride * (length - 1)
    if nested:
        return False
    # Axes that interleave are rare: then every address counts.
    offsets = np.zeros((), np.intp)
    for stride, length in axes:
        offsets = np.add.outer(offsets, stride * np.arange(length))
    return bool((np.diff(np.sort(offsets, axis=None)) < array.itemsize).any())
