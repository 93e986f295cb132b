"""Losses of classes beside the cross entropy of the softmax: each class for itself, and margins."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsmith import _check
from stepsmith._backend import core_of, is_on_gpu, namespace, require_same_kind
from stepsmith._outputs import check_weight
from stepsmith.nn._targets import check_labels, check_target, classes
from stepsmith.nn.buffer import Array, Buffer
from stepsmith.nn.functional.activation import NO_SUMS
from stepsmith.nn.loss.base import (
    Elementwise,
    Loss,
    quotient,
    require_float,
    require_samples,
    scale_rows,
    weighted_sum,
)

__all__ = ["BCEWithLogits", "MultiMargin"]


class BCEWithLogits(Elementwise):
    """Mean over all elements of -p·t·log σ(x) - (1 - t)·log(1 - σ(x)), σ(x) = 1/(1 + e^-x).

    Its gradient is (σ(x)·(1 - t) - p·t·(1 - σ(x))) / size. As ``torch.nn.BCEWithLogitsLoss``; right for any finite x.

    Args:
        pos_weight: p, a number or an array of the output's row shape and dtype, at least 0.

    Raises:
        TypeError: Another kind of array or number.
        ValueError: A negative weight, or, in `check`, targets outside [0, 1].

    Example:
        >>> loss, grad = BCEWithLogits()(np.array([[0.0, 1000.0]]), np.array([[1.0, 1.0]]))
        >>> round(loss, 6), grad
        (0.346574, array([[-0.25,  0.  ]]))
    """

    name = "bce_with_logits"

    def __init__(self, pos_weight: float | Array = 1.0) -> None:
        super().__init__()
        if isinstance(pos_weight, np.ndarray) or is_on_gpu(pos_weight):
            weight: Any = pos_weight
            if not ((weight >= 0) & (weight < np.inf)).all():
                raise ValueError(f"BCEWithLogits: pos_weight must be finite and at least 0, got {weight}")
            self.pos_weight: float | Array = weight
        else:
            self.pos_weight = _check.number("BCEWithLogits", "pos_weight", pos_weight, low=0.0)
        self._losses, self._rest, self._dx = Buffer(), Buffer(), Buffer()
        self._pt, self._k = Buffer(), Buffer()

    def check(self, output: Array, target: Array) -> None:
        """The output's dtype and row shape, between 0 and 1."""
        super().check(output, target)
        if not ((target >= 0) & (target <= 1)).all():
            wrong = target[~((target >= 0) & (target <= 1))][0]
            raise ValueError(f"{self.name}: target must be in [0, 1], got {wrong}")

    def __call__(self, output: Array, target: Array, sample_weight: Array | None = None) -> tuple[float, Array]:
        """Mean over all elements and its gradient."""
        self._require(output, target)
        divisor = self.divisor(output, target, sample_weight)
        losses, dx = self._terms(output, target)
        scale_rows(dx, sample_weight, divisor * (output.size / len(output)))
        return quotient(weighted_sum(losses, sample_weight), divisor * (output.size / len(output))), dx

    def sums(self, output: Array, target: Array, sample_weight: Array | None = None) -> dict[str, tuple[float, float]]:
        """Adds `accuracy`: how many elements have x above 0 and a target above 1/2, or neither."""
        sums = super().sums(output, target, sample_weight)
        correct, counted = (output > 0) == (target > 0.5), sums["loss"][1] * (output.size / len(output))
        return sums | {"accuracy": (weighted_sum(correct, sample_weight), counted)}

    def _terms(self, x: Array, t: Array) -> tuple[Array, Array]:
        """(k·max(x, 0) - p·t·x) + k·log(1 + e^-abs(x)) and k·σ(x) - p·t, with k = 1 - t + p·t."""
        pt, k = self._targets(x, t)
        losses, rest, dx = (buffer.get(x.shape, x.dtype, x) for buffer in (self._losses, self._rest, self._dx))
        xp = namespace(x)
        # An infinite x has no loss or an infinite one, silently.
        with np.errstate(invalid="ignore", over="ignore"):
            xp.multiply(xp.maximum(x, 0.0, out=losses), k, out=losses)
            xp.subtract(losses, xp.multiply(pt, x, out=rest), out=losses)
            xp.negative(xp.abs(x, out=rest), out=rest)
            xp.multiply(xp.log1p(xp.exp(rest, out=rest), out=rest), k, out=rest)
            xp.add(losses, rest, out=losses)
            core_of(x).activate(self.name, "sigmoid", (), dx, (x, None, None), NO_SUMS, (1, 1, x.size))
            xp.subtract(xp.multiply(dx, k, out=dx), pt, out=dx)
        return losses, dx

    def _targets(self, x: Array, t: Array) -> tuple[Array, Array | float]:
        """p·t and k."""
        p, xp = self.pos_weight, namespace(x)
        if not isinstance(p, float):
            require_same_kind("BCEWithLogits", "pos_weight", p, x, "the output")
            check_weight("BCEWithLogits", "pos_weight", p, x.shape[1:], x.dtype)
        elif p == 1.0:
            return t, 1.0
        pt, k = (buffer.get(x.shape, x.dtype, x) for buffer in (self._pt, self._k))
        xp.multiply(t, p, out=pt)
        xp.add(xp.subtract(1.0, t, out=k), pt, out=k)
        return pt, k


