"""What tells a schedule how the run goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from stepsmith.schedules import ReduceOnPlateau, Schedule
from stepsmith.train.callbacks.base import Callback, direction_of, monitored

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["Plateau"]


class Plateau(Callback):
    """Shows a column of the history to `schedules.ReduceOnPlateau` schedules after each epoch.

    These stand in the groups of the trainer's optimizer, whose state dictionary holds what they remember: so this
    callback has no state.

    Args:
        schedule: One of them, for a run that has several with a column each; None for all of them.
        monitor: Column of the history.

    Raises:
        TypeError: Something else than such a schedule.
        ValueError: When a fit begins: the optimizer has none, or not this one, or it wants a small accuracy or a large
            loss.

    Example:
        >>> model = ss.nn.Linear(2, 2)
        >>> schedule = ss.schedules.ReduceOnPlateau(0.1, factor=0.5, patience=0)
        >>> optimizer = ss.optim.SGD(model.parameters(), lr=schedule)
        >>> trainer = ss.train.Trainer(model, optimizer=optimizer, callbacks=[Plateau(monitor="loss")])
        >>> history = trainer.fit((np.ones((4, 2), np.float32), np.array([0, 1, 0, 1])), epochs=99, progress=False)
        >>> schedule(0) < 0.01
        True
    """

    def __init__(self, schedule: ReduceOnPlateau | None = None, monitor: str = "val_loss") -> None:
        if not isinstance(schedule, ReduceOnPlateau | None):
            raise TypeError(f"Plateau: schedule must be a ReduceOnPlateau or None, got {schedule!r}")
        self.schedule, self.monitor = schedule, monitor

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Refuse what would never have an effect."""
        if self.monitor.startswith("val_") and not trainer.validating:
            raise ValueError(f"Plateau: monitor {self.monitor!r} needs fit(validation=...), got none")
        self.check(trainer)

    def check(self, trainer: Trainer) -> None:
        """Refuse schedules that this column cannot lead."""
        for schedule in self._schedules(trainer):
            wanted = direction_of(self.monitor) or schedule.mode
            if schedule.mode != wanted:
                rule = f"must have mode={wanted!r} for {self.monitor!r}"
                raise ValueError(f"Plateau: schedule {rule}, got {schedule.mode!r}")

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Show them the value."""
        value = float(monitored("Plateau", self.monitor, row))
        for schedule in self._schedules(trainer):
            schedule.update(value)

    def _schedules(self, trainer: Trainer) -> list[ReduceOnPlateau]:
        """Each once, however many groups share it."""
        optimizer: Any = trainer.optimizer
        found = {id(item): item for group in optimizer.groups for key in group for item in _within(group[key])}
        if self.schedule is not None:
            found = {key: item for key, item in found.items() if item is self.schedule}
        if not found:
            rule = "must be held by a group of the optimizer"
            raise ValueError(f"Plateau: schedule {rule}, got {self.schedule or 'no ReduceOnPlateau in it'!r}")
        return list(found.values())


def _within(value: Any) -> Iterator[ReduceOnPlateau]:
    """Those in a hyperparameter."""
    if isinstance(value, ReduceOnPlateau):
        yield value
    elif isinstance(value, Schedule):
        for field in dataclasses.fields(value):
            yield from _within(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _within(item)
