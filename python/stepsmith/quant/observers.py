"""Observers: what batches of numbers say about the scales that quantize them."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith import _check
from stepsmith._backend import device_of, is_on_gpu, moved, namespace
from stepsmith._outputs import require_floats
from stepsmith.quant._numbers import one_of
from stepsmith.quant.affine import Affine

__all__ = ["HistogramMSE", "MinMax", "MovingAverage", "Observer", "Percentile"]

Array = NDArray[Any]

PIECE, GPU_PIECE = 64 * 1024, 4 * 1024 * 1024
"""Numbers that are counted at a time, so that there are no temporaries of a batch's size."""


class Observer(ABC):
    """What every observer is: it sees batches and then says scales and zero points, where the last batch was.

    What it keeps is on the host. A batch on a GPU is reduced there, and waited for.

    Args:
        axis: that has a scale for each index, as the scheme's; None for one scale.
    """

    def __init__(self, axis: int | None = None) -> None:
        self.axis = None if axis is None else _check.integer(self._owner, "axis", axis)
        self.low = self.high = np.zeros(0)
        self.batches = 0
        """Batches that were seen."""
        self.channels: int | None = None
        """Indices of the axis, or None before the first batch and without an axis."""
        self._device = "cpu"

    @property
    def _owner(self) -> str:
        return type(self).__name__

    def update(self, batch: Array) -> None:
        """Look at a batch.

        Args:
            batch: float32, float64, bfloat16 or float16 of any shape; finite, else nothing changes. Without elements it
                counts for nothing.

        Raises:
            TypeError, ValueError: another kind of array, NaN or infinity, another length of the axis than before.
        """
        rows = self._rows(require_floats(self._owner, "batch", batch))
        if rows.size == 0:
            return
        finite = namespace(rows).isfinite(rows)
        if not finite.all():
            raise ValueError(f"{self._owner}: batch must be finite, got {one_of(rows[~finite])}")
        self._see(rows)
        self.batches += 1
        self.channels = None if self.axis is None else len(rows)
        self._device = device_of(rows)

    def _rows(self, batch: Array) -> Array:
        """A row for each scale, float32 or float64."""
        wide = batch if batch.dtype in (np.float32, np.float64) else batch.astype(np.float32)
        if self.axis is None:
            return wide.reshape(1, -1)
        if not -batch.ndim <= self.axis < batch.ndim:
            raise ValueError(f"{self._owner}: batch must have axis {self.axis}, got shape {batch.shape}")
        rows: Array = namespace(wide).moveaxis(wide, self.axis, 0)
        if self.channels not in (None, len(rows)):
            raise ValueError(
                f"{self._owner}: batch must have {self.channels} indices along axis {self.axis}, got {len(rows)}"
            )
        return rows.reshape(len(rows), -1) if rows.size else rows.reshape(len(rows), 0)

    def parameters(self, scheme: Affine) -> tuple[Array, Array]:
        """Scales and zero points for a scheme with the observer's axis.

        Raises:
            TypeError, ValueError: another kind of scheme, groups, an axis only one of them has, or no batch was seen.
        """
        if not isinstance(scheme, Affine):
            raise TypeError(f"{self._owner}: scheme must be an Affine, got {scheme!r}")
        if scheme.group_size is not None or (scheme.axis is None) != (self.axis is None):
            raise ValueError(f"{self._owner}: scheme must have one scale for each of axis {self.axis}, got {scheme!r}")
        if not self.batches:
            raise ValueError(f"{self._owner}: update must come before parameters, got no batch")
        low, high = self._range(scheme)
        scale, point = scheme.steps(low, high) if self.axis is not None else scheme.steps(low[0], high[0])
        return moved(scale, self._device), moved(point, self._device)

    @abstractmethod
    def _see(self, rows: Array) -> None:
        """Take finite numbers, a row for each scale."""

    @abstractmethod
    def _range(self, scheme: Affine) -> tuple[Array, Array]:
        """The smallest and the largest number of each scale."""


def _ends(rows: Array) -> tuple[Array, Array]:
    """The smallest and the largest number of each row, on the host."""
    low, high = (moved(ends, "cpu").astype(np.float64) for ends in (rows.min(axis=1), rows.max(axis=1)))
    return low, high


