"""Half waves of a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stepsmith.schedules.base import Schedule

__all__ = ["CosineAnnealing", "CosineAnnealingWarmRestarts"]


@dataclass(frozen=True)
class CosineAnnealing(Schedule, name="cosine_annealing"):
    """eta_min + (lr - eta_min)·½(1 + cos(π·step / T_max)), from lr down to eta_min.

    Past `T_max` it rises again and repeats with period 2·T_max, the cyclic cosine.

    Args:
        lr: The rate of the first update, at least 0.
        T_max: Steps of half a wave, at least 1.
        eta_min: The rate at step T_max, at least 0.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.optim.lr_scheduler.CosineAnnealingLR``; Loshchilov and Hutter, "SGDR", 2017.

    Example:
        >>> [round(CosineAnnealing(1.0, T_max=4)(step), 3) for step in range(6)]
        [1.0, 0.854, 0.5, 0.146, 0.0, 0.146]
    """

    lr: float
    T_max: int
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        self._real("lr")
        self._integer("T_max", low=1)
        self._real("eta_min")

    def value(self, step: int) -> float:
        """Half a cosine wave every T_max steps."""
        # The remainder is exact, so late periods repeat the first one to the bit.
        return _half_wave(self.lr, self.eta_min, step % (2 * self.T_max), self.T_max)


@dataclass(frozen=True)
class CosineAnnealingWarmRestarts(Schedule, name="cosine_annealing_warm_restarts"):
    """eta_min + (lr - eta_min)·½(1 + cos(π·t / T)): period i lasts T = T_0·T_mult^i steps, t counts within it.

    Args:
        lr: The rate at the start of each period, at least 0.
        T_0: Steps of the first period, at least 1.
        T_mult: How many times longer each period is than the one before, an integer of at least 1.
        eta_min: What the rate falls towards, at least 0.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.optim.lr_scheduler.CosineAnnealingWarmRestarts``; Loshchilov and Hutter, "SGDR", 2017.

    Example:
        >>> [round(CosineAnnealingWarmRestarts(1.0, T_0=2, T_mult=2)(step), 3) for step in range(7)]
        [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """

    lr: float
    T_0: int
    T_mult: int = 1
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        self._real("lr")
        self._integer("T_0", low=1)
        self._integer("T_mult", low=1)
        self._real("eta_min")

    def value(self, step: int) -> float:
        """Half a cosine wave that starts again."""
        length = self.T_0
        if self.T_mult == 1:
            step %= length
        while step >= length:
            step -= length
            length *= self.T_mult
        return _half_wave(self.lr, self.eta_min, step, length)


def _half_wave(lr: float, eta_min: float, step: int, length: int) -> float:
    return eta_min + (lr - eta_min) * 0.5 * (1.0 + math.cos(math.pi * step / length))
