"""Activations without parameters, applied to each element."""

from __future__ import annotations

import numpy as np

from stepsmith.nn.base import Module
from stepsmith.nn.buffer import Array, Buffer

__all__ = ["ReLU", "Sigmoid", "Tanh"]


class _Activation(Module):
    """Keeps the output `_y`, from which every backward pass here is computed, and scratch for the gradient."""

    def __init__(self) -> None:
        super().__init__()
        self._output, self._scratch, self._dx = Buffer(), Buffer(), Buffer()


class ReLU(_Activation):
    """y = max(x, 0), dx = dy where y > 0 else 0; NaN stays NaN.

    Example:
        >>> ReLU()(np.array([[-1.0, 2.0]]))
        array([[0., 2.]])
    """

    def forward(self, x: Array, training: bool = False) -> Array:
        """max(x, 0) of an array of any shape."""
        self._y: Array = np.maximum(x, 0, out=self._output.get(x.shape, x.dtype))
        return self._y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Dy where the last output was positive."""
        if not input_grad:
            return None
        # The mask is made in the arrays' dtype: a product with booleans would convert them element by element.
        mask = np.sign(self._y, out=self._scratch.get(dy.shape, dy.dtype))
        return np.multiply(dy, mask, out=self._dx.get(dy.shape, dy.dtype))


class Tanh(_Activation):
    """y = tanh(x), dx = dy·(1 - y²).

    Example:
        >>> Tanh()(np.array([[0.0]]))
        array([[0.]])
    """

    def forward(self, x: Array, training: bool = False) -> Array:
        """tanh(x) of an array of any shape."""
        self._y: Array = np.tanh(x, out=self._output.get(x.shape, x.dtype))
        return self._y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """dy·(1 - y²) with the last output y."""
        if not input_grad:
            return None
        dx = np.multiply(self._y, self._y, out=self._dx.get(dy.shape, dy.dtype))
        np.subtract(1, dx, out=dx)
        return np.multiply(dy, dx, out=dx)


class Sigmoid(_Activation):
    """y = 1 / (1 + e^(-x)), dx = dy·y·(1 - y).

    Computed as e^min(x, 0) / (1 + e^(-abs(x))): exact to rounding on both sides, and nothing overflows.

    Example:
        >>> Sigmoid()(np.array([[0.0, -1000.0, 1000.0]]))
        array([[0.5, 0. , 1. ]])
    """

    def forward(self, x: Array, training: bool = False) -> Array:
        """The logistic function of an array of any shape."""
        y = np.minimum(x, 0, out=self._output.get(x.shape, x.dtype))
        np.exp(y, out=y)
        divisor = np.abs(x, out=self._scratch.get(x.shape, x.dtype))
        np.negative(divisor, out=divisor)
        np.exp(divisor, out=divisor)
        np.add(divisor, 1, out=divisor)
        self._y: Array = np.divide(y, divisor, out=y)
        return self._y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """dy·y·(1 - y) with the last output y."""
        if not input_grad:
            return None
        dx = np.subtract(1, self._y, out=self._dx.get(dy.shape, dy.dtype))
        np.multiply(dx, self._y, out=dx)
        return np.multiply(dy, dx, out=dx)
