"""Fully connected layers with quantized weights, and those that train to be quantized."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from stepsmith._backend import namespace, require_same_kind
from stepsmith.nn.base import Module, float_dtype
from stepsmith.nn.buffer import Array, Buffer
from stepsmith.nn.fake_quantize import FakeQuantize
from stepsmith.nn.linear import Linear, rows
from stepsmith.quant._matmul import matmul, multiplies
from stepsmith.quant.affine import Affine
from stepsmith.quant.array import QuantizedArray, dequantize
from stepsmith.quant.fake import fake_quantize, fake_quantize_backward

__all__ = ["QATLinear", "QuantizedLinear"]

FEW = 8
"""Rows up to which a product with codes reads less than one with floats saves."""


class QATLinear(Module):
    """A `Linear` that computes with quantized weights and inputs, but learns in floats; as ``torch.ao.nn.qat.Linear``.

    Weights, and inputs where a scheme is given, go through a `FakeQuantize` each: the gradients go straight through to
    the weights, and the scales are learned. The weight's scale starts by the weight at the first use, that of the input
    by the first batch in training. The layer belongs to the wrapper from then on.

    Args:
        layer: The layer.
        weight: Scheme of the weight; axis None or 0.
        activations: Scheme of the input, without an axis; None to leave it as it is.

    Attributes:
        layer: The wrapped layer.
        weight_quantizer: A `FakeQuantize`, whose scale is the parameter "weight_scale".
        input_quantizer: Likewise "input_scale", or None.

    Raises:
        TypeError, ValueError: Not a Linear, or another kind of scheme.

    Example:
        >>> from stepsmith.nn import Linear
        >>> model = QATLinear(Linear(4, 3), ss.quant.Affine(bits=4, axis=0))
        >>> {name: param.shape for name, param in model.parameters().items()}
        {'weight': (3, 4), 'bias': (3,), 'weight_scale': (3,)}
    """

    def __init__(self, layer: Linear, weight: Affine, activations: Affine | None = None) -> None:
        super().__init__()
        if not isinstance(layer, Linear):
            raise TypeError(f"QATLinear: layer must be a Linear, got {type(layer).__name__}")
        for name, scheme in (("weight", weight), ("activations", activations)):
            axes = (None, 0, -2) if name == "weight" else (None,)
            if isinstance(scheme, Affine) and scheme.axis not in axes:
                raise ValueError(f"QATLinear: axis of {name} must be one of {axes}, got {scheme.axis}")
        self.layer, self.dtype = layer, layer.dtype
        channels = layer.out_features if isinstance(weight, Affine) and weight.axis is not None else None
        self.weight_quantizer = FakeQuantize(weight, channels, dtype=self.dtype)
        self.input_quantizer = None if activations is None else FakeQuantize(activations, dtype=self.dtype)
        self.params, self.grads = dict(layer.params), dict(layer.grads)
        for name, quantizer in (("weight", self.weight_quantizer), ("input", self.input_quantizer)):
            if quantizer is not None:
                self.params[f"{name}_scale"], self.grads[f"{name}_scale"] = quantizer.scale, quantizer.grads["scale"]
                self.state |= {f"{name}_{part}": array for part, array in quantizer.state.items()}
        self._dwq = np.zeros_like(layer.params["weight"])
        self._y, self._dx = Buffer(), Buffer()

    def draw(self, seed: int) -> None:
        """Let the layer draw, then set the weight's scale, at the first use only."""
        self.layer.index, self.layer.counter = self.index, self.counter
        self.layer.draw(seed)
        self.weight_quantizer.start(self.params["weight"])

    def forward(self, x: Array, training: bool = False) -> Array:
        """Y of the quantized input and weight, for `x` of shape (samples, ..., in)."""
        check_input("QATLinear", x, self.dtype, self.layer.in_features, self.params["weight"])
        self.x = x
        self._xq = x if self.input_quantizer is None else self.input_quantizer.forward(x, training)
        self._wq = self.weight_quantizer.forward(self.params["weight"], training)
        y = self._y.get((*x.shape[:-1], self.layer.out_features), self.dtype, x)
        own = namespace(x)
        own.matmul(rows(self._xq), self._wq.T, out=rows(y))
        if "bias" in self.params:
            own.add(y, self.params["bias"], out=y)
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Write the gradients of weight, bias and scales; return that of x."""
        require_same_kind("QATLinear", "dy", dy, self.params["weight"])
        dy, own = rows(dy), namespace(dy)
        own.matmul(dy.T, rows(self._xq), out=self._dwq)
        self.grads["weight"][...] = self.weight_quantizer.backward(self._dwq)
        if "bias" in self.params:
            own.add.reduce(dy, axis=0, out=self.grads["bias"])
        if not input_grad and self.input_quantizer is None:
            return None
        dx = self._dx.get(self.x.shape, self.dtype, dy)
        own.matmul(dy, self._wq, out=rows(dx))
        return dx if self.input_quantizer is None else self.input_quantizer.backward(dx, input_grad)

    def flops(self, x: tuple[int, ...], y: tuple[int, ...]) -> int:
        """Those of the layer."""
        return self.layer.flops(x, y)

    def quantized_weight(self) -> QuantizedArray:
        """The weight's codes with the scales that were learned."""
        return self.weight_quantizer.codes_of(self.params["weight"])


