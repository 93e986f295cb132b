"""The callback that saves a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from stepsmith import _check
from stepsmith.train import checkpoint
from stepsmith.train.callbacks.base import Callback, Mode, better, mode_of, monitored, require_same

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["Checkpoint"]


class Checkpoint(Callback):
    """Saves the run into a folder of checkpoints, from which `Trainer.resume` goes on bit for bit.

    A checkpoint is a folder: parameters and buffers (``model.safetensors``), all other arrays
    (``state.safetensors``), the rest as JSON (``state.json``), and sizes and SHA-256 of these (``manifest.json``). It
    is written under another name, synced and renamed: whatever happens, it is there as a whole or not at all, and older
    ones go only after that. What an earlier run left half-written is removed when a fit begins.

    Args:
        folder: Of this run alone; made when the first checkpoint is.
        every_steps: Steps of the optimizer between checkpoints; None for none within epochs.
        every_epochs: Epochs between checkpoints; None for none at their ends.
        keep: How many of its newest ones to keep, at least 1; None for all.
        monitor: Column of the history; the checkpoint of the epoch with the best value is kept too.
        mode: "min", "max", or "auto": by the column's name.
        overwrite: Whether another run's checkpoints in the folder may go; else a fit refuses them. A resumed run takes
            those out of the way ("abandoned-...") that are newer than the one that it goes on from.

    Attributes:
        best: The best value, or None.
        best_path: Its checkpoint, or None.

    Raises:
        TypeError, ValueError: Arguments of another kind or out of range.

    Example:
        >>> Checkpoint("run", every_steps=100, keep=2, monitor="val_loss").mode
        'min'
    """

    comes_last: ClassVar[bool] = True

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every_steps: int | None = None,
        every_epochs: int | None = 1,
        keep: int | None = 3,
        monitor: str | None = None,
        mode: Mode = "auto",
        overwrite: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.every_steps, self.every_epochs, self.keep = (
            None if value is None else _check.integer("Checkpoint", name, value, low=1)
            for name, value in (("every_steps", every_steps), ("every_epochs", every_epochs), ("keep", keep))
        )
        self.monitor, self.mode = monitor, mode_of("Checkpoint", mode, monitor or "loss")
        self.overwrite = _check.boolean("Checkpoint", "overwrite", overwrite)
        self.best: float | None = None
        self._best_name: str | None = None
        self._names: list[str] = []

    @property
    def best_path(self) -> Path | None:
        """Where the best checkpoint is."""
        return None if self._best_name is None else self.folder / self._best_name

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Refuse another run's folder; clear away what a killed run left half-written, or had no time to remove."""
        if not trainer.resumed and not self._names and not self.overwrite:
            checkpoint.require_new(self.folder)
        checkpoint.clean(self.folder, self._names, trainer.clock)

    def on_step_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Save, if it is time."""
        if self.every_steps is not None and trainer.clock.step % self.every_steps == 0:
            self._save(trainer)

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Save, if it is time or the best epoch so far."""
        is_best = self.monitor is not None and better(monitored("Checkpoint", self.monitor, row), self.best, self.mode)
        if is_best or (self.every_epochs is not None and trainer.clock.epoch % self.every_epochs == 0):
            self._save(trainer, row if is_best else None)

    def _save(self, trainer: Trainer, best: Mapping[str, float] | None = None) -> None:
        before = self.state_dict()
        name = checkpoint.free_name(self.folder, trainer.clock)
        if best is not None and self.monitor is not None:
            self.best, self._best_name = best[self.monitor], name
        # The list is what it will be before it goes into the checkpoint; files go when that is safe.
        names = [*self._names, name]
        self._names = names if self.keep is None else self._kept(names, self.keep)
        try:
            checkpoint.save(self.folder, trainer, name)
        except BaseException:
            self.load_state_dict(before)
            raise
        for old in names:
            if old not in self._names:
                checkpoint.remove(self.folder / old)

    def _kept(self, names: list[str], keep: int) -> list[str]:
        return [name for name in names if name in names[-keep:] or name == self._best_name]

    def state_dict(self) -> dict[str, Any]:
        """Which checkpoints there are, and which is the best."""
        of_run = {"monitor": self.monitor, "mode": self.mode}
        return {"best": self.best, "best_name": self._best_name, "names": list(self._names), **of_run}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; a ValueError for another column or mode."""
        require_same("Checkpoint", self, state)
        self.best, self._best_name, self._names = state["best"], state["best_name"], list(state["names"])
