"""Kinds of arrays: what is an array here, which code works on it, and how a PyTorch tensor becomes one without a copy.

The only place that imports CuPy, and only once somebody has arrays of it or asks for a GPU.
"""

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from stepsmith import _core

__all__ = ["asarray", "core_of", "cupy", "is_on_gpu", "namespace", "one_core", "require_array"]

Array = NDArray[Any]


def cupy() -> Any:
    """CuPy.

    Raises:
        ImportError: it is not installed; names the extras.
    """
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


def asarray(tensor: Any) -> Array:
    """A NumPy array that shares memory with a PyTorch CPU tensor; writing to one changes the other.

    Leaves that require a gradient and bfloat16 tensors (as ml_dtypes.bfloat16) come too. A NumPy array is returned as
    it is. Nothing is ever copied.

    Args:
        tensor: a PyTorch CPU tensor of any strides, a NumPy array, or an object with ``__dlpack__`` on the CPU.

    Returns:
        An array of the same shape, strides and memory. It is writable if the source lets itself be written.

    Raises:
        TypeError: for another kind of object, a tensor on another device, or a sparse or quantized one.

    Example:
        >>> x = np.zeros(3)
        >>> asarray(x) is x
        True
    """
    if isinstance(tensor, np.ndarray):
        return tensor
    if hasattr(tensor, "detach") and hasattr(tensor, "numpy"):
        return _from_torch(tensor)
    if hasattr(tensor, "__dlpack__") and hasattr(tensor, "__dlpack_device__"):
        if tensor.__dlpack_device__()[0] != 1:
            raise TypeError(
                f"asarray: tensor must be on the CPU, got one on DLPack device {tensor.__dlpack_device__()}"
            )
        return np.from_dlpack(tensor)
    kind = f"{type(tensor).__module__}.{type(tensor).__qualname__}"
    raise TypeError(f"asarray: tensor must be a PyTorch CPU tensor or a NumPy array, got {kind}")


def _from_torch(tensor: Any) -> Array:
    """NumPy has no bfloat16 of its own, so the bits go through int16."""
    device = str(tensor.device)
    if device != "cpu":
        raise TypeError(f"asarray: tensor must be on the CPU, got one on {device}")
    plain = tensor.detach()
    if str(plain.dtype) != "torch.bfloat16":
        result: Array = plain.numpy()
        return result
    modules = [sys.modules.get(cls.__module__.partition(".")[0]) for cls in type(tensor).__mro__]
    torch: Any = next(module for module in modules if hasattr(module, "int16"))
    bits: Array = plain.view(torch.int16).numpy()
    return bits.view(ml_dtypes.bfloat16)
