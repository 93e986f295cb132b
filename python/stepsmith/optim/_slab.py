"""State arrays: views of one zeroed allocation, so that many small tensors share pages and none can be resized."""

from collections.abc import Sequence
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = ["state_dtype_of", "zeros_like_all"]

Array = NDArray[Any]

_ALIGNMENT = 64
"""Bytes of a cache line: no vector of a state array straddles two."""


def state_dtype_of(param: Array, state_dtype: str) -> np.dtype[Any]:
    """bfloat16, or the type in which the parameter is computed."""
    wide = np.float64 if param.dtype == np.float64 else np.float32
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16 if state_dtype == "bfloat16" else wide)
    return dtype


def zeros_like_all(arrays: Sequence[Array], dtypes: Sequence[np.dtype[Any]]) -> list[Array]:
    """Zeros shaped and laid out like each array (as ``zeros_like(order="K")``), one after another in one allocation."""
    sizes = [-(-array.size * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT for array, dtype in zip(arrays, dtypes)]
    slab = np.zeros(sum(sizes) + _ALIGNMENT, np.uint8)
    offset = -slab.ctypes.data % _ALIGNMENT
    views = []
    for array, dtype, size in zip(arrays, dtypes, sizes):
        strides = _strides_like(array, dtype.itemsize)
        views.append(np.ndarray(array.shape, dtype, buffer=slab, offset=offset, strides=strides))
        offset += size
    return views


def _strides_like(array: Array, itemsize: int) -> tuple[int, ...]:
    """Strides without gaps, the axes in the order of the array's memory."""
    order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    strides = [0] * array.ndim
    for place, axis in enumerate(order):
        strides[axis] = itemsize * prod(array.shape[inner] for inner in order[place + 1 :])
    return tuple(strides)
