"""Layers that take one number of each window of a plane, and one that takes the planes apart."""

from __future__ import annotations

import math

from stepsmith import _check
from stepsmith._backend import core_of
from stepsmith._outputs import require_floats
from stepsmith.nn._windows import Pair, Windows, check_planes, pair
from stepsmith.nn.base import Module, check_gradient
from stepsmith.nn.buffer import Array, Buffer

__all__ = ["AvgPool2d", "Flatten", "MaxPool2d"]


class _Pool(Module):
    """Checks the window; keeps the input itself, not a copy, for the backward pass."""

    def __init__(
        self, kernel_size: int | Pair, stride: int | Pair | None, padding: int | Pair, dilation: int | Pair
    ) -> None:
        super().__init__()
        owner = self._owner = type(self).__name__
        kernel = pair(owner, "kernel_size", kernel_size)
        self.windows = Windows(
            owner,
            kernel,
            kernel if stride is None else pair(owner, "stride", stride),
            pair(owner, "padding", padding, low=0),
            pair(owner, "dilation", dilation),
        )
        if any(2 * padding > reach for padding, reach in zip(self.windows.padding, self.windows.reach())):
            reach = self.windows.reach()
            raise ValueError(f"{owner}: padding must be at most half of the window, {reach}, got {padding}")
        self._y, self._dx = Buffer(), Buffer()

    def _begin(self, x: Array) -> Array:
        """The output to fill for an input."""
        require_floats(self._owner, "input", x)
        check_planes(self._owner, x)
        self._x, (self._shape, self._y_shape) = x, self.windows.of(x, x.shape[1])
        return self._y.get(self._y_shape, x.dtype, x)

    def _begin_backward(self, dy: Array) -> Array:
        """The gradient to fill for that of the output."""
        check_gradient(self._owner, dy, self._y_shape, self._x.dtype, self._x)
        return self._dx.get(self._x.shape, self._x.dtype, dy)


class MaxPool2d(_Pool):
    """y[n, c, r, s] = the largest x[n, c, r·stride + i·dilation - padding, ...] over i, j; as ``torch.nn.MaxPool2d``.

    The padding counts as -∞. NaN is larger than all else. The gradient goes to the first of equal elements.

    Args:
        kernel_size: Rows and columns of the window, or one number for both; likewise the others.
        stride: From a window to the next; None for the kernel's size.
        padding: On each side, at most half of the window, gaps included.
        dilation: From an element of the window to the next.

    Raises:
        TypeError, ValueError: Numbers of another kind or out of range.

    Example:
        >>> MaxPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
        array([[ 5.,  7.],
               [13., 15.]])
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation)

    def forward(self, x: Array, training: bool = False) -> Array:
        """The largest of each window for `x` of shape (samples, channels, rows, columns)."""
        y = self._begin(x)
        core_of(x).max_pool(self._owner, y, x, self._shape)
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Each window's dy for its largest element, added up."""
        if not input_grad:
            return None
        dx = self._begin_backward(dy)
        core_of(dy).max_pool_backward(self._owner, dx, self._x, dy, self._shape)
        return dx


class AvgPool2d(_Pool):
    """y[n, c, r, s] = the mean of x[n, c, r·stride + i - padding, ...] over i, j; as ``torch.nn.AvgPool2d``.

    Args:
        kernel_size: Rows and columns of the window, or one number for both; likewise the next two.
        stride: From a window to the next; None for the kernel's size.
        padding: Zeros on each side, at most half of the window.
        count_include_pad: Whether zeros of the padding count; else the mean is over what lies inside.

    Raises:
        TypeError, ValueError: Numbers of another kind or out of range.

    Example:
        >>> AvgPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
        array([[ 2.5,  4.5],
               [10.5, 12.5]])
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, padding, 1)
        self.count_include_pad = _check.boolean(self._owner, "count_include_pad", count_include_pad)

    def forward(self, x: Array, training: bool = False) -> Array:
        """The mean of each window for `x` of shape (samples, channels, rows, columns)."""
        y = self._begin(x)
        core_of(x).average_pool(self._owner, y, x, self._shape, self.count_include_pad)
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Each window's dy over its count for each of its elements, added up."""
        if not input_grad:
            return None
        dx = self._begin_backward(dy)
        core_of(dy).average_pool_backward(self._owner, dx, dy, self._shape, self.count_include_pad)
        return dx


class Flatten(Module):
    """One axis of all from `start_axis` on; as ``torch.nn.Flatten``. Views where the input is in C order.

    Args:
        start_axis: The first that goes, at least 1: samples stay apart.

    Raises:
        TypeError, ValueError: No such integer.

    Example:
        >>> Flatten()(np.ones((5, 2, 3))).shape
        (5, 6)
    """

    def __init__(self, start_axis: int = 1) -> None:
        super().__init__()
        self.start_axis = _check.integer("Flatten", "start_axis", start_axis, low=1)

    def forward(self, x: Array, training: bool = False) -> Array:
        """`x` with fewer axes, or one more of length 1."""
        if x.ndim < self.start_axis:
            raise ValueError(f"Flatten: input must have at least {self.start_axis} axes, got shape {x.shape}")
        self._shape = x.shape
        kept = x.shape[: self.start_axis]
        return x.reshape(*kept, math.prod(x.shape[self.start_axis :]))

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """`dy` with the axes of the input."""
        return dy.reshape(self._shape) if input_grad else None
