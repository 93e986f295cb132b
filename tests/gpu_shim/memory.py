"""Memory of the stand-in: blocks of the host with a border, which a kernel must not touch."""

import ctypes
import weakref
from typing import Any

import numpy as np

from gpu_shim import capture

BORDER = 256
_CANARY = 0xA5

_live: "weakref.WeakSet[Block]" = weakref.WeakSet()


class Block:
    """Bytes that start on a boundary of 256, between two borders; fresh ones are poison."""

    def __init__(self, size: int) -> None:
        capture.refuse()
        self._raw = np.full(size + 2 * BORDER + 256, _CANARY, np.uint8)
        start = BORDER + (-(self._raw.ctypes.data + BORDER) % 256)
        self.bytes = self._raw[start : start + size]
        self.bytes[...] = 0xFF
        self.ptr = int(self._raw.ctypes.data) + start
        self.size = size
        self._borders = self._raw[:start], self._raw[start + size :]
        _live.add(self)

    def is_whole(self) -> bool:
        """Has nobody written around it?"""
        return all(bool((border == _CANARY).all()) for border in self._borders)


class Foreign:
    """Memory that another library's array holds, without borders."""

    def __init__(self, host: "np.ndarray[Any, Any]") -> None:
        self._held = host
        low, high = np.lib.array_utils.byte_bounds(host)
        self.ptr, self.size = low, high - low
        self.bytes = np.frombuffer((ctypes.c_uint8 * self.size).from_address(low), np.uint8)


def check_borders() -> None:
    """Fails if something was written outside of an array's memory."""
    if not all(block.is_whole() for block in list(_live)):
        raise RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: a kernel wrote outside of an array's memory")


class MemoryPointer:
    """As ``cupy.cuda.MemoryPointer``: a place in a block."""

    def __init__(self, mem: Block | Foreign, offset: int) -> None:
        self.mem, self._offset = mem, offset

    device_id = 0

    @property
    def ptr(self) -> int:
        """The address."""
        return self.mem.ptr + self._offset

    def __add__(self, offset: int) -> "MemoryPointer":
        return MemoryPointer(self.mem, self._offset + offset)

    def __int__(self) -> int:
        return self.ptr

    def view(self, shape: tuple[int, ...], dtype: Any, strides: tuple[int, ...] | None) -> "np.ndarray[Any, Any]":
        """The host's array of what lies here."""
        return np.ndarray(shape, dtype, buffer=self.mem.bytes.data, offset=self._offset, strides=strides)
