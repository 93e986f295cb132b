"""Large new arrays in the memory of dead ones: the system clears fresh pages, which costs as much as a pass."""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith import _check
from stepsmith._backend import namespace

__all__ = ["empty", "keep_memory"]

Array = NDArray[Any]

LEAST = 32 << 20
"""Bytes below which the C library keeps freed memory by itself."""
LINE = 64
"""Bytes of a cache line, to which arrays are aligned."""


class _Kept:
    """Blocks of memory that nobody uses, the oldest first, and how many bytes they may be."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # Arrays die in any thread at any time, also while this runs: each operation on a deque is atomic.
        self.blocks: deque[Array] = deque()

    def add(self, block: Array) -> None:
        self.blocks.append(block)
        self.trim()

    def trim(self) -> None:
        """Let go of the oldest until the rest is within the limit."""
        while self.blocks and sum(block.nbytes for block in list(self.blocks)) > self.limit:
            try:
                self.blocks.popleft()
            except IndexError:
                return

    def take(self, size: int) -> Array | None:
        """A block of that size, the newest first: it may still be in a cache."""
        for block in reversed(list(self.blocks)):
            if block.nbytes != size:
                continue
            if self._remove(block):
                return block
        return None

    def _remove(self, block: Array) -> bool:
        """Is it mine now? Whoever takes it out of the deque has it."""
        for _ in range(len(self.blocks)):
            try:
                other = self.blocks.popleft()
            except IndexError:
                return False
            if other is block:
                return True
            self.blocks.append(other)
        return False


_kept = _Kept(256 << 20)


class _Lease:
    """What the arrays on a block hold; when the last of them dies the block is kept."""

    _keep = _kept.add

    def __init__(self, block: Array) -> None:
        self._block = block
        self.__array_interface__ = block.__array_interface__

    def __del__(self) -> None:
        self._keep(self._block)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any], of: Array | None = None) -> Array:
    """A new array in C order that holds whatever was in its memory: of CuPy if `of` is, else NumPy's.

    CuPy's own pool keeps the memory of its dead arrays.
    """
    fresh: Array = namespace(of).empty(shape, dtype)
    is_small = fresh.nbytes < LEAST or not _kept.limit
    return fresh if is_small or type(fresh) is not np.ndarray else _recycled(shape, dtype, fresh.nbytes)


def _recycled(shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> Array:
    block = _kept.take(size)
    array: Array = np.asarray(_Lease(_aligned(size) if block is None else block))
    return array.view(dtype).reshape(shape)


def _aligned(size: int) -> Array:
    block = np.empty(size + LINE, np.uint8)
    start = -int(block.__array_interface__["data"][0]) % LINE
    return block[start : start + size]


def keep_memory(limit: int) -> None:
    """How many bytes of large arrays that died are kept for new results; 256 MiB unless told.

    A result of 32 MiB or more that is not given by ``out=`` takes the memory of an earlier one of the same size, once
    nothing refers to that any more. The system would have to clear fresh pages instead, which takes as long as a norm.

    Args:
        limit: at least 0; 0 keeps nothing and lets go of what is kept.

    Raises:
        TypeError: no integer.
        ValueError: below 0.

    Example:
        >>> keep_memory(1 << 30)
    """
    _kept.limit = _check.integer("keep_memory", "limit", limit, low=0)
    _kept.trim()
