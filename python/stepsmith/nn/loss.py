"""Losses: the mean over a batch, and the gradient of that mean for the model's output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from stepsmith import _check, _core
from stepsmith._backend import require_array
from stepsmith._outputs import apart, check_weight, compute_dtype, output
from stepsmith.nn._targets import check_labels, check_target, classes
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
    """Softmax cross entropy, mean over what counts; see `cross_entropy`. As ``torch.nn.CrossEntropyLoss``.

    Outputs have shape (samples, classes) or (samples, classes, ...).

    Args:
        weight: A factor for each class, of the compute type.
        label_smoothing: Part of each target that all classes share, in [0, 1].
        ignore_index: Label of what does not count.

    Raises:
        TypeError: Another kind of array or number.
        ValueError: A smoothing outside [0, 1].

    Example:
        >>> loss, grad = CrossEntropy(label_smoothing=0.5)(np.zeros((1, 2)), np.array([0]))
        >>> round(loss, 6), grad
        (0.693147, array([[-0.25,  0.25]]))
    """

    def __init__(self, weight: Array | None = None, label_smoothing: float = 0.0, ignore_index: int = -100) -> None:
        self.weight = None if weight is None else require_array("CrossEntropy", "weight", weight)
        self.label_smoothing = _check.number("CrossEntropy", "label_smoothing", label_smoothing, low=0.0, high=1.0)
        self.ignore_index = _index("CrossEntropy", ignore_index)
        self._dz, self._losses = Buffer(), Buffer()

    def check(self, output: Array, target: Array) -> None:
        """Labels of shape (samples, ...), each in [0, classes) or `ignore_index`, or probabilities like the output."""
        if output.ndim < 2:
            raise ValueError(f"cross_entropy: logits must have shape (samples, classes), got {output.shape}")
        if check_target("cross_entropy", output, target, 1):
            check_labels("cross_entropy", target, output.shape[1], self.ignore_index)

    def __call__(self, output: Array, target: Array) -> tuple[float, Array]:
        """Mean over the batch and its gradient."""
        dz = self._dz.get(output.shape, output.dtype)
        return self._mean(output, target, dz), dz

    def sums(self, output: Array, target: Array) -> dict[str, float]:
        """Adds `accuracy`: how many rows have their largest logit, the first of equals, at the label.

        What is ignored does not count; labels with more axes count as parts of their samples, and probabilities stand
        for the label of the largest.
        """
        loss = self._mean(output, target, None)
        best, is_label = output.argmax(axis=1), target.dtype.kind in "iu"
        labels = target if is_label else target.argmax(axis=1)
        counts = labels != self.ignore_index if is_label else np.ones(labels.shape, bool)
        counted, correct = int(np.count_nonzero(counts)), int(np.count_nonzero((best == labels) & counts))
        return {"loss": loss * len(output), "accuracy": correct * (len(output) / max(counted, 1))}

    def _mean(self, output: Array, target: Array, dz: Array | None) -> float:
        if output.ndim < 2:
            raise ValueError(f"cross_entropy: logits must have shape (samples, classes), got {output.shape}")
        losses = self._losses.get((output.size // max(output.shape[1], 1),), np.dtype(np.float64))
        settings = _Settings(self.weight, 1, self.label_smoothing, self.ignore_index, "mean")
        return _run(output, target, settings, losses, dz)


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


class _Settings(NamedTuple):
    weight: Array | None
    axis: int
    label_smoothing: float
    ignore_index: int
    reduction: str


def _run(logits: Array, labels: Array, settings: _Settings, losses: Array, out: Array | None) -> float:
    """The loss, with each row's in `losses` and the gradient in `out`."""
    owner, axis = "cross_entropy", settings.axis
    length, is_label = logits.shape[axis], check_target(owner, logits, labels, axis)
    want = logits.shape[:axis] + logits.shape[axis + 1 :] if is_label else logits.shape
    is_mean = settings.reduction == "mean"
    if is_mean or labels.shape != want:
        _samples(owner, logits, labels, labels.shape == want)
    if length == 0:
        raise ValueError(f"{owner}: logits must have at least one class, got shape {logits.shape}")
    if not is_label and settings.ignore_index >= 0:
        rule = "must be negative where labels are probabilities"
        raise ValueError(f"{owner}: ignore_index {rule}, got {settings.ignore_index}")
    weight = check_weight(owner, "weight", settings.weight, (length,), compute_dtype(logits))
    x, probabilities, factors, _ = apart((logits, None if is_label else labels, weight, None), (out,))
    assert x is not None
    known = classes(labels, settings.ignore_index) if is_label else None
    if known is not None and out is not None and np.may_share_memory(known[0], out):
        known = (known[0].copy(), *known[1:])
    read = _last(x, axis), None if probabilities is None else _last(probabilities, axis), factors
    written, shape = None if out is None else _last(out, axis), (len(losses), length)
    return _core.cross_entropy_rows(owner, losses, written, read, known, shape, settings.label_smoothing, is_mean)


