"""Kinds of arrays: what is an array here, where it lies, and which code works on it.

The only place that imports CuPy, and only once somebody has arrays of it or asks for a GPU.
"""

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith import _core

__all__ = [
    "address_of",
    "addresses",
    "as_device",
    "assign",
    "core_of",
    "cupy",
    "device_of",
    "host_copy",
    "is_on_gpu",
    "moved",
    "namespace",
    "on_device",
    "one_core",
    "one_device",
    "require_array",
    "require_same_kind",
    "same_stream",
]

Array = NDArray[Any]


def cupy() -> Any:
    """CuPy.

    Raises:
        ImportError: it is not installed; names the extras.
    """
    loaded = sys.modules.get("cupy")
    if loaded is not None:
        return loaded
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        rule = "CuPy for arrays on a GPU: pip install 'stepsmith[cuda12]' or 'stepsmith[cuda13]'"
        raise ImportError(f"stepsmith needs {rule} ({error})") from error


def is_on_gpu(value: object) -> bool:
    """Is it a CuPy array? Where nobody has imported CuPy, nothing is."""
    module = sys.modules.get("cupy")
    return module is not None and isinstance(value, module.ndarray)


def namespace(array: object) -> Any:
    """The module whose functions work on the array: NumPy or CuPy."""
    return np if type(array) is np.ndarray or not is_on_gpu(array) else sys.modules["cupy"]


def address_of(array: Any) -> int:
    """Where its first element lies."""
    return int(array.data.ptr) if is_on_gpu(array) else int(array.ctypes.data)


def core_of(array: object) -> Any:
    """What works on the array: `stepsmith._core`, or the functions of the same names in `stepsmith.cuda`."""
    return _core if type(array) is np.ndarray or not is_on_gpu(array) else _gpu_core()


def _gpu_core() -> ModuleType:
    return importlib.import_module("stepsmith.cuda")


def one_core(owner: str, arrays: Mapping[str, object]) -> Any:
    """As `core_of`, for arrays that must be of one kind; None among them is of any."""
    kinds = {is_on_gpu(array): name for name, array in arrays.items() if array is not None}
    if len(kinds) > 1:
        rule = "arrays must be all NumPy's or all CuPy's"
        raise TypeError(f"{owner}: {rule}, got {kinds[True]} of CuPy and {kinds[False]} of NumPy")
    return _gpu_core() if True in kinds else _core


def require_array(owner: str, name: str, value: object) -> Array:
    """The value, which must be a NumPy or a CuPy array."""
    if not isinstance(value, np.ndarray) and not is_on_gpu(value):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        hint = "(stepsmith.asarray makes one of a PyTorch tensor without a copy)"
        raise TypeError(f"{owner}: {name} must be a NumPy array or one of CuPy {hint}, got {kind}")
    return value  # type: ignore[return-value] # both have the same interface


def require_same_kind(owner: str, name: str, array: object, other: object, what: str = "the parameters") -> None:
    """Fails unless the array is one of NumPy or of CuPy, as another one is."""
    if type(array) is np.ndarray and type(other) is np.ndarray:
        return
    require_array(owner, name, array)
    if is_on_gpu(array) != is_on_gpu(other):
        want, got = ("CuPy", "NumPy") if is_on_gpu(other) else ("NumPy", "CuPy")
        raise TypeError(f"{owner}: {name} must be an array of {want} as {what} are, got one of {got}")


class _Addresses:
    """Memory of the device as NumPy describes memory."""

    def __init__(self, array: Any) -> None:
        item = f"|V{array.dtype.itemsize}"
        place = {"data": (array.data.ptr, False), "typestr": item, "version": 3}
        self.__array_interface__ = place | {"shape": array.shape, "strides": array.strides}


def addresses(array: Array) -> Array:
    """The array, or one of NumPy at the addresses of one of CuPy: for questions about memory, never to be read."""
    return array if type(array) is np.ndarray or not is_on_gpu(array) else np.asarray(_Addresses(array))


# Devices.


