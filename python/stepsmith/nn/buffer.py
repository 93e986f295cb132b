"""Scratch arrays that outlive a step, so that a training loop allocates nothing large."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from stepsmith._backend import device_of, namespace, on_device

__all__ = ["Array", "Buffer"]

Array = npt.NDArray[Any]


_NOTHING: Array = np.empty(0, np.float32)


class Buffer:
    """An array that is kept between calls and handed out in the shape asked for; it grows and never shrinks.

    Example:
        >>> buffer, x = Buffer(), np.ones((32, 8), np.float32)
        >>> large = buffer.get((32, 8), x.dtype, x)
        >>> np.shares_memory(large, buffer.get((5, 8), x.dtype, x))
        True
    """

    __slots__ = ("_store", "_view")

    def __init__(self) -> None:
        self.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> Buffer:
        """An empty one: what is in it means nothing between passes."""
        return Buffer()

    def clear(self) -> None:
        """Let go of the memory."""
        self._store: Array = _NOTHING
        self._view: Array = _NOTHING

    def get(self, shape: tuple[int, ...], dtype: np.dtype[Any], of: Array) -> Array:
        """A C-ordered array on the device of another one; it holds whatever its last user left in it."""
        view = self._view
        is_here = (type(of) is np.ndarray and type(view) is np.ndarray) or device_of(of) == device_of(view)
        if view.shape != shape or view.dtype != dtype or not is_here:
            view = self._view = self._reshaped(shape, dtype, of)
        return view

    def _reshaped(self, shape: tuple[int, ...], dtype: np.dtype[Any], of: Array) -> Array:
        size, store, device = math.prod(shape), self._store, device_of(of)
        if store.dtype != dtype or store.size < size or device_of(store) != device:
            with nullcontext() if device == "cpu" else on_device(device):
                store = self._store = namespace(of).empty(size, dtype)
        return store[:size].reshape(shape)
