"""Trials of an Optuna study that end early."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stepsmith.train.callbacks.base import Callback, monitored

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["OptunaPruning"]


class OptunaPruning(Callback):
    """Reports a column of each epoch to an Optuna trial, and raises ``optuna.TrialPruned`` when its pruner says so.

    The fit ends as with any error: other callbacks are told, best weights are restored, and the model keeps what it has
    learned. The study knows the direction.

    Args:
        trial: ``optuna.Trial`` of a study with one objective.
        monitor: Column of the history.

    Raises:
        ImportError: Optuna is missing.
        TypeError: Not a trial.
        ValueError: In a fit: a `monitor` that the history has not.

    Follows: ``optuna_integration.KerasPruningCallback``.

    Example:
        >>> import optuna
        >>> callback = OptunaPruning(optuna.trial.FixedTrial({}), monitor="val_loss")
        >>> callback.monitor
        'val_loss'
    """

    def __init__(self, trial: Any, monitor: str = "val_accuracy") -> None:
        try:
            import optuna
        except ImportError as error:
            raise ImportError("OptunaPruning needs Optuna: pip install 'stepsmith[optuna]'") from error
        if not isinstance(trial, optuna.trial.BaseTrial):
            raise TypeError(f"OptunaPruning: trial must be an optuna.Trial, got {type(trial).__name__}")
        self._trial, self._pruned = trial, optuna.TrialPruned
        self.monitor = monitor

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Report, and end the trial if it is hopeless."""
        value, epoch = monitored("OptunaPruning", self.monitor, row), trainer.clock.epoch
        self._trial.report(value, epoch)
        if self._trial.should_prune():
            raise self._pruned(f"OptunaPruning: {self.monitor} {value:g} after epoch {epoch}")
