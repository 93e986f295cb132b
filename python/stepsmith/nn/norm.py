"""What layers that normalize share, and layer and RMS norm."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from stepsmith import _check, norm
from stepsmith._backend import require_same_kind
from stepsmith.nn.base import Module, float_dtype
from stepsmith.nn.buffer import Array, Buffer

__all__ = ["LayerNorm", "Norm", "RMSNorm", "names"]

_INPUTS = {
    np.dtype(np.float64): (np.dtype(np.float64),),
    np.dtype(np.float32): (np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)),
}


class Norm(Module):
    """What all of them are: a weight that starts at one, a bias that starts at zero, and `stepsmith.norm`'s passes.

    Args:
        shape: Of weight and bias.
        eps: At least 0.
        names: Which of weight and bias there are.
        dtype: Of the parameters, float32 or float64. Inputs are float64 with float64, and float32, bfloat16 or float16
            with float32; the output has the input's dtype.

    Attributes:
        weight: The weight or None.
        bias: The bias or None.

    Raises:
        TypeError: Another dtype.
        ValueError: A shape that does not fit, or a negative `eps`.
    """

    def __init__(self, shape: tuple[int, ...], eps: float, names: Sequence[str], dtype: npt.DTypeLike) -> None:
        super().__init__()
        self._owner = type(self).__name__
        self.eps = _check.number(self._owner, "eps", eps, low=0.0)
        self.dtype = float_dtype(self._owner, dtype)
        self.params = {name: np.full(shape, 1.0 if name == "weight" else 0.0, self.dtype) for name in names}
        self.grads = {name: np.zeros(shape, self.dtype) for name in names}
        self.weight, self.bias = self.params.get("weight"), self.params.get("bias")
        self._dweight, self._dbias = self.grads.get("weight"), self.grads.get("bias")
        self._y, self._dx = Buffer(), Buffer()

    @abstractmethod
    def _normalize(self, x: Array, y: Array, training: bool) -> Any:
        """Write the output and return what the backward pass needs."""

    @abstractmethod
    def _differentiate(self, dy: Array, dx: Array) -> None:
        """Write the gradients."""

    @abstractmethod
    def _fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an input may have this shape."""

    @abstractmethod
    def _shape(self) -> str:
        """What the shape must be, in words."""

    def forward(self, x: Array, training: bool = False) -> Array:
        """The normalized input; keeps `x` itself for `backward`, not a copy."""
        own = next(iter(self.state.values()), x) if self.weight is None else self.weight
        require_same_kind(self._owner, "input", x, own)
        if x.dtype not in _INPUTS[self.dtype]:
            allowed = " or ".join(map(str, _INPUTS[self.dtype]))
            raise TypeError(f"{self._owner}: input must be {allowed} with {self.dtype} parameters, got {x.dtype}")
        if not self._fits(x.shape):
            raise ValueError(f"{self._owner}: input must have {self._shape()}, got {x.shape}")
        y = self._y.get(x.shape, x.dtype, x)
        self._saved = self._normalize(x, y, training)
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Write the parameters' gradients; return that of the input, computed along with them in any case."""
        if not input_grad and not self.params:
            return None
        dx = self._dx.get(dy.shape, dy.dtype, dy)
        self._differentiate(dy, dx)
        return dx if input_grad else None


def names(owner: str, affine: bool, bias: bool) -> tuple[str, ...]:
    """Which of weight and bias there are."""
    affine, bias = _check.boolean(owner, "affine", affine), _check.boolean(owner, "bias", bias)
    return (("weight", "bias") if bias else ("weight",)) if affine else ()


class _LastAxes(Norm):
    """Normalizes over the last axes, those of `normalized_shape`."""

    def __init__(
        self, normalized_shape: int | Sequence[int], eps: float, names: Sequence[str], dtype: npt.DTypeLike
    ) -> None:
        owner = type(self).__name__
        lengths = normalized_shape if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
        if not lengths:
            raise ValueError(f"{owner}: normalized_shape must have an axis, got ()")
        shape = tuple(_check.integer(owner, "normalized_shape", length, low=1) for length in lengths)
        super().__init__(shape, eps, names, dtype)
        self.normalized_shape = shape
        # Without a weight the functions normalize the last axis alone.
        self._ones, self._dones = self.weight, self._dweight
        if self.weight is None and len(shape) > 1:
            self._ones, self._dones = np.ones(shape, self.dtype), np.empty(shape, self.dtype)

    def _fits(self, shape: tuple[int, ...]) -> bool:
        return shape[max(len(shape) - len(self.normalized_shape), 0) :] == self.normalized_shape

    def _shape(self) -> str:
        return f"shape ({', '.join(['...', *map(str, self.normalized_shape)])})"


class LayerNorm(_LastAxes):
    """y = (x - mean)·rstd·weight + bias over the last axes; as ``torch.nn.LayerNorm``, see `stepsmith.norm.layer_norm`.

    Args:
        normalized_shape: Lengths of those axes; a number for one.
        eps: Added to the variance, at least 0.
        affine: Whether there are parameters (PyTorch's ``elementwise_affine``).
        bias: Whether there is a bias among them.
        dtype: float32 or float64, of the parameters; see `Norm`.

    Raises:
        TypeError: Another dtype.
        ValueError: Lengths below 1, or a negative `eps`.

    Example:
        >>> layer = LayerNorm(2, eps=0.0)
        >>> layer(np.array([[1.0, 3.0]], np.float32)).tolist(), sorted(layer.parameters())
        ([[-1.0, 1.0]], ['bias', 'weight'])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        *,
        affine: bool = True,
        bias: bool = True,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__(normalized_shape, eps, names("LayerNorm", affine, bias), dtype)

    def _normalize(self, x: Array, y: Array, training: bool) -> norm.Saved:
        return norm.layer_norm(x, self._ones, self.bias, self.eps, out=y)[1]

    def _differentiate(self, dy: Array, dx: Array) -> None:
        norm.layer_norm_backward(dy, self._saved, out=(dx, self._dones, self._dbias))


class RMSNorm(_LastAxes):
    """y = x·rstd·weight over the last axes; as ``torch.nn.RMSNorm`` with its eps given, see `stepsmith.norm.rms_norm`.

    Args:
        normalized_shape: Lengths of those axes; a number for one.
        eps: Added to the mean square, at least 0.
        affine: Whether there is a weight (PyTorch's ``elementwise_affine``).
        dtype: float32 or float64, of the weight; see `Norm`.

    Raises:
        TypeError: Another dtype.
        ValueError: Lengths below 1, or a negative `eps`.

    Example:
        >>> RMSNorm(2, eps=0.0)(np.array([[3.0, -3.0]], np.float32)).tolist()
        [[1.0, -1.0]]
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-6,
        *,
        affine: bool = True,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__(normalized_shape, eps, names("RMSNorm", affine, False), dtype)

    def _normalize(self, x: Array, y: Array, training: bool) -> norm.Saved:
        return norm.rms_norm(x, self._ones, self.eps, out=y)[1]

    def _differentiate(self, dy: Array, dx: Array) -> None:
        norm.rms_norm_backward(dy, self._saved, out=(dx, self._dones))
