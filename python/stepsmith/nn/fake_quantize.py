"""The layer that rounds as codes would, and learns their step size."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith._backend import assign, namespace, require_same_kind
from stepsmith.nn.base import Module, float_dtype
from stepsmith.nn.buffer import Array, Buffer
from stepsmith.quant.affine import Affine, quantize_affine
from stepsmith.quant.array import QuantizedArray
from stepsmith.quant.fake import fake_quantize, fake_quantize_backward

__all__ = ["FakeQuantize"]


class FakeQuantize(Module):
    """y = (clamp(round(x / scale) + zero_point, qmin, qmax) - zero_point)·scale, with a scale that is learned.

    Gradients go straight through where the rounded number has a code; that of the scale is the one of learned step
    size, times 1 / √(numbers of a scale · qmax) (Esser et al., "Learned Step Size Quantization", 2020; PyTorch's
    ``_LearnableFakeQuantize``). The first batch in training sets scale and zero point, unless `start` or `load` did:
    2·mean(abs(x)) / √qmax for symmetric codes, the range of the batch else.

    Args:
        scheme: The codes, without groups.
        channels: Indices of the scheme's axis, where it has one.
        dtype: float32 or float64, of inputs and outputs.

    Attributes:
        scale: () or (channels,), a parameter; kept above 1e-7.
        zero_point: Likewise, in `buffers()`; it is not learned.

    Raises:
        TypeError, ValueError: Another kind of scheme, groups, channels that do not go with the scheme.

    Example:
        >>> layer = FakeQuantize(ss.quant.Affine(bits=4))
        >>> layer.load(0.5)
        >>> layer(np.array([[0.3, -9.0]], np.float32))
        array([[ 0.5, -3.5]], dtype=float32)
    """

    def __init__(self, scheme: Affine, channels: int | None = None, *, dtype: npt.DTypeLike = np.float32) -> None:
        super().__init__()
        owner = "FakeQuantize"
        if not isinstance(scheme, Affine):
            raise TypeError(f"{owner}: scheme must be an Affine, got {scheme!r}")
        if scheme.group_size is not None:
            raise ValueError(f"{owner}: scheme must have no groups, got {scheme!r}")
        if (scheme.axis is None) != (channels is None):
            raise ValueError(f"{owner}: channels must be given if the scheme has an axis, got {channels}")
        shape = () if channels is None else (_check.integer(owner, "channels", channels, low=1),)
        self.scheme, self.dtype = scheme, float_dtype(owner, dtype)
        self.scale, self._dscale = np.ones(shape, self.dtype), np.zeros(shape, self.dtype)
        self.zero_point, self._started = np.zeros(shape, np.int32), np.zeros((), np.int64)
        self.params, self.grads = {"scale": self.scale}, {"scale": self._dscale}
        self.state = {"zero_point": self.zero_point, "started": self._started}
        self._y, self._dx = Buffer(), Buffer()

    def load(self, scale: npt.ArrayLike, zero_point: npt.ArrayLike = 0) -> None:
        """Set scale and zero point, such as those of an observer."""
        for array, value in ((self.scale, scale), (self.zero_point, zero_point), (self._started, 1)):
            assign(array, value)

    def start(self, x: Array) -> None:
        """Set scale and zero point by numbers like those that will come, unless they are set."""
        if self._started or not x.size:
            return
        own = namespace(x)
        rows = x.reshape(1, -1) if self.scheme.axis is None else own.moveaxis(x, self.scheme.axis, 0)
        rows = rows.reshape(len(rows), -1)
        scale, zero_point = self.scheme.steps(rows.min(axis=1), rows.max(axis=1))
        if self.scheme.symmetric:
            learned = 2.0 * own.abs(rows).mean(axis=1, dtype=np.float64) / math.sqrt(self.scheme.qmax)
            scale = own.where(learned > 0.0, learned, scale)
        self.load(scale.reshape(self.scale.shape), zero_point.reshape(self.scale.shape))

    def codes_of(self, x: Array) -> QuantizedArray:
        """The codes of numbers with the scales that were learned."""
        return quantize_affine(x, self.scheme, self.scale, None if self.scheme.symmetric else self.zero_point)

    def forward(self, x: Array, training: bool = False) -> Array:
        """y; keeps `x` itself for `backward`, not a copy."""
        if x.dtype != self.dtype:
            raise TypeError(f"FakeQuantize: input must be {self.dtype} as the scale, got {x.dtype}")
        require_same_kind("FakeQuantize", "input", x, self.scale, "the parameters")
        if training:
            self.start(x)
        namespace(x).maximum(self.scale, 1e-7, out=self.scale)
        scheme, y = self.scheme, self._y.get(x.shape, self.dtype, x)
        settings = (self.scale, self.zero_point, scheme.qmin, scheme.qmax, scheme.axis)
        _, self._saved = fake_quantize(x, *settings, convention=scheme.convention, out=y)
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Write the gradient of the scale; return the one of x."""
        dx = self._dx.get(dy.shape, self.dtype, dy)
        fake_quantize_backward(dy, self._saved, out=(dx, self._dscale))
        self._dscale *= 1.0 / math.sqrt(max(dy.size // self.scale.size, 1) * self.scheme.qmax)
        return dx if input_grad else None
