"""Models with quantized layers: after training, by calibration, or trained to be quantized."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from stepsmith import norm
from stepsmith.nn._tree import mapped
from stepsmith.nn.base import Module
from stepsmith.nn.buffer import Array
from stepsmith.nn.linear import Linear
from stepsmith.nn.quantized import QATLinear, QuantizedLinear
from stepsmith.nn.weight_norm import WeightNorm
from stepsmith.quant._scheme import Scheme
from stepsmith.quant.affine import Affine
from stepsmith.quant.array import QuantizedArray, quantize, require_scheme
from stepsmith.quant.observers import MinMax, Observer

__all__ = ["calibrate", "prepare_qat", "quantize_model"]


def _is_linear(layer: Module) -> bool:
    wrapped = layer.layer if isinstance(layer, WeightNorm) and layer.name == "weight" else layer
    return isinstance(wrapped, Linear | QATLinear)


def _require_model(owner: str, model: object) -> Module:
    if not isinstance(model, Module):
        raise TypeError(f"{owner}: model must be a Module, got {type(model).__name__}")
    layers = [layer for _, layer in model.named_layers()]
    if not any(_is_linear(layer) for layer in layers):
        raise ValueError(f"{owner}: model must have a Linear, got {[type(layer).__name__ for layer in layers]}")
    return model


def prepare_qat(model: Module, weight: Affine, activations: Affine | None = None) -> Module:
    """A model that trains to be quantized: each `Linear` becomes a `QATLinear`. As PyTorch's ``prepare_qat``.

    The new model shares layers and parameters with the old one; an optimizer belongs to the new one's parameters.
    When it is trained, `quantize_model` makes codes of the weights with the scales that were learned.

    Args:
        model: A `Linear`, or a `Sequential` of layers, trained or not.
        weight: Scheme of the weights; axis None or 0.
        activations: Scheme of the inputs of each `Linear`, without an axis; None to leave them as they are.

    Returns:
        The model.

    Raises:
        TypeError, ValueError: A model without such layers, or schemes that they cannot have.

    Example:
        >>> model = ss.nn.Sequential(ss.nn.Linear(4, 8), ss.nn.ReLU(), ss.nn.Linear(8, 2))
        >>> list(ss.nn.prepare_qat(model, ss.quant.Affine(bits=4)).parameters())[:3]
        ['0.weight', '0.bias', '0.weight_scale']
    """
    _require_model("prepare_qat", model).prepare()

    def make(_name: str, layer: Module) -> Module:
        return QATLinear(layer, weight, activations) if isinstance(layer, Linear) else layer

    return mapped(model, make)


def calibrate(
    model: Module, batches: Iterable[Array], observer: Callable[[], Observer] = MinMax
) -> dict[str, Observer]:
    """What the inputs of each fully connected layer look like.

    Args:
        model: Run for each batch, not in training.
        batches: Inputs of the model.
        observer: Makes an observer for each layer.

    Returns:
        Name of a layer, such as "0" → its observer, for `quantize_model`.

    Raises:
        TypeError, ValueError: A model without such layers, or no batch.

    Example:
        >>> model = ss.nn.Sequential(ss.nn.Linear(4, 8), ss.nn.ReLU(), ss.nn.Linear(8, 2))
        >>> seen = ss.nn.calibrate(model, [np.ones((3, 4), np.float32)], ss.quant.MinMax)
        >>> sorted(seen), float(seen["0"].high[0])
        (['0', '2'], 1.0)
    """
    _require_model("calibrate", model)
    layers = {prefix.removesuffix("."): layer for prefix, layer in model.named_layers() if _is_linear(layer)}
    seen = {name: observer() for name in layers}
    for batch in batches:
        model(batch)
        for name, layer in layers.items():
            seen[name].update(_input_of(layer))
    if not all(found.batches for found in seen.values()):
        raise ValueError("calibrate: batches must have some samples, got none")
    return seen


def _input_of(layer: Module) -> Array:
    """What the layer was given in its last pass."""
    inner = layer.layer if isinstance(layer, WeightNorm) else layer
    x: Array = inner.x if isinstance(inner, QATLinear) else inner._x  # type: ignore[attr-defined]
    return x


def quantize_model(
    model: Module,
    scheme: Scheme | None = None,
    activations: Mapping[str, Observer] | None = None,
    activation_scheme: Affine | None = None,
) -> Module:
    """A model for use whose fully connected layers have quantized weights; the old one stays as it is.

    Each `Linear`, also one in a `WeightNorm`, becomes a `QuantizedLinear`; other layers are copied. A `QATLinear`
    keeps the scales that it has learned, those of its input too, unless a scheme is given.

    Args:
        model: A layer, or a `Sequential` of layers.
        scheme: Of the weights (out, in); None for those that `QATLinear` layers have learned.
        activations: What `calibrate` returned, to round inputs as their codes would be; None to leave them as they are.
        activation_scheme: Of the inputs; None for 8 bits, asymmetric.

    Returns:
        The model.

    Raises:
        TypeError, ValueError: A model without such layers, a layer that needs a scheme or that was not calibrated.

    Example:
        >>> model = ss.nn.Sequential(ss.nn.Linear(64, 32), ss.nn.ReLU(), ss.nn.Linear(32, 2))
        >>> small = ss.nn.quantize_model(model, ss.quant.NF4())
        >>> sum(a.nbytes for a in small.buffers().values()), sum(p.nbytes for p in model.parameters().values())
        (1324, 8584)
    """
    owner = "quantize_model"
    _require_model(owner, model).prepare()
    if scheme is not None:
        require_scheme(owner, scheme)

    def make(name: str, layer: Module) -> Module:
        if not _is_linear(layer):
            return copy.deepcopy(layer)
        weight, bias = _weight_of(layer, scheme, name)
        rounding = _input_scheme(layer, scheme)
        if activations is not None:
            if name not in activations:
                raise ValueError(f"{owner}: activations must have layer '{name}', got {sorted(activations)}")
            inputs = activation_scheme or Affine(symmetric=False)
            rounding = inputs, *activations[name].parameters(inputs)
        return QuantizedLinear(weight, bias, rounding, dtype=_dtype_of(layer))

    return mapped(model, make)


def _dtype_of(layer: Module) -> np.dtype[np.floating]:
    """Of inputs and outputs of a fully connected layer."""
    found: np.dtype[np.floating] = next(iter(layer.params.values())).dtype
    return found


def _weight_of(layer: Module, scheme: Scheme | None, name: str) -> tuple[QuantizedArray, Array | None]:
    """The quantized weight of a fully connected layer, and a copy of its bias."""
    bias = layer.params.get("bias")
    bias = None if bias is None else bias.copy()
    if scheme is None:
        if not isinstance(layer, QATLinear):
            raise ValueError(f"quantize_model: scheme must be given for layer '{name}', got None")
        return layer.quantized_weight(), bias
    if isinstance(layer, WeightNorm):
        return quantize(
            norm.weight_norm(layer.params["weight_v"], layer.params["weight_g"], layer.axis)[0], scheme
        ), bias
    return quantize(layer.params["weight"], scheme), bias


def _input_scheme(layer: Module, scheme: Scheme | None) -> tuple[Affine, Array, Array] | None:
    """What a layer has learned about its input."""
    if scheme is not None or not isinstance(layer, QATLinear) or layer.input_quantizer is None:
        return None
    learned = layer.input_quantizer
    return learned.scheme, learned.scale.copy(), learned.zero_point.copy()
