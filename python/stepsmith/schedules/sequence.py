"""Schedules made of schedules."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from stepsmith.schedules.base import Schedule

__all__ = ["Product", "Sequential"]


@dataclass(frozen=True)
class Sequential(Schedule, name="sequential"):
    """One schedule after another: schedules[i] takes over at milestones[i - 1], where its own clock starts at 0.

    Args:
        schedules: At least one.
        milestones: Steps of at least 1 in ascending order, one fewer than schedules.

    Raises:
        TypeError, ValueError: Something else than schedules, another number of milestones, or these out of order.

    Follows: ``torch.optim.lr_scheduler.SequentialLR``.

    Example:
        >>> schedule = Sequential([ss.schedules.LinearWarmup(1.0, T=2), ss.schedules.Exponential(1.0, gamma=0.5)], [2])
        >>> [schedule(step) for step in range(5)]
        [0.5, 1.0, 1.0, 0.5, 0.25]
    """

    schedules: Sequence[Schedule]
    milestones: Sequence[int]

    def __post_init__(self) -> None:
        self._schedules()
        self._milestones(low=1, repeat=False)
        want, got = len(self.schedules) - 1, len(self.milestones)
        if want != got:
            raise ValueError(f"Sequential: milestones must be one fewer than schedules, {want}, got {got}")

    def value(self, step: int) -> float:
        """The value of the schedule whose turn it is."""
        turn = bisect.bisect_right(self.milestones, step)
        return self.schedules[turn].value(step - self.milestones[turn - 1] if turn else step)


@dataclass(frozen=True)
class Product(Schedule, name="product"):
    """The product of the schedules' values at the same step; one has the rate, the others are factors.

    Args:
        schedules: At least one.

    Raises:
        TypeError, ValueError: Something else than schedules, or none.

    Follows: ``torch.optim.lr_scheduler.ChainedScheduler``, for schedules that multiply the rate.

    Example:
        >>> schedule = Product([ss.schedules.Step(0.5, step_size=2, gamma=0.5), ss.schedules.Constant(1.0, 0.5, 1)])
        >>> [schedule(step) for step in range(4)]
        [0.25, 0.5, 0.25, 0.25]
    """

    schedules: Sequence[Schedule]

    def __post_init__(self) -> None:
        self._schedules()

    def value(self, step: int) -> float:
        """All values multiplied in order."""
        return math.prod([schedule.value(step) for schedule in self.schedules])
