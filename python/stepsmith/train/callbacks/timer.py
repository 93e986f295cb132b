"""How long things take."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stepsmith.train.callbacks.base import Callback

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["Timer"]


class Timer(Callback):
    """Measures the epochs of a run on the clock on the wall; what passes between fits does not count.

    The times of an epoch that was interrupted and resumed add up. They are the only thing of a run that differs when
    it is repeated, so they stand here and in `History.seconds`, and in no row of the history.

    Attributes:
        rows: Dicts with "epoch", its "seconds", those up to its last step without validation as "train_seconds", and
            "samples_per_second" in these.
        total: Seconds in all fits.

    Example:
        >>> model, timer = ss.nn.Linear(2, 2), Timer()
        >>> optimizer = ss.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = ss.train.Trainer(model, optimizer=optimizer, callbacks=[timer])
        >>> history = trainer.fit((np.ones((4, 2), np.float32), np.array([0, 1, 0, 1])), epochs=2, progress=False)
        >>> len(timer.rows), timer.total > timer.rows[0]["seconds"] > 0
        (2, True)
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.total = self._seconds = self._train_seconds = 0.0
        self._samples = 0
        self._last: float | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Start."""
        self._last = time.perf_counter()
        self._samples = trainer.clock.samples - trainer.clock.position

    def on_step_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Count the time since the step before."""
        self._lap()
        self._train_seconds = self._seconds

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Record the epoch."""
        self._lap()
        samples, trained = trainer.clock.samples - self._samples, self._train_seconds
        self.rows.append(
            {
                "epoch": trainer.clock.epoch,
                "seconds": self._seconds,
                "train_seconds": trained,
                "samples_per_second": samples / trained if trained else float("nan"),
            }
        )
        self._samples, self._seconds, self._train_seconds = trainer.clock.samples, 0.0, 0.0

    def on_fit_end(self, trainer: Trainer) -> None:
        """Stop."""
        self._lap()
        self._last = None

    def _lap(self) -> None:
        now = time.perf_counter()
        elapsed = 0.0 if self._last is None else now - self._last
        self._last, self._seconds, self.total = now, self._seconds + elapsed, self.total + elapsed

    def state_dict(self) -> dict[str, Any]:
        """Times so far."""
        running = {"seconds": self._seconds, "train_seconds": self._train_seconds}
        return {"rows": [dict(row) for row in self.rows], "total": self.total, "running": running}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rows, self.total = [dict(row) for row in state["rows"]], state["total"]
        self._seconds, self._train_seconds = state["running"]["seconds"], state["running"]["train_seconds"]
