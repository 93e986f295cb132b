"""Knowledge distillation: a student learns a teacher's probabilities beside the labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepsmith import _check
from stepsmith._backend import namespace, require_same_kind
from stepsmith._outputs import compute_dtype, require_floats
from stepsmith.nn._targets import check_labels, check_target
from stepsmith.nn.buffer import Array, Buffer
from stepsmith.nn.functional.softmax import softmax
from stepsmith.nn.loss.base import Loss, quotient, require_samples, scale_rows, weighted_sum
from stepsmith.nn.loss.cross_entropy import FLOAT64, Settings, run

__all__ = ["Distillation"]

# Neither mean nor smoothing, and no label that does not count.
_SUMS = Settings(None, 1, 0.0, -(2**63), "sum")


class Distillation(Loss):
    """Mean of alpha·T²·KL(softmax(teacher / T) ‖ softmax(output / T)) + (1 - alpha)·cross entropy of the labels.

    The gradient is (alpha·T·(softmax(output / T) - softmax(teacher / T)) + (1 - alpha)·(softmax(output) - label)) /
    samples; Hinton et al. 2015. The target is a pair (labels, teacher's logits); labels may be None where alpha is 1.
    Outputs and logits have shape (samples, classes), float32, float64, bfloat16 or float16. A teacher's -Inf is a
    probability of 0.

    Args:
        temperature: T, above 0.
        alpha: The teacher's part, in [0, 1].

    Raises:
        TypeError: Another kind of number.
        ValueError: A number out of range.

    Example:
        >>> logits, labels = np.array([[1.0, 3.0]]), np.array([1])
        >>> loss, grad = Distillation(alpha=1.0)(logits, (None, logits))
        >>> loss, grad
        (0.0, array([[0., 0.]]))
    """

    name = "distillation"
    targets = 2

    def __init__(self, temperature: float = 4.0, alpha: float = 0.7) -> None:
        self.temperature = _check.number("Distillation", "temperature", temperature, low=0.0, open_low=True)
        self.alpha = _check.number("Distillation", "alpha", alpha, low=0.0, high=1.0)
        self._arrays = [Buffer() for _ in range(4)]
        self._dz, self._rows, self._rows_hard = Buffer(), Buffer(), Buffer()

    def check(self, output: Array, target: Any) -> None:
        """A pair of labels of shape (samples,), or None where alpha is 1, and logits like the output."""
        require_floats(self.name, "output", output)
        if output.ndim != 2:
            raise ValueError(f"{self.name}: output must have shape (samples, classes), got {output.shape}")
        labels, teacher = self._pair(target)
        require_same_kind(self.name, "teacher_logits", teacher, output, "the output")
        if teacher.dtype != output.dtype:
            raise TypeError(f"{self.name}: teacher_logits must be {output.dtype} as the output, got {teacher.dtype}")
        if teacher.ndim != 2 or teacher.shape[1] != output.shape[1]:
            shape = f"(samples, {output.shape[1]})"
            raise ValueError(f"{self.name}: teacher_logits must have shape {shape}, got {teacher.shape}")
        if self.alpha < 1.0:
            self._check_labels(output, labels, len(teacher))

    def _pair(self, target: Any) -> tuple[Array, Array]:
        if not isinstance(target, tuple | list) or len(target) != 2:
            what = f"{len(target)} arrays" if isinstance(target, tuple | list) else type(target).__name__
            raise TypeError(f"{self.name}: target must be (labels, teacher_logits), got {what}")
        return target[0], target[1]

    def _check_labels(self, output: Array, labels: Array, count: int) -> None:
        require_same_kind(self.name, "labels", labels, output, "the output")
        if labels.dtype.kind not in "iu":
            raise TypeError(f"{self.name}: labels must be integers, got {labels.dtype}")
        check_target(self.name, output, labels, 1)
        check_labels(self.name, labels, output.shape[1], None)
        if len(labels) != count:
            rule = "labels and teacher_logits must have as many samples"
            raise ValueError(f"{self.name}: {rule}, got {len(labels)} and {count}")

    def __call__(self, output: Array, target: Any, sample_weight: Array | None = None) -> tuple[float, Array]:
        """Mean over the samples and its gradient."""
        self.check(output, target)
        labels, teacher = target
        require_samples(self.name, output, teacher, teacher.shape == output.shape)
        divisor = self.divisor(output, target, sample_weight)
        (losses, slopes), xp = self._soft(output, teacher), namespace(output)
        if self.alpha < 1.0:
            hard_losses, hard_slopes = self._hard(output, labels)
            xp.add(losses, hard_losses, out=losses)
            xp.add(slopes, hard_slopes, out=slopes)
        scale_rows(slopes, sample_weight, divisor)
        dz = self._dz.get(output.shape, output.dtype, output)
        xp.copyto(dz, slopes, casting="same_kind")
        return quotient(weighted_sum(losses, sample_weight), divisor), dz

    def sums(self, output: Array, target: Any, sample_weight: Array | None = None) -> dict[str, tuple[float, float]]:
        """Adds `accuracy` where there are labels: how many samples have their largest output at the label."""
        sums = super().sums(output, target, sample_weight)
        if target[0] is None:
            return sums
        correct = output.argmax(axis=1) == target[0]
        return sums | {"accuracy": (weighted_sum(correct, sample_weight), sums["loss"][1])}

    def _soft(self, output: Array, teacher: Array) -> tuple[Array, Array]:
        """alpha·T²·KL of each sample, as two cross entropies of the same probabilities, and its gradient."""
        shape, compute, xp = output.shape, compute_dtype(output), namespace(output)
        logits, wanted, q, slopes = (buffer.get(shape, compute, output) for buffer in self._arrays)
        losses, entropies = self._rows.get((2, len(output)), FLOAT64, output)
        xp.divide(output, self.temperature, out=logits, dtype=compute)
        xp.divide(teacher, self.temperature, out=wanted, dtype=compute)
        softmax(wanted, axis=1, out=q)
        # A class that the teacher rules out adds 0, which 0 times infinity is not.
        xp.maximum(wanted, np.finfo(compute).min, out=wanted)
        run(logits, q, _SUMS, losses, slopes)
        run(wanted, q, _SUMS, entropies, None)
        xp.multiply(slopes, self.alpha * self.temperature, out=slopes)
        xp.subtract(losses, entropies, out=losses)
        xp.multiply(losses, self.alpha * self.temperature**2, out=losses)
        return losses, slopes

    def _hard(self, output: Array, labels: Array) -> tuple[Array, Array]:
        """(1 - alpha)·cross entropy of each sample and its gradient."""
        logits, _, slopes, _ = (buffer.get(output.shape, compute_dtype(output), output) for buffer in self._arrays)
        losses, xp = self._rows_hard.get((len(output),), FLOAT64, output), namespace(output)
        xp.copyto(logits, output)
        run(logits, labels, _SUMS, losses, slopes)
        xp.multiply(losses, 1.0 - self.alpha, out=losses)
        xp.multiply(slopes, 1.0 - self.alpha, out=slopes)
        return losses, slopes
