"""``cupy.cuda`` of the stand-in: one device, streams on which everything is done at once."""

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np

from gpu_shim import array as arrays
from gpu_shim import capture
from gpu_shim.memory import Block, MemoryPointer

DLPACK = 2
"""The type of device by which DLPack knows one of CUDA."""


class Device:
    """The device; another can only be asked for."""

    compute_capability = "75"

    def __init__(self, device: int | None = None) -> None:
        self.id = 0 if device is None else int(device)
        self.attributes = {"MultiProcessorCount": 4}

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def synchronize(self) -> None:
        """Waits for all work."""
        arrays.count_sync()


_thread = threading.local()


def _entered() -> "list[BaseStream]":
    """The streams that this thread has entered."""
    if not hasattr(_thread, "entered"):
        _thread.entered = []
    return _thread.entered  # type: ignore[no-any-return]


class BaseStream:
    """What streams are."""

    ptr: int

    def __enter__(self) -> "BaseStream":
        _entered().append(self)
        return self

    def __exit__(self, *error: object) -> None:
        _entered().pop()

    def is_capturing(self) -> bool:
        """Is its work being recorded into a graph?"""
        return capture.is_capturing()

    def begin_capture(self, mode: int | None = None) -> None:
        """Records work from now on."""
        capture.begin()

    def end_capture(self) -> capture.Graph:
        """What was recorded."""
        return capture.end()

    def synchronize(self) -> None:
        """Waits for its work."""
        arrays.count_sync()

    def record(self, event: "Event | None" = None) -> "Event":
        """A mark in its work."""
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: "Event") -> None:
        """Its later work waits for the mark."""

    @property
    def done(self) -> bool:
        """Is all its work done?"""
        return True


class Stream(BaseStream):
    """A stream of our own."""

    null: "Stream"

    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self.ptr = 0 if null else id(self)


Stream.null = Stream(null=True)


class ExternalStream(BaseStream):
    """A stream of somebody else."""

    def __init__(self, ptr: int, device_id: int = -1) -> None:
        self.ptr = ptr


class Event:
    """A mark in a stream; `pending` of the class lets a test say that none is reached yet."""

    pending = False

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.recorded = False

    def record(self, stream: BaseStream | None = None) -> None:
        """Sets the mark."""
        self.recorded = True

    @property
    def done(self) -> bool:
        """Is it reached?"""
        return self.recorded and not Event.pending

    def synchronize(self) -> None:
        """Waits until it is reached."""
        arrays.count_sync()


def alloc_pinned_memory(size: int) -> Any:
    """Memory of the host that the device can copy to while the host goes on."""
    return np.zeros(max(size, 1), np.uint8).data


def _memcpy(dst: int, src: int, size: int, kind: int, stream: int = 0) -> None:
    import ctypes

    ctypes.memmove(dst, src, size)


runtime = SimpleNamespace(
    getDevice=lambda: 0,
    getDeviceCount=lambda: 1,
    runtimeGetVersion=lambda: 13000,
    driverGetVersion=lambda: 13000,
    memcpyAsync=_memcpy,
    memcpyHostToDevice=1,
    memcpyDeviceToHost=2,
    memcpyDeviceToDevice=3,
    CUDARuntimeError=RuntimeError,
)


def get_current_stream(device_id: int = -1) -> BaseStream:
    """Where work goes now."""
    return _entered()[-1] if _entered() else Stream.null


def is_available() -> bool:
    """Is there a GPU? The stand-in says so."""
    return True


def alloc(size: int) -> MemoryPointer:
    """Memory of the device."""
    return MemoryPointer(Block(size), 0)
