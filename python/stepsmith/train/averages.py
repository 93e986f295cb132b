"""Evaluation with averaged weights, the live ones untouched."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from stepsmith._backend import addresses, assign
from stepsmith.train.model import Array, Model
from stepsmith.train.snapshot import arrays_of

__all__ = ["Averages", "NoAverageError", "averages_of", "deep_copy"]

Weights = Callable[[], Mapping[str, Array]]


class NoAverageError(RuntimeError):
    """There is no average yet."""


class Averages:
    """A copy of a model that takes other weights.

    Args:
        model: The live one.
        twin: Its `deep_copy`.

    Attributes:
        twin: The copy.
    """

    def __init__(self, model: Model, twin: Model) -> None:
        self._live, self.twin = model, twin

    def load(self, weights: Mapping[str, Array]) -> None:
        """Take these weights, rounded to the model's types, and all else from the live model as it is now."""
        own = arrays_of(self.twin)
        for name, array in arrays_of(self._live).items():
            assign(own[name], weights.get(name, array))


def deep_copy(model: Model) -> Model:
    """A model with arrays of its own; a TypeError for one that `copy.deepcopy` cannot copy."""
    try:
        twin = copy.deepcopy(model)
    except Exception as error:
        kind = type(model).__name__
        raise TypeError(f"Trainer: model must be one that copy.deepcopy can copy, got {kind} ({error})") from error
    for (name, own), its in zip(arrays_of(model).items(), arrays_of(twin).values(), strict=True):
        if np.shares_memory(addresses(own), addresses(its)):
            rule = "must be one that copy.deepcopy can copy"
            raise TypeError(f"Trainer: model {rule}, got {name!r} shared with the copy")
    return twin


def averages_of(optimizer: Any, callbacks: Iterable[Any]) -> dict[str, Weights]:
    """By name what weights there are beside the live ones.

    "ema" is the optimizer's moving average, "average" that of a schedule-free optimizer, and each callback with
    `average_name` and `average()` brings its own.
    """
    found: dict[str, Weights] = {}
    state = getattr(optimizer, "state", {})
    if any("ema" in row for row in state.values()):
        found["ema"] = lambda: {name: row["ema"] for name, row in optimizer.state.items() if "ema" in row}
    if hasattr(optimizer, "averaged"):
        found["average"] = optimizer.averaged
    for callback in callbacks:
        if hasattr(callback, "average_name"):
            found[callback.average_name] = callback.average
    return found