def as_device(owner: str, device: object) -> str:
    """The device by its full name, "cpu" or "cuda:0"; "cuda" is CuPy's current one.

    Raises:
        TypeError: no string.
        ValueError: another name, or a GPU that this machine has not.
        ImportError: CuPy is not installed.
        RuntimeError: there is no GPU, or no driver.
    """
    rule = "device must be 'cpu', 'cuda' or 'cuda:N'"
    if not isinstance(device, str):
        raise TypeError(f"{owner}: {rule}, got {device!r}")
    if device == "cpu":
        return device
    match = re.fullmatch(r"cuda(?::([0-9]+))?", device)
    if match is None:
        raise ValueError(f"{owner}: {rule}, got {device!r}")
    count = _gpus(owner)
    number = cupy().cuda.runtime.getDevice() if match[1] is None else int(match[1])
    if number >= count:
        known = ", ".join(f"cuda:{i}" for i in range(count))
        raise ValueError(f"{owner}: device must be one of {known}, got {device!r}")
    return f"cuda:{number}"


def _gpus(owner: str) -> int:
    """How many there are; at least one."""
    runtime = cupy().cuda.runtime
    try:
        count = int(runtime.getDeviceCount())
    except runtime.CUDARuntimeError as error:
        raise RuntimeError(f"{owner}: device 'cuda' needs a GPU of NVIDIA and its driver ({error})") from error
    if count == 0:
        raise RuntimeError(f"{owner}: device 'cuda' needs a GPU of NVIDIA, found none")
    return count


def device_of(array: Any) -> str:
    """Where the array is: "cpu", "cuda:0" and so on."""
    return "cpu" if type(array) is np.ndarray or not is_on_gpu(array) else f"cuda:{array.device.id}"


def one_device(owner: str, arrays: Mapping[str, Any]) -> str:
    """Where all of the arrays are, which must be on one device."""
    devices = {device_of(array): name for name, array in arrays.items()}
    if len(devices) > 1:
        (first, one), (second, other), *_ = devices.items()
        raise ValueError(f"{owner}: arrays must be on one device, got {one} on {first} and {other} on {second}")
    return next(iter(devices))


def on_device(device: str) -> AbstractContextManager[Any]:
    """While this lasts CuPy works on that GPU; the device by its full name."""
    context: AbstractContextManager[Any] = cupy().cuda.Device(int(device.partition(":")[2]))
    return context


def same_stream() -> AbstractContextManager[Any]:
    """For another thread: CuPy's device and stream of this one, since each thread has its own."""
    cuda = cupy().cuda
    return _on(cuda.Device(), cuda.get_current_stream())


@contextmanager
def _on(device: Any, stream: Any) -> Iterator[None]:
    with device, stream:
        yield


def moved(array: Array, device: str) -> Array:
    """The array on a device: itself if it is there, else a copy of the same bits, dtype and order of axes in memory.

    A copy to the CPU waits for the GPU; one to a GPU goes by CuPy's current stream.

    Args:
        array: of NumPy or CuPy, any layout.
        device: "cpu", "cuda" for CuPy's current device, or "cuda:N".

    Raises:
        TypeError, ValueError, ImportError, RuntimeError: as `as_device`.
    """
    target = as_device("moved", device)
    if device_of(array) == target:
        return array
    if array.flags.c_contiguous:
        return _copied(array, target)
    axes = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    back = sorted(range(array.ndim), key=axes.__getitem__)
    return _copied(array.transpose(axes), target).transpose(back)


def _copied(array: Any, target: str) -> Array:
    """A copy in C order."""
    if target == "cpu":
        copy: Array = array.get()
        return copy
    with on_device(target):
        on_gpu: Array = array.copy() if is_on_gpu(array) else cupy().asarray(np.asarray(array, order="C"))
    return on_gpu


def host_copy(array: Array) -> Array:
    """A copy of its own on the CPU."""
    return moved(array, "cpu") if is_on_gpu(array) else array.copy()


def assign(target: Array, source: Any) -> None:
    """``target[...] = source``, also where the source is an array on another device."""
    if isinstance(source, np.ndarray) or is_on_gpu(source):
        source = moved(source, device_of(target))
    target[...] = source
