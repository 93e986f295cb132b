"""A layer whose weight is a direction and a length."""

from __future__ import annotations

import numpy as np

from stepsmith import _check, norm
from stepsmith._backend import assign, moved
from stepsmith.nn.base import Module
from stepsmith.nn.buffer import Array

__all__ = ["WeightNorm"]


class WeightNorm(Module):
    """Writes weight = weight_g·weight_v/‖weight_v‖ into a layer before each pass; as ``torch.nn.utils.weight_norm``.

    The norm goes over all axes but one. weight_v starts as the weight that the layer drew and weight_g as its norms,
    so the layer computes the same at first; see `stepsmith.norm.weight_norm`. The layer belongs to the wrapper from
    then on.

    Args:
        layer: One with the parameter `name`, such as a `Linear`.
        name: Which of its parameters.
        axis: That keeps a length for each index.

    Attributes:
        layer: The wrapped layer.

    Raises:
        TypeError: Not a Module, or a `name` that is no string.
        ValueError: A layer without that parameter, or an axis out of range.

    Example:
        >>> from stepsmith.nn import Linear
        >>> model = WeightNorm(Linear(4, 3))
        >>> {name: param.shape for name, param in model.parameters().items()}
        {'weight_g': (3,), 'weight_v': (3, 4), 'bias': (3,)}
    """

    def __init__(self, layer: Module, name: str = "weight", axis: int = 0) -> None:
        super().__init__()
        if not isinstance(layer, Module):
            raise TypeError(f"WeightNorm: layer must be a Module, got {type(layer).__name__}")
        if not layer.params:
            raise ValueError(f"WeightNorm: layer must have parameters, got {type(layer).__name__}")
        name = _check.one_of("WeightNorm", "name", name, layer.params)
        self.layer, self.name = layer, name
        self._w, self._dw = layer.params[name], layer.grads[name]
        self.axis = _check.integer("WeightNorm", "axis", axis, low=-self._w.ndim, high=self._w.ndim - 1)
        self._v, self._dv = np.zeros_like(self._w), np.zeros_like(self._w)
        self._g, self._dg = (np.zeros(self._w.shape[self.axis], self._w.dtype) for _ in range(2))
        self.params = {f"{name}_g": self._g, f"{name}_v": self._v, **_others(layer.params, name)}
        self.grads = {f"{name}_g": self._dg, f"{name}_v": self._dv, **_others(layer.grads, name)}
        self.state = layer.state
        self._drawn = False

    def draw(self, seed: int) -> None:
        """Let the layer draw, then take its weight apart, at the first use only."""
        self.layer.index, self.layer.counter = self.index, self.counter
        if not self._drawn:
            self.layer.draw(seed)
            # On the CPU, as all that is drawn, so that the bits are the same everywhere.
            weight = moved(self._w, "cpu")
            _, saved = norm.weight_norm(weight, np.ones(self._g.shape, self._g.dtype), self.axis)
            self._v[...] = self._w
            assign(self._g, 1.0 / saved.rstd)
            self._drawn = True

    def forward(self, x: Array, training: bool = False) -> Array:
        """The layer's output with the weight of the moment."""
        _, self._saved = norm.weight_norm(self._v, self._g, self.axis, out=self._w)
        return self.layer.forward(x, training)

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """The layer's backward pass, then the gradients of weight_g and weight_v."""
        dx = self.layer.backward(dy, input_grad)
        norm.weight_norm_backward(self._dw, self._saved, out=(self._dv, self._dg))
        return dx

    def flops(self, x: tuple[int, ...], y: tuple[int, ...]) -> int:
        """Those of the layer."""
        return self.layer.flops(x, y)


def _others(arrays: dict[str, Array], name: str) -> dict[str, Array]:
    return {other: array for other, array in arrays.items() if other != name}
