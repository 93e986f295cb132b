"""The layer that slides learned windows over planes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith import init as initializers
from stepsmith._backend import core_of, require_same_kind
from stepsmith.nn._windows import Pair, Windows, check_planes, pair
from stepsmith.nn.base import check_gradient
from stepsmith.nn.buffer import Array, Buffer
from stepsmith.nn.drawn import Weighted

__all__ = ["Conv2d"]


class Conv2d(Weighted):
    """y[n, o, r, s] = bias[o] + Σ weight[o, c, i, j]·x[n, c, r·stride + i·dilation - padding, ...] over c, i, j.

    As ``torch.nn.Conv2d``. The window slides over planes of rows and columns with zeros around them; r and i belong to
    rows, s and j likewise to columns. Input and output channels are cut into `groups`; an output sees the inputs of
    its group alone. On the CPU the products are our own, not BLAS's: the order of each sum depends on the shapes alone,
    so that results have the same bits at any CPU level and thread count. On a GPU they are those of cuBLAS.

    Args:
        in_channels: Of x, a multiple of groups.
        out_channels: Of y, a multiple of groups.
        kernel_size: Rows and columns of the window, or one number for both; likewise the next three.
        stride: From a window to the next.
        padding: Zeros on each side.
        dilation: From a tap of the window to the next.
        groups: At least 1.
        bias: Whether there is one; it starts at zero.
        init: Initializer of the weight, of `stepsmith.init` or alike.
        rng: Generator or seed to draw the weight from at once; None leaves the draw to the model (see `Module`).
        dtype: float32 or float64, of parameters, inputs and outputs.

    Attributes:
        weight: (out, in / groups, rows, columns).
        bias: (out,) or None.
        windows: The checked pairs `kernel`, `stride`, `padding` and `dilation`.

    Raises:
        ValueError: Numbers out of range, channels that groups do not divide.
        TypeError: Another dtype.

    Example:
        >>> layer = Conv2d(1, 4, 3, padding=1, rng=0)
        >>> layer(np.ones((5, 1, 28, 28), np.float32)).shape, layer.weight.shape
        ((5, 4, 28, 28), (4, 1, 3, 3))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        init: Callable[..., Array] = initializers.xavier_uniform,
        rng: int | np.random.Generator | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.groups = _check.integer("Conv2d", "groups", groups, low=1)
        self.in_channels = self._channels("in_channels", in_channels)
        self.out_channels = self._channels("out_channels", out_channels)
        self.windows = Windows(
            "Conv2d",
            pair("Conv2d", "kernel_size", kernel_size),
            pair("Conv2d", "stride", stride),
            pair("Conv2d", "padding", padding, low=0),
            pair("Conv2d", "dilation", dilation),
        )
        weight = self.out_channels, self.in_channels // self.groups, *self.windows.kernel
        self._weigh(weight, _check.boolean("Conv2d", "bias", bias), init, dtype)
        self._counts = self.out_channels, self.groups
        self._y, self._dx = Buffer(), Buffer()
        self._start(rng)

    def _channels(self, name: str, value: int) -> int:
        channels = _check.integer("Conv2d", name, value, low=1)
        if channels % self.groups:
            raise ValueError(f"Conv2d: {name} must be a multiple of groups, {self.groups}, got {channels}")
        return channels

    def forward(self, x: Array, training: bool = False) -> Array:
        """The sums of all windows for `x` of shape (samples, in, rows, columns); keeps `x` itself for `backward`."""
        require_same_kind("Conv2d", "input", x, self._weight)
        if x.dtype != self.dtype:
            raise TypeError(f"Conv2d: input must be {self.dtype} as the parameters, got {x.dtype}")
        check_planes("Conv2d", x, self.in_channels)
        self._x, (self._shape, self._y_shape) = x, self.windows.of(x, self.out_channels)
        y = self._y.get(self._y_shape, self.dtype, x)
        core_of(x).convolve("Conv2d", y, (x, self._weight, self._bias), self._shape, self._counts)
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Write dweight and dbias; return dx: for each element the weights by which it counts, times dy."""
        check_gradient("Conv2d", dy, self._y_shape, self.dtype, self._weight)
        dx = self._dx.get(self._x.shape, self.dtype, dy) if input_grad else None
        written, read = (dx, self._dweight, self._dbias), (self._x, self._weight, dy)
        core_of(dy).convolve_backward("Conv2d", written, read, self._shape, self._counts)
        return dx

    def flops(self, x: tuple[int, ...], y: tuple[int, ...]) -> int:
        """2·(in / groups)·taps for each output."""
        return 2 * self.in_channels // self.groups * math.prod(self.windows.kernel) * math.prod(y)
