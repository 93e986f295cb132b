"""What every loss is: a mean over a batch, its gradient, and what the mean divides by."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from stepsmith._backend import namespace, require_array, require_same_kind
from stepsmith._outputs import compute_dtype
from stepsmith.nn._moves import Movable
from stepsmith.nn.buffer import Array

__all__ = [
    "Elementwise",
    "Loss",
    "mean_of",
    "quotient",
    "require_float",
    "require_samples",
    "scale_rows",
    "weight_sum",
    "weighted_sum",
]

_FLOATS = np.dtype(np.float32), np.dtype(np.float64)


class Loss(Movable, ABC):
    """A loss with buffers of its own; what it returns holds until its next call.

    With `sample_weight` w, of shape (samples,), of the compute type or float64 and at least 0, the mean is
    Σ w·loss / Σ w. Where the divisor is 0 the mean is NaN and the gradient 0. The mean of a batch is the mean of its
    parts weighted by their divisors.

    Output, target and weights are all of NumPy or all of CuPy. The mean is a Python number, so on a GPU each call waits
    until it is computed.
    """

    name: ClassVar[str] = "loss"
    targets: int = 1
    """Arrays of a batch that are its target: one as it is, several as a tuple."""

    def parts(self, owner: str, batch: Sequence[Any]) -> tuple[Any, Any, tuple[Any, ...]]:
        """Inputs and target of a batch, and what may follow them: the sample weights.

        Example:
            >>> ss.nn.CrossEntropy().parts("batch", ("x", "y")), ss.nn.Distillation().parts("batch", "xytw")
            (('x', 'y', ()), ('x', ('y', 't'), ('w',)))
        """
        stop = 1 + self.targets
        if len(batch) not in (stop, stop + 1):
            targets = "targets" if self.targets == 1 else f"{self.targets} targets"
            rule = f"must be (inputs, {targets}) or (inputs, {targets}, sample_weight)"
            raise ValueError(f"{owner} {rule}, got {len(batch)} arrays")
        return batch[0], batch[1] if self.targets == 1 else tuple(batch[1:stop]), tuple(batch[stop:])

    def to(self, device: str) -> Self:
        """Move what the loss keeps, such as weights of classes, to a device; as `nn.Module.to`."""
        self._move(device)
        return self

    @abstractmethod
    def check(self, output: Array, target: Any) -> None:
        """Raise `TypeError` or `ValueError` unless `target`, of any length, suits rows like those of `output`."""

    @abstractmethod
    def __call__(self, output: Array, target: Any, sample_weight: Array | None = None) -> tuple[float, Array]:
        """Mean loss over the batch, and its gradient with the shape and dtype of `output`."""

    def measured(self, output: Array, target: Any, sample_weight: Array | None = None) -> tuple[float, float, Array]:
        """Mean loss, what it divides its sum by, and its gradient."""
        mean, grad = self(output, target, sample_weight)
        return mean, self.divisor(output, target, sample_weight), grad

    def divisor(self, output: Array, target: Any, sample_weight: Array | None = None) -> float:
        """What the mean divides its sum by: the number of samples, or the sum of their weights.

        Only the shape and dtype of `output` are read.
        """
        return float(output.shape[0] if sample_weight is None else weight_sum(self.name, output, sample_weight))

    def sums(self, output: Array, target: Any, sample_weight: Array | None = None) -> dict[str, tuple[float, float]]:
        """What an evaluation reports, by name, as (sum, count): the sums and counts of batches add up."""
        divisor = self.divisor(output, target, sample_weight)
        mean, _ = self(output, target, sample_weight)
        return {"loss": mean_of(mean, divisor)}


def mean_of(mean: float, divisor: float) -> tuple[float, float]:
    """A mean as a sum and its count."""
    return (mean * divisor if divisor else 0.0), divisor


def quotient(total: float, divisor: float) -> float:
    """The mean, which is no number where nothing counts."""
    return total / divisor if divisor else math.nan


def require_float(owner: str, output: Array) -> None:
    """Raise unless the dtype is one that NumPy computes with."""
    if output.dtype not in _FLOATS:
        raise TypeError(f"{owner}: output must be float32 or float64, got {output.dtype}")


def require_samples(owner: str, output: Array, target: Array, fits: bool) -> None:
    """Raise unless the shapes fit and there is something to take the mean of."""
    if not fits:
        raise ValueError(f"{owner}: output and target must have as many samples, got {output.shape} and {target.shape}")
    if output.size == 0:
        raise ValueError(f"{owner}: the batch must not be empty, got shape {output.shape}")


def weight_sum(owner: str, output: Array, sample_weight: object) -> float:
    """The sum of the weights, which must suit the output's samples."""
    w, compute = require_array(owner, "sample_weight", sample_weight), compute_dtype(output)
    require_same_kind(owner, "sample_weight", w, output, "the output")
    if w.dtype not in (compute, np.float64):
        kinds = " or ".join(dict.fromkeys([str(compute), "float64"]))
        raise TypeError(f"{owner}: sample_weight must have dtype {kinds}, got {w.dtype}")
    if w.shape != output.shape[:1]:
        raise ValueError(f"{owner}: sample_weight must have shape {output.shape[:1]}, got {w.shape}")
    with np.errstate(over="ignore"):
        total = float(namespace(w).add.reduce(w, dtype=np.float64))
    if not ((w.min() >= 0 if w.size else True) and total < math.inf):
        wrong = int(((w >= 0) & (w < math.inf)).argmin())
        raise ValueError(f"{owner}: sample_weight must be finite and at least 0, got {w[wrong]} at index {wrong}")
    return total


