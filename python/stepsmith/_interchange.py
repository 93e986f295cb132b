"""Arrays of other libraries as ours, without a copy."""

import sys
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from stepsmith._backend import cupy, is_on_gpu

__all__ = ["asarray"]

Array = NDArray[Any]

_CPU, _CUDA, _CUDA_MANAGED = 1, 2, 13
"""Types of devices in DLPack."""


def asarray(tensor: Any) -> Array:
    """An array that shares memory with a PyTorch tensor: NumPy's on the CPU, CuPy's on a GPU.

    Writing to one changes the other. Leaves that require a gradient and bfloat16 tensors (as ml_dtypes.bfloat16) come
    too. An array of NumPy or CuPy is returned as it is. Nothing is ever copied.

    On a GPU what PyTorch has put on its current stream so far is done before what CuPy does with the array from here
    on. To work on PyTorch's stream from then on too, which later steps of PyTorch's need, stay on it:

        with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
            optimizer.step(grads)

    It need not be said where neither library was given another stream than its default one, which is the same.

    Args:
        tensor: a PyTorch tensor of any strides, an array, or an object with ``__dlpack__``, on the CPU or a GPU.

    Returns:
        An array of the same shape, strides and memory. It is writable if the source lets itself be written.

    Raises:
        TypeError: for another kind of object, a tensor on another device, or a sparse or quantized one.
        ImportError: for a tensor on a GPU without CuPy.

    Example:
        >>> x = np.zeros(3)
        >>> asarray(x) is x
        True
    """
    if isinstance(tensor, np.ndarray) or is_on_gpu(tensor):
        return tensor  # type: ignore[no-any-return]
    if hasattr(tensor, "detach") and hasattr(tensor, "numpy"):
        return _from_torch(tensor)
    if hasattr(tensor, "__dlpack__") and hasattr(tensor, "__dlpack_device__"):
        return _from_dlpack(tensor)
    kind = f"{type(tensor).__module__}.{type(tensor).__qualname__}"
    raise TypeError(f"asarray: tensor must be a PyTorch tensor or an array of NumPy or CuPy, got {kind}")


def _from_dlpack(tensor: Any) -> Array:
    device = tensor.__dlpack_device__()
    if device[0] == _CPU:
        return np.from_dlpack(tensor)
    if device[0] not in (_CUDA, _CUDA_MANAGED):
        raise TypeError(f"asarray: tensor must be on the CPU or a GPU of NVIDIA, got one on DLPack device {device}")
    # CuPy asks for the memory as of its own stream, which the other library lets wait for what it has begun.
    array: Array = cupy().from_dlpack(tensor)
    return array


def _from_torch(tensor: Any) -> Array:
    """Neither NumPy nor DLPack has a bfloat16 that all know, so its bits go through int16."""
    device = str(tensor.device)
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise TypeError(f"asarray: tensor must be on the CPU or a GPU of NVIDIA, got one on {device}")
    plain = tensor.detach()
    is_bfloat16 = str(plain.dtype) == "torch.bfloat16"
    if is_bfloat16:
        modules = [sys.modules.get(cls.__module__.partition(".")[0]) for cls in type(tensor).__mro__]
        torch: Any = next(module for module in modules if hasattr(module, "int16"))
        plain = plain.view(torch.int16)
    array: Array = plain.numpy() if kind == "cpu" else cupy().from_dlpack(plain)
    return array.view(ml_dtypes.bfloat16) if is_bfloat16 else array
