"""Softmax and its logarithm as layers."""

from __future__ import annotations

from stepsmith import _check
from stepsmith.nn.base import Module
from stepsmith.nn.buffer import Array, Buffer
from stepsmith.nn.functional.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward

__all__ = ["LogSoftmax", "Softmax"]


class _Softmax(Module):
    """Keeps the output, from which the gradient is computed."""

    def __init__(self, axis: int = -1) -> None:
        super().__init__()
        self.axis = _check.integer(type(self).__name__, "axis", axis)
        self._output, self._dx = Buffer(), Buffer()


class Softmax(_Softmax):
    """y = exp(x) / Σ exp(x) over an axis; see `functional.softmax`.

    For a classifier leave it out and take `CrossEntropy`, which wants logits.

    Args:
        axis: That sums to 1.

    Raises:
        TypeError: An axis that is no integer.

    Follows: ``torch.nn.Softmax``.

    Example:
        >>> Softmax()(np.array([[0.0, 0.0]]))
        array([[0.5, 0.5]])
    """

    def forward(self, x: Array, training: bool = False) -> Array:
        """Softmax of an array of any shape that has the axis."""
        y, self._saved = softmax(x, self.axis, out=self._output.get(x.shape, x.dtype, x))
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """y·(dy - Σ dy·y) with the last output y."""
        return softmax_backward(dy, self._saved, out=self._dx.get(dy.shape, dy.dtype, dy)) if input_grad else None


class LogSoftmax(_Softmax):
    """y = x - log Σ exp(x) over an axis; see `functional.log_softmax`.

    Args:
        axis: Whose exponentials sum to 1.

    Raises:
        TypeError: An axis that is no integer.

    Follows: ``torch.nn.LogSoftmax``.

    Example:
        >>> LogSoftmax()(np.array([[0.0, -1000.0]]))
        array([[    0., -1000.]])
    """

    def forward(self, x: Array, training: bool = False) -> Array:
        """Logarithm of the softmax of an array of any shape that has the axis."""
        y, self._saved = log_softmax(x, self.axis, out=self._output.get(x.shape, x.dtype, x))
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Dy - exp(y)·Σ dy with the last output y."""
        return log_softmax_backward(dy, self._saved, out=self._dx.get(dy.shape, dy.dtype, dy)) if input_grad else None
