"""Learning rates of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stepsmith import _check
from stepsmith.train.callbacks.base import Callback

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["LRMonitor"]


class LRMonitor(Callback):
    """Records the learning rate of every group of parameters.

    Args:
        every_steps: Steps between rows; None for one an epoch, of its last step.

    Attributes:
        rows: Dicts with "epoch" and "step", both from 1, and "lr" if there is one group, else "lr_0", "lr_1", ...

    Raises:
        TypeError, ValueError: Not an integer, or below 1.

    Example:
        >>> model, monitor = ss.nn.Linear(2, 2), LRMonitor(every_steps=1)
        >>> schedule = ss.schedules.Exponential(1.0, gamma=0.5)
        >>> optimizer = ss.optim.SGD(model.parameters(), lr=schedule)
        >>> trainer = ss.train.Trainer(model, optimizer=optimizer, callbacks=[monitor])
        >>> data = np.ones((4, 2), np.float32), np.array([0, 1, 0, 1])
        >>> history = trainer.fit(data, batch_size=2, progress=False)
        >>> monitor.rows
        [{'epoch': 1, 'step': 1, 'lr': 1.0}, {'epoch': 1, 'step': 2, 'lr': 0.5}]
    """

    def __init__(self, every_steps: int | None = None) -> None:
        self.every_steps = None
        if every_steps is not None:
            self.every_steps = _check.integer("LRMonitor", "every_steps", every_steps, low=1)
        self.rows: list[dict[str, float]] = []

    def on_step_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Record, if it is time."""
        if self.every_steps is not None and trainer.clock.step % self.every_steps == 0:
            self._record(trainer, row)

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Record, if that is not done by step."""
        if self.every_steps is None:
            self._record(trainer, row)

    def _record(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        lrs = trainer.clock.lrs
        named = {"lr": lrs[0]} if len(lrs) == 1 else {f"lr_{i}": lr for i, lr in enumerate(lrs)}
        self.rows.append({"epoch": row["epoch"], "step": row["step"], **named})

    def state_dict(self) -> dict[str, Any]:
        """The rows."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rows = [dict(row) for row in state["rows"]]
