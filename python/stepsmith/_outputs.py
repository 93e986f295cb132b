"""Outputs that are given or made, and inputs that an output overlaps."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith._backend import require_array

__all__ = ["apart", "check_weight", "compute_dtype", "output"]

Array = NDArray[Any]


def output(owner: str, name: str, given: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """The given array, which must fit, or a new one."""
    if given is None:
        return np.empty(shape, dtype)
    return _fitting(owner, name, given, shape, dtype)


def compute_dtype(x: Array) -> np.dtype[Any]:
    """Float64 for float64, else float32."""
    return np.dtype(np.float64 if x.dtype == np.float64 else np.float32)


def check_weight(owner: str, name: str, value: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
    """A weight or bias, which must have the shape and the compute type; None stays None."""
    return None if value is None else _fitting(owner, name, value, shape, dtype)


def _fitting(owner: str, name: str, value: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """The array, which must have the dtype and the shape."""
    array = require_array(owner, name, value)
    if array.dtype != dtype:
        raise TypeError(f"{owner}: {name} must have dtype {dtype}, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{owner}: {name} must have shape {shape}, got {array.shape}")
    return array


Four = tuple[Array | None, Array | None, Array | None, Array | None]


def apart(inputs: Four, outputs: tuple[Array | None, ...]) -> Four:
    """The inputs, with a copy of each that an output overlaps and is not just the same array."""
    a, b, c, d = (_apart(array, outputs) for array in inputs)
    return a, b, c, d


def _apart(array: Array | None, outputs: tuple[Array | None, ...]) -> Array | None:
    if array is None:
        return None
    met = (out is not None and np.may_share_memory(array, out) and not _is_same(array, out) for out in outputs)
    return array.copy() if any(met) else array


def _is_same(a: Array, b: Array) -> bool:
    place_a, place_b = a.__array_interface__["data"][0], b.__array_interface__["data"][0]
    return bool(place_a == place_b and a.strides == b.strides and a.shape == b.shape and a.dtype == b.dtype)
