"""Where an initializer writes: the array it makes or is given."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith._backend import addresses, require_array
from stepsmith._outputs import FLOATS, overlaps_itself, store

__all__ = ["Array", "Shape", "check_rng", "store", "target"]

Array = npt.NDArray[Any]
Shape = int | tuple[int, ...]


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
    place = addresses(out)
    if not place.flags.writeable:
        raise ValueError(f"{owner}: out must be writable, got a read-only array")
    if overlaps_itself(place):
        raise ValueError(f"{owner}: out must not overlap itself, got strides {out.strides}")
    return out


def check_rng(owner: str, rng: object) -> None:
    """A TypeError unless it is a Generator."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"{owner}: rng must be a numpy.random.Generator, got {rng!r}")


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
