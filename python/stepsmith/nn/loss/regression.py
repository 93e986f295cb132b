"""Losses of the difference between output and target."""

from __future__ import annotations

import math

import numpy as np

from stepsmith import _check
from stepsmith._backend import core_of, is_on_gpu, namespace
from stepsmith.nn.buffer import Array, Buffer
from stepsmith.nn.loss.base import Elementwise, weight_sum

__all__ = ["Huber", "MeanAbsoluteError", "MeanSquaredError", "SmoothL1", "mse"]


_BLOCK = 32768
"""Products that are summed in the arrays' own type."""


class _Difference(Elementwise):
    """A function of d = output - target with the slope `gain`·c(d)."""

    gain = 1.0

    def __init__(self) -> None:
        super().__init__()
        self._difference, self._slopes = Buffer(), Buffer()
        self._weights, self._weighted = Buffer(), Buffer()

    def __call__(self, output: Array, target: Array, sample_weight: Array | None = None) -> tuple[float, Array]:
        """Mean over all elements and its gradient."""
        self._require(output, target)
        d = self._difference.get(output.shape, output.dtype, output)
        namespace(output).subtract(output, target, out=d)
        slopes = self._slope(d)
        if sample_weight is None:
            return self._mean(slopes, slopes, d, output.size)
        # A weight of 0 times an infinite loss is no number, silently.
        with np.errstate(invalid="ignore", over="ignore"):
            weighted, divisor = self._weigh(slopes, sample_weight)
            return self._mean(weighted, slopes, d, divisor)

    def _mean(self, weighted: Array, slopes: Array, d: Array, divisor: float) -> tuple[float, Array]:
        if divisor == 0.0:
            weighted.fill(0.0)
            return math.nan, weighted
        total = self._total(weighted, slopes, d)
        namespace(weighted).multiply(weighted, self.gain / divisor, out=weighted)
        return total / divisor, weighted

    def _weigh(self, slopes: Array, sample_weight: Array) -> tuple[Array, float]:
        """The slopes times their samples' parts of the weights, and the divisor for sums of them over elements."""
        total, xp = weight_sum(self.name, slopes, sample_weight), namespace(slopes)
        w = self._weights.get((len(slopes),) + (1,) * (slopes.ndim - 1), slopes.dtype, slopes)
        # Weights of float64 may be too large or too small for the slopes' type; parts of their sum are not.
        xp.divide(sample_weight, total or 1.0, out=w.reshape(-1), dtype=np.float64, casting="same_kind")
        weighted = self._weighted.get(slopes.shape, slopes.dtype, slopes)
        xp.multiply(slopes, w, out=weighted)
        return weighted, slopes.size / len(slopes) if total else 0.0

    def _slope(self, d: Array) -> Array:
        """c(d)."""
        return d

    def _sign(self, d: Array) -> Array:
        slopes = self._slopes.get(d.shape, d.dtype, d)
        namespace(d).sign(d, out=slopes)
        return slopes

    def _total(self, weighted: Array, slopes: Array, d: Array) -> float:
        """Sum of the losses, of which each is its slope times a number."""
        return _dot(weighted, d)


class MeanSquaredError(_Difference):
    """Mean over all elements of d², d = output - target; its gradient is 2d / size. As ``torch.nn.MSELoss``.

    Example:
        >>> MeanSquaredError()(np.array([[1.0, 3.0]]), np.array([[0.0, 0.0]]))
        (5.0, array([[1., 3.]]))
    """

    name = "mse"
    gain = 2.0


class MeanAbsoluteError(_Difference):
    """Mean over all elements of abs(d), d = output - target; its gradient is sign(d) / size. As ``torch.nn.L1Loss``.

    Example:
        >>> MeanAbsoluteError()(np.array([[1.0, -3.0]]), np.array([[0.0, 0.0]]))
        (2.0, array([[ 0.5, -0.5]]))
    """

    name = "l1"

    def _slope(self, d: Array) -> Array:
        return self._sign(d)


class Huber(_Difference):
    """Mean of d²/2 where abs(d) ≤ delta, else delta·(abs(d) - delta/2), d = output - target. As ``torch.nn.HuberLoss``.

    The gradient is d between -delta and delta, over size; Huber 1964.

    Args:
        delta: Where squares end, above 0.

    Raises:
        ValueError: A delta that is not above 0.

    Example:
        >>> Huber()(np.array([[0.5, -3.0]]), np.array([[0.0, 0.0]]))
        (1.3125, array([[ 0.25, -0.5 ]]))
    """

    name = "huber"

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        self.delta = _check.number("Huber", "delta", delta, low=0.0, open_low=True)

    def _slope(self, d: Array) -> Array:
        slopes = self._slopes.get(d.shape, d.dtype, d)
        namespace(d).clip(d, -self.delta, self.delta, out=slopes)
        return slopes

    def _total(self, weighted: Array, slopes: Array, d: Array) -> float:
        return _dot(weighted, d) - 0.5 * _dot(weighted, slopes)


class SmoothL1(Huber):
    """Mean of d²/(2·beta) where abs(d) < beta, else abs(d) - beta/2, d = output - target. As ``torch.nn.SmoothL1Loss``.

    It is the `Huber` loss over beta, and the mean absolute error at beta 0.

    Args:
        beta: Where squares end, at least 0.

    Raises:
        ValueError: A negative beta.

    Example:
        >>> SmoothL1(beta=2.0)(np.array([[1.0, -3.0]]), np.array([[0.0, 0.0]]))
        (1.125, array([[ 0.25, -0.5 ]]))
    """

    name = "smooth_l1"

    def __init__(self, beta: float = 1.0) -> None:
        beta = _check.number("SmoothL1", "beta", beta, low=0.0)
        super().__init__(beta or 1.0)
        self.beta, self.gain = beta, 1.0 / self.delta

    def _slope(self, d: Array) -> Array:
        if self.beta == 0.0:
            return self._sign(d)
        return super()._slope(d)

    def _total(self, weighted: Array, slopes: Array, d: Array) -> float:
        if self.beta == 0.0:
            return _dot(weighted, d)
        return super()._total(weighted, slopes, d) * self.gain


def _dot(a: Array, b: Array) -> float:
    """The sum of products of arrays in C order, each block of them added in float64: one float32 sum loses digits."""
    if is_on_gpu(a):
        return float(core_of(a).dot("loss", ["output"], [a], [b]))
    if a.size <= _BLOCK:
        return float(np.vdot(a, b))
    a, b = a.reshape(-1), b.reshape(-1)
    return sum(float(np.vdot(a[i : i + _BLOCK], b[i : i + _BLOCK])) for i in range(0, a.size, _BLOCK))


def mse(output: Array, target: Array) -> tuple[float, Array]:
    """Mean squared error over all elements, and its gradient in a fresh array; see `MeanSquaredError`.

    Args:
        output: Any shape with at least one element, float32 or float64.
        target: Same shape and dtype.

    Raises:
        TypeError: Another dtype.
        ValueError: Another shape, or an empty batch.

    Example:
        >>> mse(np.array([[1.0, 3.0]]), np.array([[0.0, 0.0]]))
        (5.0, array([[1., 3.]]))
    """
    return MeanSquaredError()(output, target)
