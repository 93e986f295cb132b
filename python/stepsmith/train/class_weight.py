"""Weights of samples by their classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from stepsmith import _check
from stepsmith._backend import device_of, moved, namespace
from stepsmith.train.model import Array, Batch, View
from stepsmith.train.sources import Arrays, Source

__all__ = ["balanced", "class_weights"]

Weigh = Callable[[Batch], Batch]


def balanced(labels: Array) -> dict[int, float]:
    """Label to samples / (classes·samples of the class), as scikit-learn's "balanced".

    Example:
        >>> balanced(np.array([0, 0, 0, 1]))
        {0: 0.6666666666666666, 1: 2.0}
    """
    found, counts = np.unique(moved(labels, "cpu"), return_counts=True)
    return {int(label): float(labels.size / (len(found) * count)) for label, count in zip(found, counts)}


def class_weights(given: str | Mapping[int, float] | None, source: Source, view: View) -> Weigh | None:
    """A function that gives a batch (inputs, labels, ...) its sample weights; None where there are none.

    Raises:
        TypeError: Neither a mapping nor "balanced".
        ValueError: A weight out of range, a label that no sample has, another kind of model, or "balanced" without
            arrays to count in.
    """
    if given is None:
        return None
    if not view.has_scale:
        raise ValueError("Trainer: class_weight must be None for a model that computes its own loss, got weights")
    weights = _table(given, source)
    labels, factors = np.array(sorted(weights)), np.array([weights[label] for label in sorted(weights)])
    return lambda batch: _weighed(batch, 1 + view.targets, labels, factors)


def _table(given: str | Mapping[int, float], source: Source) -> dict[int, float]:
    if isinstance(given, str):
        _check.one_of("Trainer", "class_weight", given, ["balanced"])
        if not isinstance(source, Arrays):
            raise ValueError("Trainer: class_weight must be a mapping beside data that are no arrays, got 'balanced'")
        labels = moved(source.arrays[1], "cpu")
        return balanced(labels if source.rows is None else labels[source.rows])
    if not isinstance(given, Mapping) or not given:
        raise TypeError(f"Trainer: class_weight must be 'balanced' or a mapping with a label, got {given!r}")
    weights = {
        _check.integer("Trainer", "a label of class_weight", label): _check.number(
            "Trainer", f"class_weight[{label}]", weight, low=0.0
        )
        for label, weight in given.items()
    }
    if isinstance(source, Arrays):
        _check_labels(weights, source.arrays[1])
    return weights


def _check_labels(weights: Mapping[int, float], labels: Array) -> None:
    """Raise for a label that no sample has, which would be a mistake that nobody sees."""
    known = moved(labels, "cpu")
    unknown = sorted(label for label in weights if not (known == label).any())
    if unknown:
        raise ValueError(f"Trainer: labels of class_weight must be among those of data, got {unknown}")


def _weighed(batch: Batch, place: int, labels: Array, factors: Array) -> Batch:
    """The batch with an array of weights at `place`; a label that the table has not weighs 1."""
    if batch[1].ndim != 1 or batch[1].dtype.kind not in "iu":
        got = f"{batch[1].dtype} of shape {batch[1].shape}"
        raise ValueError(f"Trainer: class_weight must go with labels of shape (samples,), got targets {got}")
    xp, device = namespace(batch[1]), device_of(batch[1])
    labels, factors = moved(labels, device), moved(factors, device)
    places = xp.searchsorted(labels, batch[1]).clip(max=len(labels) - 1)
    weights = xp.where(labels[places] == batch[1], factors[places], 1.0)
    return [*batch[:place], weights if len(batch) == place else weights * batch[place]]
