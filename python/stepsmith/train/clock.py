"""The clock of a training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepsmith.train.meter import Meter

__all__ = ["Clock"]


@dataclass
class Clock:
    """How far a run is: integers, and the sums that a running epoch needs to be taken up again.

    Everything that changes in the course of a run is a function of it.

    Attributes:
        epoch: Epochs that are complete.
        position: Samples of the running epoch that are done.
        epoch_steps: Steps of the running epoch that are done.
        step: Steps of the optimizer, those included that it skipped.
        samples: Samples in all of them.
        drawn: Batches that a plain iterator has given.
        lrs: Learning rates of the last step, one a group; none before it, and where there is none.
        meter: Sums of the running epoch.

    Example:
        >>> clock = Clock()
        >>> clock.advance(32, batches=1, lrs=(0.1,))
        >>> clock.epoch, clock.position, clock.step
        (0, 32, 1)
    """

    epoch: int = 0
    position: int = 0
    epoch_steps: int = 0
    step: int = 0
    samples: int = 0
    drawn: int = 0
    lrs: tuple[float, ...] = ()
    meter: Meter = field(default_factory=Meter)

    @property
    def lr(self) -> float | None:
        """Learning rate of the first group, if there is one."""
        return self.lrs[0] if self.lrs else None

    def advance(self, samples: int, batches: int, lrs: tuple[float, ...] = ()) -> None:
        """One more step of so many samples in so many micro-batches is done."""
        self.step += 1
        self.epoch_steps += 1
        self.samples += samples
        self.position += samples
        self.drawn += batches
        self.lrs = lrs

    def close_epoch(self) -> None:
        """The epoch is complete: start the next one."""
        self.epoch, self.position, self.epoch_steps, self.meter = self.epoch + 1, 0, 0, Meter()

    def state_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Clock:
        """The clock that gave this state."""
        return cls(**{**state, "lrs": tuple(state["lrs"]), "meter": Meter(**state["meter"])})
