"""The NumPy oracle of rust/softmax: what each function must equal bit for bit, row by row."""

from typing import Any

import numpy as np

from reference_math import exp, log
from reference_norm import segments
from reference_storage import Array, compute_type, encode, wide

quiet = np.errstate(all="ignore")


def totals(x: Array) -> tuple[Any, Array, float]:
    """m, e and s of a row in the compute type."""
    m = np.max(x)
    e = exp(x - m)
    return m, e, segments(e)


def log_of(s: float) -> np.float64:
    return np.float64(log(np.array([s]))[0])


def rows_of(x: Array) -> Array:
    return wide(x).reshape(x.shape).astype(compute_type(x.dtype))


@quiet
def softmax(x: Array) -> Array:
    rows, compute = rows_of(x), compute_type(x.dtype)
    y = np.empty_like(rows)
    for i, row in enumerate(rows):
        _, e, s = totals(row)
        y[i] = e * compute(1.0 / np.float64(s))
    return encode(y, x.dtype)


@quiet
def log_softmax(x: Array) -> Array:
    rows, compute = rows_of(x), compute_type(x.dtype)
    y = np.empty_like(rows)
    for i, row in enumerate(rows):
        m, _, s = totals(row)
        y[i] = (row - m) - compute(log_of(s))
    return encode(y, x.dtype)


@quiet
def softmax_backward(dy: Array, y: Array) -> Array:
    compute, dx = compute_type(y.dtype), np.empty(y.shape, compute_type(y.dtype))
    for i, (g, p) in enumerate(zip(rows_of(dy), rows_of(y), strict=True)):
        total = segments(g.astype(np.float64) * p.astype(np.float64))
        dx[i] = p * (g - compute(total))
    return encode(dx, y.dtype)


@quiet
def log_softmax_backward(dy: Array, y: Array) -> Array:
    compute, dx = compute_type(y.dtype), np.empty(y.shape, compute_type(y.dtype))
    for i, (g, p) in enumerate(zip(rows_of(dy), rows_of(y), strict=True)):
        dx[i] = g - exp(p) * compute(segments(g))
    return encode(dx, y.dtype)


class CrossEntropy:
    """Of (rows, classes): losses of the rows in float64, their mean or sum, and the gradient."""

    def __init__(
        self, weight: Array | None = None, smoothing: float = 0.0, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        self.weight, self.ignore_index, self.reduction, self.smoothing = weight, ignore_index, reduction, smoothing
        self.keep = 1.0 - smoothing

    @quiet
    def __call__(self, x: Array, target: Array) -> tuple[float, Array, Array]:
        rows, compute, self.base = rows_of(x), compute_type(x.dtype), self.smoothing / x.shape[1]
        self.w = np.ones(x.shape[1]) if self.weight is None else self.weight.astype(np.float64)
        divisor = np.float64(self.divisor(target))
        self.scale = 1.0 / divisor
        losses, dx = np.zeros(len(x)), np.empty_like(rows)
        for i, row in enumerate(rows):
            m, e, s = totals(row)
            surprise = log_of(s) - (row.astype(np.float64) - np.float64(m))
            of_row = self.labelled if target.ndim == 1 else self.expected
            losses[i], gain, less = of_row(surprise, target[i], compute)
            dx[i] = e * compute(gain / np.float64(s))
            for part in less:
                dx[i] = dx[i] - part
        total = np.nan if divisor == 0 else segments(losses) / divisor
        return float(total), losses, encode(dx, x.dtype)

    def divisor(self, target: Array) -> float:
        if self.reduction != "mean":
            return 1.0
        if target.ndim > 1:
            return float(len(target))
        return segments(np.array([0.0 if y == self.ignore_index else self.w[y] for y in target]))

    def labelled(self, surprise: Array, label: Any, compute: Any) -> tuple[float, float, list[Array]]:
        """The row's loss, scale·W, and what is taken off the scaled exponentials, one after another."""
        if label == self.ignore_index:
            return 0.0, 0.0, []
        own = self.keep * self.w[label]
        loss, weight, less = own * surprise[label], own, []
        if self.base > 0:
            of_all = surprise if self.weight is None else self.w * surprise
            loss = loss + self.base * segments(of_all)
            weight = weight + self.base * segments(self.w)
            less.append((self.scale * (self.base * self.w)).astype(compute))
        at_label = np.zeros(len(surprise), compute)
        at_label[label] = compute(self.scale * own)
        return loss, self.scale * weight, [*less, at_label]

    def expected(self, surprise: Array, q: Array, compute: Any) -> tuple[float, float, list[Array]]:
        """The same for probabilities."""
        smooth = (q.astype(np.float64) * self.keep + self.base) * self.w
        loss, weight = segments(smooth * surprise), segments(smooth)
        less = q * compute(self.keep) + compute(self.base)
        less = less if self.weight is None else less * self.weight
        return loss, self.scale * weight, [less * compute(self.scale)]
