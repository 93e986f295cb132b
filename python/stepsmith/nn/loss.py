"""Losses: the mean over a batch, and the gradient of that mean for the model's output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from stepsmith.nn.buffer import Array, Buffer

__all__ = ["LOSSES", "CrossEntropy", "Loss", "MeanSquaredError", "cross_entropy", "mse"]


class Loss(ABC):
    """A loss with buffers of its own; what it returns holds until its next call."""

    @abstractmethod
    def check(self, output: Array, target: Array) -> None:
        """Raise `TypeError` or `ValueError` unless `target`, of any length, suits rows like those of `output`."""

    @abstractmethod
    def __call__(self, output: Array, target: Array) -> tuple[float, Array]:
        """Mean loss over the batch, and its gradient with the shape and dtype of `output`."""

    def sums(self, output: Array, target: Array) -> dict[str, float]:
        """Sums over the samples of what an evaluation reports; dividing by their number is the caller's part."""
        return {"loss": self(output, target)[0] * len(output)}


class CrossEntropy(Loss):
    """Softmax cross entropy: the mean over the samples of log Σ e^z - z[label]; dz = (softmax(z) - onehot) / n.

    Each row is shifted by its maximum first, so nothing overflows. As ``torch.nn.CrossEntropyLoss``.
    """

    def __init__(self) -> None:
        self._dz, self._maximum, self._sum, self._log = Buffer(), Buffer(), Buffer(), Buffer()
        self._flat, self._offsets, self._classes = Buffer(), np.empty(0, np.intp), 0

    def check(self, output: Array, target: Array) -> None:
        """Integer labels of shape (samples,), each in [0, classes)."""
        if output.ndim != 2:
            raise ValueError(f"cross_entropy: logits must have shape (samples, classes), got {output.shape}")
        if target.dtype.kind not in "iu":
            raise TypeError(f"cross_entropy: labels must be integers, got {target.dtype}")
        if target.ndim != 1:
            raise ValueError(f"cross_entropy: labels must have shape (samples,), got {target.shape}")
        _check_labels(target, output.shape[1])

    def __call__(self, output: Array, target: Array) -> tuple[float, Array]:
        """Mean over the batch and softmax minus one-hot, divided by the batch's size."""
        self.check(output, target)
        n = _samples("cross_entropy", output, target, len(target) == len(output))
        position = self._positions(output, target)
        dz = self._shifted(output)
        picked = dz.take(position)
        np.exp(dz, out=dz)
        total = np.add.reduce(dz, axis=1, keepdims=True, out=self._sum.get((n, 1), dz.dtype))
        log_total = np.log(total, out=self._log.get((n, 1), dz.dtype))
        loss = (np.add.reduce(log_total, axis=None, dtype=np.float64) - np.add.reduce(picked, dtype=np.float64)) / n
        np.multiply(total, n, out=total)
        np.divide(dz, total, out=dz)
        dz.reshape(-1)[position] -= dz.dtype.type(1.0 / n)
        return float(loss), dz

    def sums(self, output: Array, target: Array) -> dict[str, float]:
        """Adds `accuracy`: how many rows have their largest logit, the first of equals, at the label."""
        correct = np.count_nonzero(output.argmax(axis=1) == target)
        return {**super().sums(output, target), "accuracy": float(correct)}

    def _positions(self, output: Array, target: Array) -> Array:
        """Index of each sample's own class in the flattened logits."""
        if len(self._offsets) != len(output) or self._classes != output.shape[1]:
            self._classes = output.shape[1]
            self._offsets = np.arange(len(output), dtype=np.intp) * self._classes
        return np.add(self._offsets, target, out=self._flat.get(target.shape, self._offsets.dtype), casting="unsafe")

    def _shifted(self, output: Array) -> Array:
        maximum = self._maximum.get((len(output), 1), output.dtype)
        np.maximum.reduce(output, axis=1, keepdims=True, out=maximum)
        return np.subtract(output, maximum, out=self._dz.get(output.shape, output.dtype))


class MeanSquaredError(Loss):
    """Mean over all elements of (output - target)²; its gradient is 2(output - target) / size. As ``MSELoss``."""

    def __init__(self) -> None:
        self._difference = Buffer()

    def check(self, output: Array, target: Array) -> None:
        """The output's dtype and row shape."""
        if target.dtype != output.dtype:
            raise TypeError(f"mse: target must be {output.dtype} as the output, got {target.dtype}")
        if target.shape[1:] != output.shape[1:]:
            shape = ", ".join(["samples", *map(str, output.shape[1:])])
            raise ValueError(f"mse: target must have shape ({shape}), got {target.shape}")

    def __call__(self, output: Array, target: Array) -> tuple[float, Array]:
        """Mean over all elements and its gradient."""
        self.check(output, target)
        _samples("mse", output, target, target.shape == output.shape)
        difference = np.subtract(output, target, out=self._difference.get(output.shape, output.dtype))
        flat = difference.reshape(-1)
        loss = float(np.dot(flat, flat)) / flat.size
        np.multiply(difference, 2.0 / flat.size, out=difference)
        return loss, difference


def _samples(name: str, output: Array, target: Array, fits: bool) -> int:
    if not fits:
        raise ValueError(f"{name}: output and target must have as many samples, got {output.shape} and {target.shape}")
    if output.size == 0:
        raise ValueError(f"{name}: the batch must not be empty, got shape {output.shape}")
    return len(output)


def _check_labels(labels: Array, classes: int) -> None:
    """One pass finds labels on both sides: read as unsigned, a negative one is huge."""
    unsigned: np.dtype[Any] = np.dtype(f"{labels.dtype.byteorder}u{labels.dtype.itemsize}")
    if labels.size and np.maximum.reduce(labels.view(unsigned)) >= classes:
        wrong = labels[(labels < 0) | (labels >= classes)][0]
        raise ValueError(f"cross_entropy: labels must be in [0, {classes}), got {wrong}")


def cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """Softmax cross entropy, mean over the batch, and its gradient in a fresh array; see `CrossEntropy`.

    Args:
        logits: (samples, classes), float32 or float64.
        labels: (samples,), any integer dtype, in [0, classes).

    Raises:
        TypeError: Labels that are not integers.
        ValueError: Shapes that do not fit, an empty batch, or a label out of range.

    Example:
        >>> loss, grad = cross_entropy(np.zeros((1, 2)), np.array([0]))
        >>> round(loss, 6), grad
        (0.693147, array([[-0.5,  0.5]]))
    """
    return CrossEntropy()(logits, labels)


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


LOSSES: dict[str, type[Loss]] = {"cross_entropy": CrossEntropy, "mse": MeanSquaredError}