class MultiMargin(Loss):
    """Hinge of classes: mean over samples of Σ max(0, margin - x[label] + x[j])^p / classes, over j ≠ label.

    Its gradient is p·max(0, ...)^(p - 1) at j, 0 at the kink, and minus their sum at the label, over samples·classes.
    As ``torch.nn.MultiMarginLoss``; Crammer and Singer 2001.

    Args:
        margin: Δ, any finite number.
        p: 1 or 2.
        divide: False leaves out "/ classes": the max-margin form Σ max(0, x[j] - x[label] + Δ).

    Raises:
        TypeError: Another kind of number.
        ValueError: Another p.

    Example:
        >>> MultiMargin()(np.array([[0.0, 0.5, 3.0]]), np.array([1]))
        (1.3333333333333333, array([[ 0.33333333, -0.66666667,  0.33333333]]))
    """

    name = "multi_margin"

    def __init__(self, margin: float = 1.0, p: int = 1, *, divide: bool = True) -> None:
        self.margin = _check.number("MultiMargin", "margin", margin)
        self.p = _check.integer("MultiMargin", "p", p, low=1, high=2)
        self.divide = _check.boolean("MultiMargin", "divide", divide)
        self._gaps, self._dx = Buffer(), Buffer()

    def check(self, output: Array, target: Array) -> None:
        """Labels of shape (samples,), each in [0, classes), for outputs of shape (samples, classes)."""
        require_float(self.name, output)
        if output.ndim != 2:
            raise ValueError(f"{self.name}: output must have shape (samples, classes), got {output.shape}")
        require_same_kind(self.name, "labels", target, output, "the output")
        if target.dtype.kind not in "iu":
            raise TypeError(f"{self.name}: labels must be integers, got {target.dtype}")
        check_target(self.name, output, target, 1)
        check_labels(self.name, target, output.shape[1], None)

    def __call__(self, output: Array, target: Array, sample_weight: Array | None = None) -> tuple[float, Array]:
        """Mean over samples and classes, and its gradient."""
        self.check(output, target)
        require_samples(self.name, output, target, len(target) == len(output))
        divisor = self.divisor(output, target, sample_weight) * (output.shape[1] if self.divide else 1)
        losses, dx = self._terms(output, classes(target, None)[0])
        scale_rows(dx, sample_weight, divisor)
        return quotient(weighted_sum(losses, sample_weight), divisor), dx

    def sums(self, output: Array, target: Array, sample_weight: Array | None = None) -> dict[str, tuple[float, float]]:
        """Adds `accuracy`: how many samples have their largest output, the first of equals, at the label."""
        sums = super().sums(output, target, sample_weight)
        correct = output.argmax(axis=1) == target
        return sums | {"accuracy": (weighted_sum(correct, sample_weight), sums["loss"][1])}

    def _terms(self, x: Array, labels: Array) -> tuple[Array, Array]:
        """Losses of the elements and the gradient of their sum."""
        gaps, dx, xp = self._gaps.get(x.shape, x.dtype, x), self._dx.get(x.shape, x.dtype, x), namespace(x)
        places = xp.arange(len(x)), labels
        with np.errstate(invalid="ignore", over="ignore"):
            xp.add(xp.subtract(x, x[places][:, None], out=gaps), self.margin, out=gaps)
            xp.maximum(gaps, 0.0, out=gaps)
            gaps[places] = 0.0
            if self.p == 1:
                xp.greater(gaps, 0.0, out=dx)
            else:
                xp.multiply(gaps, 2.0, out=dx)
                xp.multiply(gaps, gaps, out=gaps)
            dx[places] = -xp.add.reduce(dx, axis=1)
        return gaps, dx
