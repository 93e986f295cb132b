"""The module ``cupy`` of the stand-in: those of its functions that the project may call, and no others."""

from types import ModuleType
from typing import Any

import numpy as np

from gpu_shim import array as arrays
from gpu_shim import cuda
from gpu_shim.array import ndarray, unwrap, wrap
from gpu_shim.host import RawModule
from gpu_shim.memory import Foreign, MemoryPointer, check_borders
from gpu_shim.signatures import FUNCTIONS, REDUCE, UFUNC, checked, parsed, table

UFUNCS = """
abs absolute add bitwise_and bitwise_or ceil copysign cos divide equal exp expm1 fabs floor fmax fmin greater
greater_equal invert isfinite isinf isnan left_shift less less_equal log log1p logical_and logical_not logical_or
logical_xor maximum minimum mod multiply negative not_equal power right_shift rint sign signbit sin sqrt square
nextafter subtract tanh true_divide
"""
VIEWS = "broadcast_arrays broadcast_to expand_dims moveaxis ravel reshape split squeeze swapaxes transpose"
SHARED = """
bool_ dtype finfo float16 float32 float64 inf int16 int32 int64 int8 nan ndim newaxis pi shape size uint16 uint32
uint64 uint8
"""


def _function(name: str, signature: Any, is_view: bool) -> Any:
    host = getattr(np, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        out = kwargs.get("out")
        if out is not None and not isinstance(out, ndarray):
            raise TypeError(f"cupy.{name}: out must be a cupy.ndarray, got {type(out)}")
        with np.errstate(all="ignore"):
            result = host(*map(unwrap, args), **{key: unwrap(value) for key, value in kwargs.items()})
        if out is not None:
            return out
        base = args[0] if is_view and args and isinstance(args[0], ndarray) else None
        return wrap(result, base) if not isinstance(result, list) else [wrap(entry, base) for entry in result]

    return checked(name, signature, call)


def _ufunc(name: str) -> Any:
    """A function of elements; sums and products can be made along an axis."""
    call = _function(name, parsed(UFUNC), is_view=False)
    if name in ("add", "multiply"):
        host = {"add": "sum", "multiply": "prod"}[name]
        call.reduce = checked(f"{name}.reduce", parsed(REDUCE), _function(host, parsed(REDUCE), is_view=False))
    return call


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """Memory that holds no numbers."""
    return ndarray(shape, dtype, order=order)


def zeros(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """Zeros."""
    result = ndarray(shape, dtype, order=order)
    result._host[...] = 0
    return result


def ones(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """Ones."""
    return full(shape, 1, dtype, order)


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    """The same number everywhere."""
    result = ndarray(shape, np.asarray(fill_value).dtype if dtype is None else dtype, order=order)
    result._host[...] = fill_value
    return result


def asarray(a: Any, dtype: Any = None, order: str | None = None) -> ndarray:
    """An array of the device: `a` itself if it is one, else its copy."""
    if isinstance(a, ndarray):
        return a if dtype is None or np.dtype(dtype) == a.dtype else a.astype(dtype)
    return wrap(np.asarray(a, dtype))  # type: ignore[no-any-return]


def array(obj: Any, dtype: Any = None, copy: bool = True, order: str = "K") -> ndarray:
    """A new array of the device."""
    return asarray(obj, dtype).copy(order) if isinstance(obj, ndarray) else asarray(obj, dtype)


def asnumpy(a: Any) -> "np.ndarray[Any, Any]":
    """A copy on the host."""
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def ascontiguousarray(a: ndarray, dtype: Any = None) -> ndarray:
    """The array itself if it lies densely in C order, else a copy that does."""
    return a if a.flags.c_contiguous and dtype in (None, a.dtype) else a.astype(dtype or a.dtype).copy()


def from_dlpack(array: Any, *, device: Any = None, copy: bool | None = None) -> ndarray:
    """An array of the device over the memory of another library's, which is told the stream that will read it."""
    if array.__dlpack_device__()[0] != cuda.DLPACK:
        raise TypeError("the array must be on a device")
    host = np.from_dlpack(_Capsule(array.__dlpack__(stream=cuda.get_current_stream().ptr or 1)))
    return ndarray(host.shape, host.dtype, MemoryPointer(Foreign(host), 0), host.strides)


class _Capsule:
    """What a library gave for memory of the device, as NumPy takes it for memory of the host."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **kwargs: object) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def argsort(a: ndarray, axis: int = -1, kind: None = None) -> ndarray:
    """Places of the sorted elements; equal ones stay in their order."""
    return wrap(np.argsort(a._host, axis, "stable"))  # type: ignore[no-any-return]


def sort(a: ndarray, axis: int = -1, kind: None = None) -> ndarray:
    """The sorted elements."""
    return wrap(np.sort(a._host, axis, "stable"))  # type: ignore[no-any-return]


def get_array_module(*args: Any) -> ModuleType:
    """The module of the stand-in if one of these is its array, else NumPy."""
    return module() if any(isinstance(arg, ndarray) for arg in args) else np


def may_share_memory(a: ndarray, b: ndarray) -> bool:
    """May the two share an element?"""
    return bool(np.may_share_memory(a._host, b._host))


def shares_memory(a: ndarray, b: ndarray) -> bool:
    """Do the two share an element?"""
    return bool(np.shares_memory(a._host, b._host))


_made: list[ModuleType] = []


def module() -> ModuleType:
    """The module, made once."""
    if not _made:
        made = ModuleType("cupy")
        made.__version__ = "14.2.0"  # type: ignore[attr-defined]
        for name in UFUNCS.split():
            setattr(made, name, _ufunc(name))
        for name, signature in table(FUNCTIONS).items():
            setattr(made, name, _function(name, signature, name in VIEWS.split()))
        for name in SHARED.split():
            setattr(made, name, getattr(np, name))
        for own in (
            empty,
            zeros,
            ones,
            full,
            asarray,
            array,
            asnumpy,
            ascontiguousarray,
            from_dlpack,
            get_array_module,
            argsort,
            sort,
        ):
            setattr(made, own.__name__, own)
        for own in (may_share_memory, shares_memory, ndarray, RawModule):
            setattr(made, own.__name__, own)
        made.cuda = cuda  # type: ignore[attr-defined]
        _made.append(made)
    return _made[0]


def syncs() -> int:
    """How often the host waited for the device so far."""
    return arrays.syncs


__all__ = ["check_borders", "module", "syncs"]
