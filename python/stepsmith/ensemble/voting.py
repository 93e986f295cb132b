"""Votes of classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepsmith import _check
from stepsmith._backend import device_of, is_on_gpu, moved, namespace, require_array
from stepsmith.ensemble._weights import shares
from stepsmith.nn import Module
from stepsmith.nn.functional.softmax import softmax
from stepsmith.train.evaluation import outputs
from stepsmith.train.model import Array
from stepsmith.train.trainer import Trainer

__all__ = ["Ensemble"]


class Ensemble:
    """Classifiers that vote: Σ w·p / Σ w of their probabilities, or of their choices.

    Args:
        models: Members: trainers and `nn.Module`s, whose softmax is taken, or anything with ``predict_proba(X)``, such
            as classifiers of scikit-learn and further ensembles. Column i stands for label i.
        weights: One for each member, at least 0; None for equal ones.
        vote: "soft" takes the mean of the probabilities, "hard" gives each member's vote to its likeliest label, the
            smallest of equal ones.

    Raises:
        TypeError: A member of another kind.
        ValueError: No member, weights that do not fit, or another vote.

    Follows: ``sklearn.ensemble.VotingClassifier``.

    Example:
        >>> class Sure:
        ...     def __init__(self, *p):
        ...         self.p = p
        ...     def predict_proba(self, X):
        ...         return np.tile(self.p, (len(X), 1))
        >>> members, X = [Sure(1.0, 0.0), Sure(0.25, 0.75), Sure(0.25, 0.75)], np.zeros((1, 4))
        >>> Ensemble(members).predict_proba(X), Ensemble(members).predict(X), Ensemble(members, vote="hard").predict(X)
        (array([[0.5, 0.5]]), array([0]), array([1]))
    """

    def __init__(self, models: Sequence[Any], weights: Sequence[float] | None = None, vote: str = "soft") -> None:
        self.models = tuple(models)
        if not self.models:
            raise ValueError("Ensemble: models must not be empty, got none")
        for i, member in enumerate(self.models):
            if not isinstance(member, Trainer | Module) and not hasattr(member, "predict_proba"):
                rule = "must be a Trainer, a Module or have predict_proba"
                raise TypeError(f"Ensemble: models[{i}] {rule}, got {type(member).__name__}")
        self.weights = shares("Ensemble", weights, len(self.models))
        self.vote = _check.one_of("Ensemble", "vote", vote, ("soft", "hard"))

    def predict_proba(self, X: Array, batch_size: int = 1024) -> Array:
        """The mean (rows, classes), in the members' dtype (float64 for integers), summed in float64 in their order.

        It is where X is; rows of NumPy go to members on a GPU batch by batch.

        Args:
            X: Rows along axis 0, at least one.
            batch_size: Rows at once in trainers and modules, at least 1.

        Raises:
            TypeError, ValueError: Arguments of the wrong kind or out of range, or members that do not agree.
        """
        total, dtype = self._total(X, batch_size)
        return (total / sum(self.weights)).astype(dtype, copy=False)

    def predict(self, X: Array, batch_size: int = 1024) -> Array:
        """The labels (rows,) with the most of the vote, the smallest of equal ones; arguments as above."""
        total, _ = self._total(X, batch_size)
        labels: Array = total.argmax(axis=1)
        return labels

    def _total(self, X: Array, batch_size: int) -> tuple[Array, np.dtype[Any]]:
        """Σ w·p, and the dtype of p."""
        size = _check.integer("Ensemble", "batch_size", batch_size, low=1)
        if require_array("Ensemble", "X", X).ndim == 0 or len(X) == 0:
            raise ValueError(f"Ensemble: X must have rows, got shape {X.shape}")
        parts: list[Array] = []
        for i, member in enumerate(self.models):
            p = moved(_probabilities(member, X, size), device_of(X))
            _check_columns(i, member, p, parts[0].shape if parts else (len(X), max(p.shape[-1:], default=0)))
            parts.append(p)
        total = namespace(X).zeros(parts[0].shape, np.float64)
        for p, weight in zip(parts, self.weights):
            total += weight * (p if self.vote == "soft" else _choices(p)).astype(np.float64)
        dtype = np.result_type(*(p.dtype for p in parts))
        # The mean of integers, such as choices, is none.
        return total, np.dtype(np.float64) if dtype.kind in "biu" else dtype


def _probabilities(member: Any, X: Array, batch_size: int) -> Array:
    if hasattr(member, "predict_proba"):
        found = member.predict_proba(X)
        return found if is_on_gpu(found) else np.asarray(found)
    is_trainer = isinstance(member, Trainer)
    logits = member.predict(X, batch_size) if is_trainer else outputs(member, X, batch_size, member.device)
    return softmax(logits, axis=1, out=logits)[0] if logits.ndim > 1 else logits


def _check_columns(i: int, member: Any, p: Array, shape: tuple[int, ...]) -> None:
    """Rows and classes of the first member, at least two; others may call their columns otherwise."""
    if p.shape != shape or shape[1] < 2:
        raise ValueError(f"Ensemble: models[{i}] must give (rows, classes), such as {shape}, got shape {p.shape}")
    labels = getattr(member, "classes_", None)
    if labels is not None and not np.array_equal(labels, np.arange(shape[1])):
        rule = f"must have the labels 0 to {shape[1] - 1} in its columns"
        raise ValueError(f"Ensemble: models[{i}] {rule}, got classes_ {labels!r}")


def _choices(p: Array) -> Array:
    """1 at the largest of each row, 0 elsewhere."""
    chosen: Array = p.argmax(axis=1)[:, None] == namespace(p).arange(p.shape[1])
    return chosen
