"""``cupy.ndarray`` as a strict stand-in: NumPy inside, nothing of NumPy outside."""

from collections.abc import Callable
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from gpu_shim import capture
from gpu_shim.memory import Block, MemoryPointer
from gpu_shim.signatures import METHODS, checked, table

SUPPORTED = frozenset("?bBhHiIlLqQefdFD") | {np.dtype(ml_dtypes.bfloat16).char}
"""Kinds of elements that CuPy has: neither objects nor strings nor the eight-bit floats of ml_dtypes."""

syncs = 0
"""How often a value was asked for on the host: each makes the host wait for the device."""


def count_sync() -> None:
    """The host waits for the device."""
    global syncs  # noqa: PLW0603
    capture.refuse()
    syncs += 1


class Flags:
    """What CuPy knows of an array's layout; it knows neither writable nor aligned."""

    def __init__(self, flags: Any) -> None:
        self.c_contiguous, self.f_contiguous, self.owndata = flags.c_contiguous, flags.f_contiguous, flags.owndata
        self.fnc, self.forc = flags.fnc, flags.forc


def unwrap(value: Any) -> Any:
    """What NumPy works on; arrays of NumPy themselves are refused, as CuPy does."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, tuple | list):
        return type(value)(unwrap(entry) for entry in value)
    return value


def wrap(value: Any, base: "ndarray | None" = None) -> Any:
    """A result of NumPy as the device's: a view of `base` if it is one, else in memory of its own."""
    if isinstance(value, tuple):
        return tuple(wrap(entry, base) for entry in value)
    if not isinstance(value, np.ndarray | np.generic):
        return value
    value = np.asarray(value)
    if base is not None and value.size and np.may_share_memory(value, base._host):
        offset = value.__array_interface__["data"][0] - base.data.mem.ptr
        return ndarray(value.shape, value.dtype, MemoryPointer(base.data.mem, offset), value.strides)
    result = ndarray(value.shape, value.dtype, order="F" if value.flags.fnc else "C")
    result._host[...] = value
    return result


def _operator(name: str) -> Callable[..., Any]:
    def apply(self: "ndarray", *others: Any) -> Any:
        result = getattr(self._host, name)(*map(unwrap, others))
        return result if result is NotImplemented else wrap(result)

    return apply


def _in_place(name: str) -> Callable[..., Any]:
    def apply(self: "ndarray", other: Any) -> "ndarray":
        getattr(self._host, name)(unwrap(other))
        return self

    return apply


_METHODS = table(METHODS)


def _method(name: str) -> Callable[..., Any]:
    def apply(self: "ndarray", *args: Any, **kwargs: Any) -> Any:
        return checked(name, _METHODS[name], partial(_applied, self, name))(*args, **kwargs)

    return apply


def _applied(array: "ndarray", name: str, *args: Any, **kwargs: Any) -> Any:
    out = kwargs.get("out")
    result = getattr(array._host, name)(*map(unwrap, args), **{key: unwrap(x) for key, x in kwargs.items()})
    return out if out is not None else wrap(result, array)


