"""Early stopping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stepsmith import _check
from stepsmith._backend import host_copy
from stepsmith.train.callbacks.base import Callback, Mode, better, mode_of, monitored, require_same
from stepsmith.train.snapshot import Snapshot, weights_of

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["EarlyStopping"]


class EarlyStopping(Callback):
    """Stops a fit after `patience` epochs in a row without a better value, and goes back to the best parameters.

    Better means by more than `min_delta`; NaN is never better. The best value and the waiting count carry over to
    further fits: once stopped it stays stopped until `reset()`.

    Args:
        patience: Epochs to wait, at least 1.
        min_delta: Smallest change that counts, at least 0.
        monitor: Column of the history.
        mode: "min", "max", or "auto": by the column's name.
        restore_best: Put the best epoch's weights back however the fit ends, an error or Ctrl-C included: parameters,
            buffers such as running statistics, and what an optimizer keeps of the parameters (moving average, master
            copy, the other end of a schedule-free average). Its moments are left as they are. A fit that was broken
            off and goes on takes the weights that were live, if nobody has changed the best ones since.

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
        mode: Mode = "auto",
        restore_best: bool = True,
    ) -> None:
        self.patience = _check.integer("EarlyStopping", "patience", patience, low=1)
        self.min_delta = _check.number("EarlyStopping", "min_delta", min_delta, low=0.0)
        self.mode = mode_of("EarlyStopping", mode, monitor)
        self.monitor, self.restore_best = monitor, restore_best
        self.reset()

    def reset(self) -> None:
        """Forget what was seen: wait afresh, and any value is better."""
        self.best: float | None = None
        self.best_epoch = self.waited = 0
        self._best, self._live = Snapshot(), Snapshot()

    @property
    def stopped(self) -> bool:
        """Whether the patience is used up."""
        return self.waited >= self.patience

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Refuse a validation column without validation; stay stopped, or go on with the weights that were live."""
        if self.monitor.startswith("val_") and not trainer.validating:
            raise ValueError(f"EarlyStopping: monitor {self.monitor!r} needs fit(validation=...), got none")
        if self.stopped:
            trainer.stop()
            return
        weights = weights_of(trainer.model, trainer.optimizer)
        if self._live.copies and self._best.equals(weights):
            self._live.restore(weights)
        self._live = Snapshot()

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Keep a better epoch's parameters, or wait one epoch longer."""
        value = monitored("EarlyStopping", self.monitor, row)
        if better(value, self.best, self.mode, self.min_delta):
            self.best, self.best_epoch, self.waited = value, trainer.clock.epoch, 0
            if self.restore_best:
                self._best.keep(weights_of(trainer.model, trainer.optimizer))
        else:
            self.waited += 1
            if self.stopped:
                trainer.stop()

    def on_fit_end(self, trainer: Trainer) -> None:
        """Put the best weights in their place."""
        if self.restore_best and self._best.copies:
            weights = weights_of(trainer.model, trainer.optimizer)
            self._live.keep(weights)
            self._best.restore(weights)

    def state_dict(self) -> dict[str, Any]:
        """The best value with its weights, and the waiting count."""
        copies = {name: host_copy(array) for name, array in self._best.copies.items()}
        of_run = {"monitor": self.monitor, "mode": self.mode, "arrays": copies}
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited, **of_run}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; a ValueError for another column or mode."""
        require_same("EarlyStopping", self, state)
        self.best, self.best_epoch, self.waited = state["best"], state["best_epoch"], state["waited"]
        self._best, self._live = Snapshot(), Snapshot()
        self._best.copies = {name: array.copy() for name, array in state["arrays"].items()}
