"""Softmax and its logarithm over an axis."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from stepsmith import _check
from stepsmith._backend import core_of, namespace, require_array
from stepsmith._outputs import apart, like, of_forward, output

__all__ = ["SoftmaxSaved", "log_softmax", "log_softmax_backward", "softmax", "softmax_backward"]

Array = NDArray[Any]


@dataclass(slots=True)
class SoftmaxSaved:
    """What a forward pass leaves for its backward pass.

    Attributes:
        y: its output, not a copy.
        axis: that it went over.
        is_log: is y the logarithm?
    """

    y: Array
    axis: int
    is_log: bool


def softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> tuple[Array, SoftmaxSaved]:
    """Softmax: y = exp(x - max) / Σ exp(x - max) over an axis.

    The sum is a float64 of fixed shape, so the result has the same bits at any thread count and CPU level, and on a
    GPU. float32, bfloat16 and float16 are computed in float32. A slice that holds NaN or Inf, or nothing but -Inf,
    becomes NaN.

    Args:
        x: any shape with an axis, any layout; float32, float64, bfloat16 or float16.
        axis: that sums to 1. The last axis is the fastest.
        out: takes y; may be x itself.

    Returns:
        y of the shape and dtype of x, and what `softmax_backward` needs: a reference to y.

    Raises:
        TypeError: another kind of array or dtype, an axis that is no integer.
        ValueError: an axis that x lacks, an `out` that does not fit or is read-only.

    Follows: ``torch.nn.functional.softmax``.

    Example:
        >>> y, saved = softmax(np.array([[0.0, 0.0], [1000.0, -1000.0]]))
        >>> y.tolist()
        [[0.5, 0.5], [1.0, 0.0]]
    """
    return _forward("softmax", x, axis, out, is_log=False)


def softmax_backward(dy: Array, saved: SoftmaxSaved, *, out: Array | None = None) -> Array:
    """Gradient of `softmax`: dx = y·(dy - Σ dy·y), the sum over the axis of the forward pass.

    Args:
        dy: shape and dtype of y.
        saved: of the forward pass; y must be as it was.
        out: takes dx; may be dy or y itself.

    Returns:
        dx of the shape and dtype of y.

    Raises:
        TypeError: another kind of array or dtype.
        ValueError: shapes that do not fit.

    Example:
        >>> y, saved = softmax(np.array([0.0, 0.0]))
        >>> softmax_backward(np.array([1.0, 0.0]), saved).tolist()
        [0.25, -0.25]
    """
    return _backward("softmax_backward", dy, saved, out, is_log=False)


def log_softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> tuple[Array, SoftmaxSaved]:
    """Logarithm of the softmax: y = (x - max) - log Σ exp(x - max) over an axis; else as `softmax`.

    Args:
        x: as for `softmax`.
        axis: likewise.
        out: takes y; may be x itself.

    Returns:
        y of the shape and dtype of x, and what `log_softmax_backward` needs: a reference to y.

    Raises:
        TypeError: another kind of array or dtype, an axis that is no integer.
        ValueError: an axis that x lacks, an `out` that does not fit or is read-only.

    Follows: ``torch.nn.functional.log_softmax``.

    Example:
        >>> y, saved = log_softmax(np.array([0.0, -1000.0]))
        >>> y.tolist()
        [0.0, -1000.0]
    """
    return _forward("log_softmax", x, axis, out, is_log=True)


def log_softmax_backward(dy: Array, saved: SoftmaxSaved, *, out: Array | None = None) -> Array:
    """Gradient of `log_softmax`: dx = dy - exp(y)·Σ dy, the sum over the axis of the forward pass.

    Args:
        dy: shape and dtype of y.
        saved: of the forward pass; y must be as it was.
        out: takes dx; may be dy or y itself.

    Returns:
        dx of the shape and dtype of y.

    Raises:
        TypeError: another kind of array or dtype.
        ValueError: shapes that do not fit.

    Example:
        >>> y, saved = log_softmax(np.array([5.0]))
        >>> log_softmax_backward(np.array([1.0]), saved).tolist()
        [0.0]
    """
    return _backward("log_softmax_backward", dy, saved, out, is_log=True)


def _forward(owner: str, x: Array, axis: object, out: Array | None, *, is_log: bool) -> tuple[Array, SoftmaxSaved]:
    require_array(owner, "x", x)
    if x.ndim == 0:
        raise ValueError(f"{owner}: x must have an axis, got shape ()")
    axis = _check.integer(owner, "axis", axis, low=-x.ndim, high=x.ndim - 1)
    y = output(owner, "out", out, x.shape, x.dtype, x)
    source, *_ = apart((x, None, None, None), (out,))
    assert source is not None
    rows, turned = _rows(source, axis)
    core_of(x).softmax_rows(owner, namespace(x).moveaxis(y, axis, -1), turned, rows, is_log)
    return y, SoftmaxSaved(y, axis, is_log)


def _backward(owner: str, dy: Array, saved: SoftmaxSaved, out: Array | None, *, is_log: bool) -> Array:
    if of_forward(owner, saved, SoftmaxSaved).is_log != is_log:
        raise ValueError(f"{owner}: saved must be that of {owner.removesuffix('_backward')}, got the other function's")
    y, axis = saved.y, saved.axis
    dy = like(owner, "dy", dy, y, "y")
    dx = output(owner, "out", out, y.shape, y.dtype, y)
    source, kept, *_ = apart((dy, y, None, None), (out,))
    assert source is not None
    assert kept is not None
    (rows, turned), own = _rows(source, axis), namespace(y)
    last = own.moveaxis(dx, axis, -1), turned, own.moveaxis(kept, axis, -1)
    core_of(y).softmax_rows_backward(owner, *last, rows, is_log)
    return dx


def _rows(x: Array, axis: int) -> tuple[tuple[int, int], Array]:
    """Rows and elements of a row, and the array with the axis last."""
    length = x.shape[axis]
    return (x.size // length if length else 0, length), namespace(x).moveaxis(x, axis, -1)