def weighted_sum(values: Array, sample_weight: Array | None) -> float:
    """Sum of values of shape (samples, ...) in float64, each times its sample's weight."""
    xp = namespace(values)
    if values.dtype == bool and sample_weight is None:
        return float(xp.count_nonzero(values))
    if sample_weight is None:
        return float(xp.add.reduce(values, axis=None, dtype=np.float64))
    of_samples = xp.add.reduce(values, axis=tuple(range(1, values.ndim)), dtype=np.float64)
    # A weight of 0 times an infinite loss is no number, silently.
    with np.errstate(invalid="ignore", over="ignore"):
        return float(xp.dot(of_samples, sample_weight))


def scale_rows(grad: Array, sample_weight: Array | None, divisor: float) -> None:
    """Gradients of samples' losses times weight over divisor, in place; all 0 where the divisor is."""
    if divisor == 0.0:
        grad[...] = 0.0
        return
    xp = namespace(grad)
    if sample_weight is None:
        xp.multiply(grad, 1.0 / divisor, out=grad)
        return
    factors = (sample_weight / divisor).astype(compute_dtype(grad), copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        xp.multiply(grad, factors.reshape((-1,) + (1,) * (grad.ndim - 1)), out=grad)


class Elementwise(Loss):
    """A loss of each element of output and target, of one shape and one dtype; the mean goes over all elements."""

    def check(self, output: Array, target: Array) -> None:
        """The output's dtype, float32 or float64, and its row shape."""
        require_same_kind(self.name, "target", target, output, "the output")
        require_float(self.name, output)
        if target.dtype != output.dtype:
            raise TypeError(f"{self.name}: target must be {output.dtype} as the output, got {target.dtype}")
        if target.shape[1:] != output.shape[1:] or target.ndim != output.ndim:
            shape = ", ".join(["samples", *map(str, output.shape[1:])])
            raise ValueError(f"{self.name}: target must have shape ({shape}), got {target.shape}")

    def _require(self, output: Array, target: Array) -> None:
        """Raise unless the two suit and there is something to take the mean of; quick where they do."""
        fits = type(target) is type(output) and target.shape == output.shape and output.size > 0
        if not (fits and target.dtype is output.dtype and output.dtype in _FLOATS):
            Elementwise.check(self, output, target)
            require_samples(self.name, output, target, target.shape == output.shape)