class ndarray:  # noqa: N801 - CuPy's name
    """See the module."""

    __array_priority__ = 100

    def __init__(
        self,
        shape: int | tuple[int, ...],
        dtype: Any = float,
        memptr: MemoryPointer | None = None,
        strides: tuple[int, ...] | None = None,
        order: str = "C",
    ) -> None:
        shape = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
        dtype = np.dtype(dtype)
        if dtype.char not in SUPPORTED:
            raise TypeError(f"Unsupported dtype {dtype}")
        if strides is None:
            strides = np.empty(shape, dtype, order=order).strides if 0 not in shape else None  # type: ignore[call-overload]
        if memptr is None:
            memptr = MemoryPointer(Block(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize), 0)
        self.data = memptr
        self._host = memptr.view(shape, dtype, strides)

    def __array__(self, *args: object, **kwargs: object) -> None:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, ufunc: Any, *args: object, **kwargs: object) -> None:
        raise TypeError(f"numpy.{ufunc.__name__} was called on an array of the device: call the device's own function")

    def __array_function__(self, function: Any, *args: object) -> None:
        raise TypeError(
            f"numpy.{function.__name__} was called on an array of the device: call the device's own function"
        )

    # What reads no element.

    @property
    def shape(self) -> tuple[int, ...]:
        return self._host.shape

    @shape.setter
    def shape(self, shape: tuple[int, ...]) -> None:
        self._host.shape = shape

    strides = property(lambda self: self._host.strides)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    flags = property(lambda self: Flags(self._host.flags))
    T = property(lambda self: wrap(self._host.T, self))
    base = property(lambda self: None if self._host.nbytes == self.data.mem.size else self.data.mem)

    @property
    def device(self) -> Any:
        from gpu_shim.cuda import Device

        return Device(0)

    def __len__(self) -> int:
        return len(self._host)

    # What brings elements to the host.

    def get(
        self, stream: object = None, order: str = "C", out: Any = None, blocking: bool = True
    ) -> "np.ndarray[Any, Any]":
        """A copy on the host."""
        count_sync()
        if out is None:
            return np.array(self._host, order=order)  # type: ignore[call-overload, no-any-return]
        np.copyto(out, self._host)
        return out  # type: ignore[no-any-return]

    def set(self, arr: Any, stream: object = None) -> None:
        """Copies an array of the host here."""
        if not isinstance(arr, np.ndarray) or arr.shape != self.shape or arr.dtype != self.dtype:
            raise TypeError("only a NumPy array of the same shape and dtype can be set")
        np.copyto(self._host, arr)

    def item(self) -> Any:
        count_sync()
        return self._host.item()

    def tolist(self) -> Any:
        count_sync()
        return self._host.tolist()

    def tobytes(self, order: str = "C") -> bytes:
        count_sync()
        return self._host.tobytes(order)  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        count_sync()
        return bool(self._host)

    def __int__(self) -> int:
        count_sync()
        return int(self._host)

    def __float__(self) -> float:
        count_sync()
        return float(self._host)

    def __repr__(self) -> str:
        return repr(self._host)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    # What works on the device.

    def __getitem__(self, key: Any) -> Any:
        return wrap(self._host[unwrap(key)], self)

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError(f"Unsupported type {type(value)}")
        self._host[unwrap(key)] = value._host if isinstance(value, ndarray) else value

    def astype(
        self, dtype: Any, order: str = "K", casting: object = None, subok: object = None, copy: bool = True
    ) -> Any:
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        with np.errstate(all="ignore"):
            return wrap(self._host.astype(dtype, order=order))  # type: ignore[arg-type]

    def copy(self, order: str = "C") -> "ndarray":
        result: ndarray = wrap(np.empty_like(self._host, order=order))  # type: ignore[call-overload]
        strides = self._host.copy(order=order).strides  # type: ignore[arg-type]
        result = ndarray(self.shape, self.dtype, result.data, strides if self.size else None)
        result._host[...] = self._host
        return result

    def __deepcopy__(self, memo: object) -> "ndarray":
        return self.copy()

    def argsort(self, axis: int = -1, kind: None = None) -> "ndarray":
        return wrap(self._host.argsort(axis, "stable"))  # type: ignore[no-any-return]

    def fill(self, value: Any) -> None:
        self._host.fill(value._host.item() if isinstance(value, ndarray) else value)

    def view(self, dtype: Any = None) -> "ndarray":
        if dtype is not None and np.dtype(dtype).char not in SUPPORTED:
            raise TypeError(f"Unsupported dtype {dtype}")
        host = self._host.view() if dtype is None else self._host.view(dtype)
        return ndarray(host.shape, host.dtype, self.data, host.strides)

    for _name in (
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "and",
        "or",
        "xor",
        "lshift",
        "rshift",
        "matmul",
    ):
        locals()[f"__{_name}__"] = _operator(f"__{_name}__")
        locals()[f"__r{_name}__"] = _operator(f"__r{_name}__")
        if _name != "matmul":
            locals()[f"__i{_name}__"] = _in_place(f"__i{_name}__")
    for _name in ("neg", "pos", "abs", "invert", "eq", "ne", "lt", "le", "gt", "ge"):
        locals()[f"__{_name}__"] = _operator(f"__{_name}__")
    for _name in (
        "all",
        "any",
        "argmax",
        "argmin",
        "clip",
        "cumsum",
        "dot",
        "max",
        "mean",
        "min",
        "nonzero",
        "prod",
        "ravel",
    ):
        locals()[_name] = _method(_name)
    for _name in (
        "repeat",
        "reshape",
        "round",
        "squeeze",
        "std",
        "sum",
        "swapaxes",
        "take",
        "transpose",
        "var",
    ):
        locals()[_name] = _method(_name)
    del _name
    __hash__ = None  # type: ignore[assignment]