class MinMax(Observer):
    """The smallest and the largest number of all batches. As PyTorch's ``MinMaxObserver``.

    Args:
        axis: that has a scale for each index; None for one scale.

    Example:
        >>> observer = ss.quant.MinMax()
        >>> observer.update(np.array([-1.0, 3.0]))
        >>> observer.update(np.array([-2.0, 1.0]))
        >>> scale, zero_point = observer.parameters(ss.quant.Affine(symmetric=False))
        >>> float(scale * 255), int(zero_point)
        (5.0, 102)
    """

    def _see(self, rows: Array) -> None:
        low, high = _ends(rows)
        self.low = low if self.batches == 0 else np.minimum(self.low, low)
        self.high = high if self.batches == 0 else np.maximum(self.high, high)

    def _range(self, scheme: Affine) -> tuple[Array, Array]:
        return self.low, self.high


class MovingAverage(MinMax):
    """Moving averages of each batch's smallest and largest number. As PyTorch's ``MovingAverageMinMaxObserver``.

    low += momentum · (min - low), and high likewise; they begin with the first batch's.

    Args:
        momentum: weight of a batch, in (0, 1].
        axis: that has a scale for each index; None for one scale.

    Example:
        >>> observer = ss.quant.MovingAverage(0.5)
        >>> for most in (1.0, 3.0):
        ...     observer.update(np.array([0.0, most]))
        >>> float(observer.high[0])
        2.0
    """

    def __init__(self, momentum: float = 0.01, axis: int | None = None) -> None:
        super().__init__(axis)
        self.momentum = _check.number(self._owner, "momentum", momentum, low=0.0, high=1.0, open_low=True)

    def _see(self, rows: Array) -> None:
        low, high = _ends(rows)
        self.low = low if self.batches == 0 else self.low + self.momentum * (low - self.low)
        self.high = high if self.batches == 0 else self.high + self.momentum * (high - self.high)


