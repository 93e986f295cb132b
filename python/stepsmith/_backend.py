"""Arrays of other kinds: what is an array here, and how a PyTorch tensor becomes one without a copy."""

import sys
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = ["asarray", "require_array"]

Array = NDArray[Any]


def require_array(owner: str, name: str, value: object) -> Array:
    """The value, which must be a NumPy array."""
    if not isinstance(value, np.ndarray):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        hint = "(stepsmith.asarray makes one of a PyTorch CPU tensor without a copy)"
        raise TypeError(f"{owner}: {name} must be a NumPy array {hint}, got {kind}")
    return value


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
