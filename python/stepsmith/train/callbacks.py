"""Callbacks: what happens around the epochs of a fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stepsmith import _check
from stepsmith.train.model import Array
from stepsmith.train.snapshot import Snapshot, buffers_of

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["Callback", "EarlyStopping"]


class Callback:
    """Hooks that a trainer calls; a subclass writes those it needs."""

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first batch of a fit, after its arguments were checked."""

    def on_step_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """After a step of the optimizer: "epoch", "step" and "samples" so far, its "loss", "lr" and "grad_norm"."""

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """After an epoch and its validation, with the row that joined the history; `trainer.stop()` ends the fit."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """When a fit ends, in whatever way: its epochs are done, a callback stopped it, or an error broke it off."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: a tree of dicts, lists, JSON values and arrays; a copy."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave, checked before anything changes."""


class EarlyStopping(Callback):
    """Stops a fit after `patience` epochs in a row without a better value, and goes back to the best parameters.

    Better means by more than `min_delta`; NaN is never better. The best value and the waiting count carry over to
    further fits: once stopped it stays stopped until `reset()`.

    Args:
        patience: Epochs to wait, at least 1.
        min_delta: Smallest change that counts, at least 0.
        monitor: Column of the history.
        mode: "min", "max", or "auto": "max" for an accuracy, else "min".
        restore_best: Put the best epoch's parameters and buffers, such as running statistics, back however the fit
            ends, an error or Ctrl-C included. The optimizer's state is left as it is.

    Raises:
        TypeError: A `patience` that is no integer.
        ValueError: Values out of range, or, in a fit, a `monitor` that the history has not.

    Example:
        >>> stopping = EarlyStopping(patience=3, monitor="val_accuracy")
        >>> stopping.mode
        'max'
    """

    def __init__(
        self,
        patience: int,
        min_delta: float = 0.0,
        monitor: str = "val_loss",
        mode: Literal["auto", "min", "max"] = "auto",
        restore_best: bool = True,
    ) -> None:
        patience = _check.integer("EarlyStopping", "patience", patience, low=1)
        min_delta = _check.number("EarlyStopping", "min_delta", min_delta, low=0.0)
        _check.one_of("EarlyStopping", "mode", mode, ("auto", "min", "max"))
        self.patience, self.min_delta, self.monitor, self.restore_best = patience, min_delta, monitor, restore_best
        self.mode = ("max" if monitor.endswith("accuracy") else "min") if mode == "auto" else mode
        self.reset()

    def reset(self) -> None:
        """Forget what was seen: wait afresh, and any value is better."""
        self.best = -np.inf if self.mode == "max" else np.inf
        self.best_epoch = self.waited = 0
        self._snapshot = Snapshot()

    @property
    def stopped(self) -> bool:
        """Whether the patience is used up."""
        return self.waited >= self.patience

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Refuse a validation column without validation; stay stopped."""
        if self.monitor.startswith("val_") and not trainer.validating:
            raise ValueError(f"EarlyStopping: monitor {self.monitor!r} needs fit(validation=...), got none")
        if self.stopped:
            trainer.stop()

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Keep a better epoch's parameters, or wait one epoch longer."""
        if self.monitor not in row:
            raise ValueError(f"EarlyStopping: monitor must be one of {list(row)}, got {self.monitor!r}")
        if self._better(row[self.monitor]):
            self.best, self.best_epoch, self.waited = row[self.monitor], trainer.clock.epoch, 0
            if self.restore_best:
                self._snapshot.keep(_arrays(trainer))
        else:
            self.waited += 1
            if self.stopped:
                trainer.stop()

    def on_fit_end(self, trainer: Trainer) -> None:
        """Put the best parameters and buffers back."""
        if self.restore_best:
            self._snapshot.restore(_arrays(trainer))

    def _better(self, value: float) -> bool:
        gain = value - self.best if self.mode == "max" else self.best - value
        return gain > self.min_delta


def _arrays(trainer: Trainer) -> dict[str, Array]:
    """All that training changes in a model."""
    return {**trainer.model.parameters(), **buffers_of(trainer.model)}