def _last(array: Array, axis: int) -> Array:
    return np.moveaxis(array, axis, -1)


def _index(owner: str, ignore_index: object) -> int:
    return _check.integer(owner, "ignore_index", ignore_index, low=-(2**63), high=2**63 - 1)


def cross_entropy(
    logits: Array,
    labels: Array,
    weight: Array | None = None,
    *,
    axis: int = 1,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    reduction: str = "mean",
    grad: bool = True,
    out: Array | None = None,
) -> tuple[Any, Array | None]:
    """Softmax cross entropy of rows over the class axis, and its gradient, in one pass.

    With target q (a label is 1 at its class), q' = q·(1 - ε) + ε / classes and weights w: loss = Σ w·q'·(-log softmax),
    gradient = (softmax·Σ w·q' - w·q') / divisor. Rows with ``ignore_index`` have loss 0 and gradient softmax·0, so 0
    unless they hold NaN or +Inf, or nothing but -Inf. Losses are float64; the same bits at any thread count and level.

    Args:
        logits: a class axis among any others, any layout; float32, float64, bfloat16 or float16.
        labels: logits' shape without the class axis, any integer dtype; or probabilities of logits' shape and compute
            type, which no `ignore_index` may go with but a negative one.
        weight: (classes,), of the compute type.
        axis: the classes'. The last axis is the fastest.
        label_smoothing: ε, in [0, 1].
        ignore_index: label of rows that do not count.
        reduction: "mean" divides by the sum of the labels' weights (of probabilities: by the number of rows; NaN where
            nothing counts), "sum" and "none" do not divide.
        grad: False computes the loss alone.
        out: takes the gradient; may be logits itself.

    Returns:
        The loss, a float, or with "none" an array of labels' shape in the compute type (then each row's gradient is its
        own), and the gradient with the shape and dtype of logits, or None.

    Raises:
        TypeError: Another kind of array, dtype or number.
        ValueError: Shapes that do not fit, a mean over an empty batch, or a label out of range.

    Follows: ``torch.nn.functional.cross_entropy``.

    Example:
        >>> loss, grad = cross_entropy(np.zeros((1, 2)), np.array([0]))
        >>> round(loss, 6), grad
        (0.693147, array([[-0.5,  0.5]]))
    """
    owner = "cross_entropy"
    require_array(owner, "logits", logits)
    require_array(owner, "labels", labels)
    if logits.ndim == 0 or (logits.ndim == 1 and axis == 1):
        raise ValueError(f"{owner}: logits must have shape (samples, classes), got {logits.shape}")
    axis = _check.integer(owner, "axis", axis, low=-logits.ndim, high=logits.ndim - 1) % logits.ndim
    smoothing = _check.number(owner, "label_smoothing", label_smoothing, low=0.0, high=1.0)
    _check.one_of(owner, "reduction", reduction, ["mean", "sum", "none"])
    if out is not None and not _check.boolean(owner, "grad", grad):
        raise ValueError(f"{owner}: out must be None with grad=False, got an array")
    dz = output(owner, "out", out, logits.shape, logits.dtype) if grad else None
    losses = np.empty(logits.size // max(logits.shape[axis], 1))
    settings = _Settings(weight, axis, smoothing, _index(owner, ignore_index), reduction)
    loss = _run(logits, labels, settings, losses, dz)
    if reduction != "none":
        return loss, dz
    return losses.astype(compute_dtype(logits)).reshape(logits.shape[:axis] + logits.shape[axis + 1 :]), dz


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
