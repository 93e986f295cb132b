"""The members of an ensemble from one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stepsmith import _check
from stepsmith._backend import assign, host_copy
from stepsmith.ensemble.voting import Ensemble
from stepsmith.train.averages import deep_copy
from stepsmith.train.callbacks import Callback
from stepsmith.train.model import Array, Model
from stepsmith.train.snapshot import arrays_of

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["Snapshots"]


class Snapshots(Callback):
    """Keeps the model as it is at the end of each cycle of the rate, where it lies in a minimum of its own.

    The rate is to restart with each cycle: ``schedules.CosineAnnealingWarmRestarts(lr, T_0=cycle_epochs * steps an
    epoch)``.

    Args:
        cycle_epochs: Epochs of a cycle, at least 1.
        keep: How many of the last ones to keep, at least 1; None for all.

    Attributes:
        snapshots: Name to copy of each parameter and buffer, the oldest first.

    Raises:
        TypeError, ValueError: Not an integer, or below 1.

    Follows: Huang et al. 2017, Snapshot Ensembles: Train 1, Get M for Free.

    Example:
        >>> model, snapshots = ss.nn.Sequential(ss.nn.Linear(2, 2)), Snapshots(cycle_epochs=2)
        >>> rate = ss.schedules.CosineAnnealingWarmRestarts(0.1, T_0=2)
        >>> trainer = ss.Trainer(model, optimizer=ss.optim.SGD(model.parameters(), lr=rate), callbacks=[snapshots])
        >>> history = trainer.fit((np.eye(2, dtype=np.float32), np.array([0, 1])), epochs=6, progress=False)
        >>> len(snapshots.ensemble(model).models)
        3
    """

    def __init__(self, cycle_epochs: int, keep: int | None = None) -> None:
        self.cycle_epochs = _check.integer("Snapshots", "cycle_epochs", cycle_epochs, low=1)
        self.keep = None if keep is None else _check.integer("Snapshots", "keep", keep, low=1)
        self.snapshots: list[dict[str, Array]] = []

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Keep a copy, if a cycle ends."""
        if trainer.clock.epoch % self.cycle_epochs == 0:
            self.snapshots.append({name: array.copy() for name, array in arrays_of(trainer.model).items()})
            if self.keep is not None:
                del self.snapshots[: -self.keep]

    def ensemble(self, model: Model, weights: Sequence[float] | None = None, vote: str = "soft") -> Ensemble:
        """The snapshots as members, each a copy of the model with their arrays; arguments as of `Ensemble`.

        Raises:
            RuntimeError: No cycle has ended yet.
            KeyError: Another model than the one that was trained.
        """
        if not self.snapshots:
            raise RuntimeError(f"Snapshots: an ensemble needs a cycle of {self.cycle_epochs} epochs, got none yet")
        return Ensemble([_with(model, arrays) for arrays in self.snapshots], weights, vote)

    def state_dict(self) -> dict[str, Any]:
        """The copies."""
        return {"snapshots": [_copies(arrays) for arrays in self.snapshots]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.snapshots = [dict(arrays) for arrays in state["snapshots"]]


def _copies(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: host_copy(array) for name, array in arrays.items()}


def _with(model: Model, arrays: Mapping[str, Array]) -> Model:
    twin = deep_copy(model)
    for name, array in arrays_of(twin).items():
        assign(array, arrays[name])
    return twin
