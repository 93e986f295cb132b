"""Rates that start small; each takes a number or a schedule, whose value it multiplies at the same step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stepsmith.schedules.base import Schedule, rate

__all__ = ["CosineWarmup", "LinearWarmup"]


@dataclass(frozen=True)
class LinearWarmup(Schedule, name="linear_warmup"):
    """lr·min(1, (step + 1) / T): the first update has lr / T, update T and later the whole rate.

    Args:
        lr: The whole rate, at least 0, or a schedule of it.
        T: Updates until it is reached, at least 1.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Example:
        >>> [LinearWarmup(0.4, T=4)(step) for step in range(5)]
        [0.1, 0.2, 0.30000000000000004, 0.4, 0.4]
        >>> LinearWarmup(ss.schedules.CosineAnnealing(1.0, T_max=4), T=4)(2)
        0.375
    """

    lr: float | Schedule
    T: int

    def __post_init__(self) -> None:
        self._rate("lr")
        self._integer("T", low=1)

    def value(self, step: int) -> float:
        """The rate's share (step + 1) / T until it is whole."""
        return rate(self.lr, step) * min(1.0, (step + 1) / self.T)


@dataclass(frozen=True)
class CosineWarmup(Schedule, name="cosine_warmup"):
    """lr·½(1 + cos(π(1 - min(1, (step + 1) / T)))): slow at both ends, the whole rate from update T on.

    Args:
        lr: The whole rate, at least 0, or a schedule of it.
        T: Updates until it is reached, at least 1.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Example:
        >>> [round(CosineWarmup(1.0, T=4)(step), 3) for step in range(5)]
        [0.146, 0.5, 0.854, 1.0, 1.0]
    """

    lr: float | Schedule
    T: int

    def __post_init__(self) -> None:
        self._rate("lr")
        self._integer("T", low=1)

    def value(self, step: int) -> float:
        """Half a cosine wave up to the rate."""
        share = min(1.0, (step + 1) / self.T)
        return rate(self.lr, step) * 0.5 * (1.0 + math.cos(math.pi * (1.0 - share)))
