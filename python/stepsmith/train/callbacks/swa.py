"""Stochastic weight averaging."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from stepsmith import _check
from stepsmith._backend import device_of, host_copy, moved, namespace
from stepsmith.train.averages import NoAverageError
from stepsmith.train.callbacks.base import Callback
from stepsmith.train.model import Array

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["SWA"]


class SWA(Callback):
    """The plain mean of the parameters at the ends of epochs: a += (p - a)/n.

    ``trainer.evaluate(data, weights="swa")`` uses it; `Trainer.averaged_model` makes a model of it, whose running
    statistics it measures anew. The live weights are never touched.

    Args:
        start: Epoch after which the first mean is taken, at least 1.
        every: Epochs between further ones, at least 1.

    Attributes:
        count: Means taken.

    Raises:
        TypeError, ValueError: Not an integer, or below 1.

    Follows: Izmailov et al. 2018, Averaging Weights Leads to Wider Optima and Better Generalization.

    Example:
        >>> SWA(start=10).count
        0
    """

    average_name: ClassVar[str] = "swa"

    def __init__(self, start: int, every: int = 1) -> None:
        self.start = _check.integer("SWA", "start", start, low=1)
        self.every = _check.integer("SWA", "every", every, low=1)
        self.count = 0
        self._mean: dict[str, Array] = {}

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Take the parameters into the mean."""
        since = trainer.clock.epoch - self.start
        if since < 0 or since % self.every:
            return
        self.count += 1
        for name, param in trainer.model.parameters().items():
            wide = param.astype(np.float32) if param.dtype.itemsize == 2 else param
            before = self._mean.get(name)
            mean = namespace(wide).zeros_like(wide) if before is None else moved(before, device_of(wide))
            self._mean[name] = mean
            mean += (wide - mean) / mean.dtype.type(self.count)

    def average(self) -> Mapping[str, Array]:
        """Name to mean.

        Raises:
            NoAverageError: None was taken yet.
        """
        if not self.count:
            raise NoAverageError(f"SWA: an average needs an epoch from {self.start} on, got none yet")
        return self._mean

    def state_dict(self) -> dict[str, Any]:
        """The means and their count."""
        return {"count": self.count, "mean": {name: host_copy(array) for name, array in self._mean.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.count, self._mean = state["count"], {name: array.copy() for name, array in state["mean"].items()}
