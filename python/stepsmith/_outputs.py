"""Outputs that are given or made, and inputs that an output overlaps."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith._backend import require_array

__all__ = ["apart", "check_weight", "compute_dtype", "kept", "like", "meets", "output"]

Array = NDArray[Any]

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def output(owner: str, name: str, given: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """The given array, which must fit, or a new one."""
    if given is None:
        return np.empty(shape, dtype)
    return _fitting(owner, name, given, shape, dtype)


def compute_dtype(x: Array) -> np.dtype[Any]:
    """Float64 for float64, else float32."""
    return _FLOAT64 if x.dtype == _FLOAT64 else _FLOAT32


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


def apart(inputs: Four, given: tuple[Array | None, ...]) -> Four:
    """The inputs, with a copy of each that a given output overlaps and is not just the same array."""
    outputs = [out for out in given if out is not None]
    if not outputs:
        return inputs
    a, b, c, d = (_apart(array, outputs) for array in inputs)
    return a, b, c, d


def _apart(array: Array | None, outputs: list[Array]) -> Array | None:
    if array is None:
        return None
    met = (np.may_share_memory(array, out) and not _is_same(array, out) for out in outputs)
    return array.copy() if any(met) else array


def meets(array: Array, given: Array | None) -> bool:
    """May the array share memory with a given output?"""
    return given is not None and np.may_share_memory(array, given)


def _is_same(a: Array, b: Array) -> bool:
    place_a, place_b = a.__array_interface__["data"][0], b.__array_interface__["data"][0]
    return bool(place_a == place_b and a.strides == b.strides and a.shape == b.shape and a.dtype == b.dtype)


def like(owner: str, name: str, value: object, x: Array) -> Array:
    """The value, an array of the shape and dtype of x."""
    array = require_array(owner, name, value)
    if array.dtype != x.dtype:
        raise TypeError(f"{owner}: {name} must have the dtype of x, {x.dtype}, got {array.dtype}")
    if array.shape != x.shape:
        raise ValueError(f"{owner}: {name} must have the shape of x, {x.shape}, got {array.shape}")
    return array


def kept(owner: str, x: Array | None) -> Array:
    """The array of a forward pass, unless its output took the memory."""
    if x is None:
        raise ValueError(
            f"{owner}: saved must hold x, got that of a forward pass whose output took the memory of x; "
            "call it without out=x to go backward"
        )
    return x
