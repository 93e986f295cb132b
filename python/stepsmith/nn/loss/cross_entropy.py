"""Cross entropy of the softmax."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stepsmith import _check
from stepsmith._backend import core_of, namespace, require_array
from stepsmith._outputs import apart, check_weight, compute_dtype, meets, output
from stepsmith.nn._targets import check_labels, check_target, classes
from stepsmith.nn.buffer import Array, Buffer
from stepsmith.nn.loss.base import Loss, mean_of, quotient, require_samples, scale_rows, weight_sum, weighted_sum

__all__ = ["FLOAT64", "CrossEntropy", "Settings", "cross_entropy", "run"]

FLOAT64 = np.dtype(np.float64)


class CrossEntropy(Loss):
    """Softmax cross entropy, mean over what counts; see `cross_entropy`. As ``torch.nn.CrossEntropyLoss``.

    Outputs have shape (samples, classes) or (samples, classes, ...).

    Args:
        weight: A factor for each class, of the compute type.
        label_smoothing: Part of each target that all classes share, in [0, 1].
        ignore_index: Label of what does not count.
        axis: Of the classes: 1, or -1 for outputs of shape (samples, time, classes).

    Raises:
        TypeError: Another kind of array or number.
        ValueError: A smoothing outside [0, 1], or another axis.

    Example:
        >>> loss, grad = CrossEntropy(label_smoothing=0.5)(np.zeros((1, 2)), np.array([0]))
        >>> round(loss, 6), grad
        (0.693147, array([[-0.25,  0.25]]))
    """

    name = "cross_entropy"

    def __init__(
        self,
        weight: Array | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        *,
        axis: int = 1,
    ) -> None:
        self.weight = None if weight is None else require_array("CrossEntropy", "weight", weight)
        self.label_smoothing = _check.number("CrossEntropy", "label_smoothing", label_smoothing, low=0.0, high=1.0)
        self.ignore_index = _index("CrossEntropy", ignore_index)
        if axis not in (1, -1):
            raise ValueError(f"CrossEntropy: axis must be 1 or -1, got {axis!r}")
        self.axis = axis
        self._dz, self._losses = Buffer(), Buffer()

    def check(self, output: Array, target: Array) -> None:
        """Labels of shape (samples, ...), each in [0, classes) or `ignore_index`, or probabilities like the output."""
        axis = self._axis(output)
        if check_target(self.name, output, target, axis):
            check_labels(self.name, target, output.shape[axis], self.ignore_index)

    def __call__(self, output: Array, target: Array, sample_weight: Array | None = None) -> tuple[float, Array]:
        """Mean over the batch and its gradient."""
        mean, _, dz = self.measured(output, target, sample_weight)
        return mean, dz

    def measured(self, output: Array, target: Array, sample_weight: Array | None = None) -> tuple[float, float, Array]:
        """Mean over the batch, its divisor, and its gradient, in one pass."""
        dz = self._dz.get(output.shape, output.dtype, output)
        return *self._mean(output, target, sample_weight, dz), dz

    def divisor(self, output: Array, target: Array, sample_weight: Array | None = None) -> float:
        """Sum over the labels that count, of class weight times sample weight; of probabilities, those of the rows."""
        return self._divisor(self._counts(output, target), output, target, sample_weight)

    def sums(self, output: Array, target: Array, sample_weight: Array | None = None) -> dict[str, tuple[float, float]]:
        """Adds `accuracy`: how many rows have their largest logit, the first of equals, at the label.

        What is ignored does not count; probabilities stand for the label of the largest; `sample_weight` weighs, class
        weights do not.
        """
        axis = self._axis(output)
        mean, divisor = self._mean(output, target, sample_weight, None)
        counts = self._counts(output, target)
        labels = target if target.dtype.kind in "iu" else target.argmax(axis=axis)
        correct = (output.argmax(axis=axis) == labels) & counts
        accuracy = weighted_sum(correct, sample_weight), weighted_sum(counts, sample_weight)
        return {"loss": mean_of(mean, divisor), "accuracy": accuracy}

    def _axis(self, output: Array) -> int:
        if output.ndim < 2:
            raise ValueError(f"cross_entropy: logits must have shape (samples, classes), got {output.shape}")
        return 1 if self.axis == 1 else output.ndim - 1

    def _counts(self, output: Array, target: Array) -> Array:
        """Which labels count."""
        require_array(self.name, "labels", target)
        if target.dtype.kind not in "iu":
            axis = self._axis(output)
            every: Array = namespace(target).ones(target.shape[:axis] + target.shape[axis + 1 :], bool)
            return every
        values, ignored, _ = classes(target, self.ignore_index)
        counts: Array = namespace(values).ones(values.shape, bool) if ignored is None else values != ignored
        return counts.reshape(target.shape)

    def _divisor(self, counts: Array, output: Array, target: Array, sample_weight: Array | None) -> float:
        if sample_weight is not None:
            weight_sum(self.name, output, sample_weight)
        if self.weight is not None and target.dtype.kind in "iu":
            places = namespace(target).clip(target.astype(np.intp), 0, len(self.weight) - 1)
            counts = counts * self.weight.take(places)
        return weighted_sum(counts, sample_weight)

    def _mean(self, output: Array, target: Array, sample_weight: Array | None, dz: Array | None) -> tuple[float, float]:
        axis = self._axis(output)
        losses = self._losses.get((output.size // max(output.shape[axis], 1),), FLOAT64, output)
        reduction = "mean" if sample_weight is None else "sum"
        settings = Settings(self.weight, axis, self.label_smoothing, self.ignore_index, reduction)
        mean, divisor = run(output, target, settings, losses, dz)
        if sample_weight is not None:
            return self._weigh(output, target, sample_weight, losses, dz)
        if divisor == 0.0 and dz is not None:
            dz[...] = 0.0
        return mean, divisor

    def _weigh(
        self, output: Array, target: Array, sample_weight: Array, losses: Array, dz: Array | None
    ) -> tuple[float, float]:
        """The weighted mean of what `run` left in `losses`, and of the gradients of their sum in `dz`."""
        require_samples(self.name, output, target, True)
        divisor = self.divisor(output, target, sample_weight)
        if dz is not None:
            scale_rows(dz, sample_weight, divisor)
        return quotient(weighted_sum(losses.reshape(len(output), -1), sample_weight), divisor), divisor


class Settings(NamedTuple):
    """What `cross_entropy` was asked for beside arrays."""

    weight: Array | None
    axis: int
    label_smoothing: float
    ignore_index: int
    reduction: str


def run(logits: Array, labels: Array, settings: Settings, losses: Array, out: Array | None) -> tuple[float, float]:
    """The mean and its divisor, or the sum and 1, with each row's loss in `losses` and the gradient in `out`."""
    owner, axis = "cross_entropy", settings.axis
    length, is_label = logits.shape[axis], check_target(owner, logits, labels, axis)
    want = logits.shape[:axis] + logits.shape[axis + 1 :] if is_label else logits.shape
    is_mean = settings.reduction == "mean"
    if is_mean or labels.shape != want:
        require_samples(owner, logits, labels, labels.shape == want)
    if length == 0:
        raise ValueError(f"{owner}: logits must have at least one class, got shape {logits.shape}")
    if not is_label and settings.ignore_index >= 0:
        rule = "must be negative where labels are probabilities"
        raise ValueError(f"{owner}: ignore_index {rule}, got {settings.ignore_index}")
    weight = check_weight(owner, "weight", settings.weight, (length,), compute_dtype(logits), logits)
    x, probabilities, factors, _ = apart((logits, None if is_label else labels, weight, None), (out,))
    assert x is not None
    known = classes(labels, settings.ignore_index) if is_label else None
    if known is not None and meets(known[0], out):
        known = (known[0].copy(), *known[1:])
    read = _last(x, axis), None if probabilities is None else _last(probabilities, axis), factors
    written, shape = None if out is None else _last(out, axis), (len(losses), length)
    smoothing, core = settings.label_smoothing, core_of(logits)
    found: tuple[float, float] = core.cross_entropy_rows(owner, losses, written, read, known, shape, smoothing, is_mean)
    return found


def _last(array: Array, axis: int) -> Array:
    return array if axis == array.ndim - 1 else namespace(array).moveaxis(array, axis, -1)


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
    unless they hold NaN or +Inf, or nothing but -Inf. Losses are float64; the same bits at any thread count and level,
    and on a GPU, for which the call waits once: the loss is a Python number, and wrong labels are told at once.

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
    dz = output(owner, "out", out, logits.shape, logits.dtype, logits) if grad else None
    losses = namespace(logits).empty(logits.size // max(logits.shape[axis], 1))
    settings = Settings(weight, axis, smoothing, _index(owner, ignore_index), reduction)
    loss, _ = run(logits, labels, settings, losses, dz)
    if reduction != "none":
        return loss, dz
    return losses.astype(compute_dtype(logits)).reshape(logits.shape[:axis] + logits.shape[axis + 1 :]), dz
