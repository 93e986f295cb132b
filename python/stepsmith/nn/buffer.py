"""Scratch arrays that outlive a step, so that a training loop allocates nothing large."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Buffer"]

Array = npt.NDArray[Any]


class Buffer:
    """An array that is kept between calls and handed out in the shape asked for; it grows and never shrinks.

    Example:
        >>> buffer = Buffer()
        >>> large = buffer.get((32, 8), np.dtype(np.float32))
        >>> np.shares_memory(large, buffer.get((5, 8), np.dtype(np.float32)))
        True
    """

    __slots__ = ("_store", "_view")

    def __init__(self) -> None:
        self._store: Array = np.empty(0, np.float32)
        self._view: Array = self._store

    def __deepcopy__(self, memo: dict[int, Any]) -> Buffer:
        """An empty one: what is in it means nothing between passes."""
        return Buffer()

    def get(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """A C-ordered array that holds whatever its last user left in it."""
        view = self._view
        if view.shape != shape or view.dtype != dtype:
            view = self._view = self._reshaped(shape, dtype)
        return view

    def _reshaped(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        size = math.prod(shape)
        if self._store.dtype != dtype or self._store.size < size:
            self._store = np.empty(size, dtype)
        return self._store[:size].reshape(shape)