class _Histogram(Observer):
    """Counts of numbers in bins of one width around 0; each bin holds two of the last width once they no longer reach.

    Bins are [k·width, (k + 1)·width) for k from -bins/2 to bins/2 - 1, the width a power of two. Widening adds pairs of
    bins, so that counts never depend on the order of batches, and memory never on their number.

    Attributes:
        counts: (scales, bins), int64.
        width: of the bins of each scale; 0 as long as nothing but zeros was seen.
    """

    def __init__(self, bins: int = 2048, axis: int | None = None) -> None:
        super().__init__(axis)
        self.bins = _check.integer(self._owner, "bins", bins, low=16)
        if self.bins % 4:
            raise ValueError(f"{self._owner}: bins must be a multiple of 4, got {self.bins}")

    def _see(self, rows: Array) -> None:
        low, high = _ends(rows)
        if self.batches == 0:
            self.counts = np.zeros((len(rows), self.bins), np.int64)
            self.width = np.zeros(len(rows))
            self.low, self.high = low, high
        for k, row in enumerate(rows):
            self._reach(k, low[k], high[k])
            self._count(k, row)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    def _reach(self, k: int, low: float, high: float) -> None:
        """Makes bins so wide that these numbers lie in them."""
        half, most = self.bins // 2, max(-low, high)
        if most > 0.0 and self.width[k] == 0.0:
            # The zeros that were seen lie in the middle bin whatever the width.
            self.width[k] = 2.0 ** (np.floor(np.log2(most)) - np.floor(np.log2(half)) - 1)
        while self.width[k] and not (-half * self.width[k] <= low and high < half * self.width[k]):
            self._widen(k)

    def _widen(self, k: int) -> None:
        """Pairs of bins become one, about 0."""
        pairs, quarter = self.counts[k].reshape(-1, 2).sum(axis=1), self.bins // 4
        self.counts[k] = 0
        self.counts[k, quarter : quarter + pairs.size] = pairs
        self.width[k] *= 2.0

    def _count(self, k: int, row: Array) -> None:
        """Pieces of a row at a time: no temporaries of its size."""
        own, piece = namespace(row), GPU_PIECE if is_on_gpu(row) else PIECE
        for at in range(0, row.size, piece):
            part = row[at : at + piece].astype(np.float64)
            places = own.floor(part / (self.width[k] or 1.0)).astype(np.int64) + self.bins // 2
            self.counts[k] += moved(own.bincount(places, minlength=self.bins), "cpu")

    def edges(self) -> Array:
        """Where the bins of each scale begin, and where the last one ends: (scales, bins + 1)."""
        edges: Array = np.arange(-self.bins // 2, self.bins // 2 + 1) * self.width[:, None]
        return edges


class Percentile(_Histogram):
    """The range without the farthest numbers: those of magnitude, or on each side where codes are asymmetric.

    A share q of the numbers is inside, as far as a histogram of bounded memory can tell: the bound is that of the bin
    which the q-th number falls in, cut at the farthest number.

    Args:
        q: percent of the numbers, in (50, 100].
        bins: of the histogram.
        axis: that has a scale for each index; None for one scale.

    Example:
        >>> observer = ss.quant.Percentile(99.0)
        >>> observer.update(np.append(np.linspace(-1, 1, 999), 50.0))
        >>> scale, _ = observer.parameters(ss.quant.Affine())
        >>> bool(0.98 < scale * 127 < 1.1)
        True
    """

    def __init__(self, q: float = 99.99, bins: int = 2048, axis: int | None = None) -> None:
        super().__init__(bins, axis)
        self.q = _check.number(self._owner, "q", q, low=50.0, high=100.0, open_low=True)

    def _range(self, scheme: Affine) -> tuple[Array, Array]:
        half, share = self.bins // 2, self.q / 100.0
        if scheme.symmetric:
            folded = self.counts[:, half:] + self.counts[:, half - 1 :: -1]
            bound = self._bound(folded, share)
            most = np.minimum(bound, np.maximum(-self.low, self.high))
            return -most, most
        high = np.minimum(self._bound(self.counts, share) - half * self.width, self.high)
        low = np.maximum(half * self.width - self._bound(self.counts[:, ::-1], share), self.low)
        return low, high

    def _bound(self, counts: Array, share: float) -> Array:
        """The end of the bin, from the first one on, that completes the share."""
        totals = np.cumsum(counts, axis=1)
        wanted = np.ceil(share * totals[:, -1:])
        result: Array = ((totals < wanted).sum(axis=1) + 1) * self.width
        return result


class HistogramMSE(_Histogram):
    """The range whose codes have the least mean square error over a histogram.

    Ranges from the whole one down to a hundredth are tried, each bin standing for its middle. Zeros, whose code is
    exact, count for nothing.

    Args:
        bins: of the histogram.
        axis: that has a scale for each index; None for one scale.
        candidates: ranges that are tried.

    Example:
        >>> observer = ss.quant.HistogramMSE()
        >>> observer.update(np.random.default_rng(0).standard_normal(10_000))
        >>> scale, _ = observer.parameters(ss.quant.Affine(bits=4))
        >>> bool(0.3 < scale < 0.45)
        True
    """

    def __init__(self, bins: int = 2048, axis: int | None = None, candidates: int = 100) -> None:
        super().__init__(bins, axis)
        self.candidates = _check.integer(self._owner, "candidates", candidates, low=1)

    def _range(self, scheme: Affine) -> tuple[Array, Array]:
        middles = self.edges()[:, :-1] + self.width[:, None] / 2
        best, low, high = np.full(len(self.low), np.inf), self.low.copy(), self.high.copy()
        for k in range(self.candidates, 0, -1):
            share = k / self.candidates
            scale, point = scheme.steps(self.low * share, self.high * share)
            errors = self._errors(middles, scale, point, scheme)
            better = errors < best
            best[better], low[better], high[better] = (
                errors[better],
                self.low[better] * share,
                self.high[better] * share,
            )
        return low, high

    def _errors(self, middles: Array, scale: Array, point: Array, scheme: Affine) -> Array:
        """The sum of squares of what codes are away, for each scale."""
        steps, points = scale.astype(np.float64)[:, None], point.astype(np.float64)[:, None]
        codes = np.clip(np.round(middles / steps) + points, scheme.qmin, scheme.qmax)
        result: Array = (self.counts * ((codes - points) * steps - middles) ** 2).sum(axis=1)
        return result