class QuantizedLinear(Module):
    """y = x·weightᵀ + bias with a quantized weight; as ``torch.ao.nn.quantized.dynamic.Linear``, for use, not training.

    Gradients go through to the input only. `quantize_model` makes such layers of others. Up to 8 float32 rows are
    multiplied with the codes themselves where `quant.matmul` takes them; more, and other weights, with their numbers.

    Args:
        weight: Codes of an array (out, in), of any scheme.
        bias: (out,) or None.
        activations: Scheme, scale and zero point by which the input is rounded as codes would be, or None.
        dtype: float32 or float64, of inputs and outputs.

    Attributes:
        weight: As given; its arrays are in `buffers()`.
        bias: As given.

    Raises:
        TypeError, ValueError: Another kind or shape of weight or bias.

    Example:
        >>> weight = ss.quant.quantize(np.eye(3, dtype=np.float32), ss.quant.Affine(bits=4))
        >>> QuantizedLinear(weight)(np.array([[1.0, 2.0, 3.0]], np.float32)).round(5)
        array([[1., 2., 3.]], dtype=float32)
    """

    def __init__(
        self,
        weight: QuantizedArray,
        bias: Array | None = None,
        activations: tuple[Affine, npt.ArrayLike, npt.ArrayLike] | None = None,
        *,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        if not isinstance(weight, QuantizedArray):
            raise TypeError(f"QuantizedLinear: weight must be a QuantizedArray, got {type(weight).__name__}")
        if weight.ndim != 2:
            raise ValueError(f"QuantizedLinear: weight must have shape (out, in), got {weight.shape}")
        self.dtype = float_dtype("QuantizedLinear", dtype)
        self.out_features, self.in_features = weight.shape
        if bias is not None and (bias.shape, bias.dtype) != ((self.out_features,), self.dtype):
            wanted = f"shape ({self.out_features},) and dtype {self.dtype}"
            raise ValueError(f"QuantizedLinear: bias must have {wanted}, got {bias.shape} and {bias.dtype}")
        if bias is not None:
            require_same_kind("QuantizedLinear", "bias", bias, weight.codes, "the weights")
        self.weight, self.bias, self.activations = weight, bias, activations
        self.state = {f"weight_{name}": part for name, part in weight.parts.items()}
        self.state |= {} if bias is None else {"bias": bias}
        self._y, self._dx, self._w, self._xq = Buffer(), Buffer(), Buffer(), Buffer()

    def forward(self, x: Array, training: bool = False) -> Array:
        """x·weightᵀ + bias for `x` of shape (samples, ..., in)."""
        check_input("QuantizedLinear", x, self.dtype, self.in_features, self.weight.codes)
        self.x = x
        y = self._y.get((*x.shape[:-1], self.out_features), self.dtype, x)
        self._matmul(rows(self._rounded(x)), rows(y))
        if self.bias is not None:
            namespace(x).add(y, self.bias, out=y)
        return y

    def _rounded(self, x: Array) -> Array:
        """The input, as its codes would have it."""
        if self.activations is None:
            return x
        scheme, scale, point = self.activations
        out = self._xq.get(x.shape, self.dtype, x)
        _, self._saved = fake_quantize(x, scale, point, scheme.qmin, scheme.qmax, convention=scheme.convention, out=out)
        return out

    def _matmul(self, x: Array, out: Array) -> None:
        """Out = x·weightᵀ: of a few samples by the codes themselves, which are less to read, else by their numbers."""
        if x.shape[0] <= FEW and self.dtype == np.float32 and multiplies(self.weight):
            matmul(self.weight, x, out=out)
        else:
            namespace(x).matmul(x, self._numbers().T, out=out)

    def _numbers(self) -> Array:
        return dequantize(self.weight, out=self._w.get(self.weight.shape, self.dtype, self.weight.codes))

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """dy·weight, straight through the input's codes."""
        if not input_grad:
            return None
        require_same_kind("QuantizedLinear", "dy", dy, self.x, "the last input")
        dx = self._dx.get(self.x.shape, self.dtype, dy)
        namespace(dy).matmul(rows(dy), self._numbers(), out=rows(dx))
        if self.activations is not None:
            fake_quantize_backward(dx, self._saved, out=(dx, None))
        return dx

    def flops(self, x: tuple[int, ...], y: tuple[int, ...]) -> int:
        """2·in for each output."""
        return 2 * self.in_features * math.prod(y)


def check_input(owner: str, x: Array, dtype: npt.DTypeLike, features: int, weight: Array) -> None:
    """Fails unless `x` is a batch of rows of that dtype and length, where the weight is."""
    require_same_kind(owner, "input", x, weight, "the weights")
    if x.dtype != dtype:
        raise TypeError(f"{owner}: input must be {dtype} as the layer, got {x.dtype}")
    if x.ndim < 2 or x.shape[-1] != features:
        raise ValueError(f"{owner}: input must have shape (samples, ..., {features}), got {x.shape}")
