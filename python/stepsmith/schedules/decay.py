"""Rates that fall, or rise, by a factor of the step."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from stepsmith.schedules.base import Schedule

__all__ = [
    "Constant",
    "Exponential",
    "ExponentialDecay",
    "InverseTime",
    "Linear",
    "LinearDecay",
    "MultiStep",
    "Polynomial",
    "Step",
]


@dataclass(frozen=True)
class Constant(Schedule, name="constant"):
    """lr·factor for the first `total_iters` steps, then lr; ``Constant(lr, factor=1.0)`` never changes.

    Args:
        lr: The whole rate, at least 0.
        factor: In [0, 1].
        total_iters: Steps with the factor, at least 0.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.optim.lr_scheduler.ConstantLR``.

    Example:
        >>> [Constant(0.1, factor=0.5, total_iters=2)(step) for step in range(4)]
        [0.05, 0.05, 0.1, 0.1]
    """

    lr: float
    factor: float = 1.0 / 3.0
    total_iters: int = 5

    def __post_init__(self) -> None:
        self._real("lr")
        self._real("factor", high=1.0)
        self._integer("total_iters", low=0)

    def value(self, step: int) -> float:
        """lr·factor, then lr."""
        return self.lr * self.factor if step < self.total_iters else self.lr


@dataclass(frozen=True)
class Linear(Schedule, name="linear"):
    """lr·(start_factor + (end_factor - start_factor)·min(1, step / total_iters)).

    Args:
        lr: The whole rate, at least 0.
        start_factor: In (0, 1].
        end_factor: In [0, 1].
        total_iters: Steps until the factor has reached its end, at least 1.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.optim.lr_scheduler.LinearLR``.

    Example:
        >>> [Linear(1.0, start_factor=0.5, total_iters=2)(step) for step in range(4)]
        [0.5, 0.75, 1.0, 1.0]
    """

    lr: float
    start_factor: float = 1.0 / 3.0
    end_factor: float = 1.0
    total_iters: int = 5

    def __post_init__(self) -> None:
        self._real("lr")
        self._real("start_factor", high=1.0, open_low=True)
        self._real("end_factor", high=1.0)
        self._integer("total_iters", low=1)

    def value(self, step: int) -> float:
        """A line from lr·start_factor to lr·end_factor, where it stays."""
        if step >= self.total_iters:
            return self.lr * self.end_factor
        return self.lr * (self.start_factor + (self.end_factor - self.start_factor) * (step / self.total_iters))


@dataclass(frozen=True)
class LinearDecay(Schedule, name="linear_decay"):
    """lr·(1 - step / T), and 0 from step T on.

    Args:
        lr: The rate of the first update, at least 0.
        T: Steps until 0, at least 1.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.optim.lr_scheduler.LinearLR`` from factor 1 to 0.

    Example:
        >>> [LinearDecay(1.0, T=4)(step) for step in range(6)]
        [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    lr: float
    T: int

    def __post_init__(self) -> None:
        self._real("lr")
        self._integer("T", low=1)

    def value(self, step: int) -> float:
        """A line down to 0."""
        return self.lr * (1.0 - min(step, self.T) / self.T)


@dataclass(frozen=True)
class Polynomial(Schedule, name="polynomial"):
    """lr·(1 - step / total_iters)^power, and its end from step total_iters on.

    Args:
        lr: The rate of the first update, at least 0.
        total_iters: Steps until 0, at least 1.
        power: At least 0; 1 is `LinearDecay`.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.optim.lr_scheduler.PolynomialLR``.

    Example:
        >>> [Polynomial(1.0, total_iters=4, power=2.0)(step) for step in range(6)]
        [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """

    lr: float
    total_iters: int = 5
    power: float = 1.0

    def __post_init__(self) -> None:
        self._real("lr")
        self._integer("total_iters", low=1)
        self._real("power")

    def value(self, step: int) -> float:
        """A power of the share of steps that are left."""
        return self.lr * math.pow(1.0 - min(step, self.total_iters) / self.total_iters, self.power)


@dataclass(frozen=True)
class Step(Schedule, name="step"):
    """lr·gamma^⌊step / step_size⌋.

    Args:
        lr: The rate of the first update, at least 0.
        step_size: Steps of one rate, at least 1.
        gamma: At least 0; the rate rises with more than 1.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.optim.lr_scheduler.StepLR``.

    Example:
        >>> [Step(1.0, step_size=2, gamma=0.5)(step) for step in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    lr: float
    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        self._real("lr")
        self._integer("step_size", low=1)
        self._real("gamma")

    def value(self, step: int) -> float:
        """A rate that falls by gamma every step_size steps."""
        return self.lr * self.gamma ** (step // self.step_size)


@dataclass(frozen=True)
class MultiStep(Schedule, name="multi_step"):
    """lr·gamma^(number of milestones that are at most step).

    Args:
        lr: The rate before the first milestone, at least 0.
        milestones: Steps of at least 0 in ascending order; one that stands twice counts twice.
        gamma: At least 0; the rate rises with more than 1.

    Raises:
        TypeError, ValueError: An argument of another kind, out of range or out of order, by name.

    Follows: ``torch.optim.lr_scheduler.MultiStepLR``.

    Example:
        >>> [MultiStep(1.0, milestones=[1, 3], gamma=0.5)(step) for step in range(5)]
        [1.0, 0.5, 0.5, 0.25, 0.25]
    """

    lr: float
    milestones: Sequence[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        self._real("lr")
        self._milestones(low=0, repeat=True)
        self._real("gamma")

    def value(self, step: int) -> float:
        """A rate that falls by gamma at each milestone."""
        return self.lr * self.gamma ** bisect.bisect_right(self.milestones, step)


@dataclass(frozen=True)
class Exponential(Schedule, name="exponential"):
    """lr·gamma^step.

    Args:
        lr: The rate of the first update, at least 0.
        gamma: At least 0; the rate rises with more than 1.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.optim.lr_scheduler.ExponentialLR``.

    Example:
        >>> [Exponential(1.0, gamma=0.5)(step) for step in range(4)]
        [1.0, 0.5, 0.25, 0.125]
    """

    lr: float
    gamma: float

    def __post_init__(self) -> None:
        self._real("lr")
        self._real("gamma")

    def value(self, step: int) -> float:
        """A rate that falls by gamma at each step."""
        return self.lr * self.gamma**step


@dataclass(frozen=True)
class ExponentialDecay(Schedule, name="exponential_decay"):
    """lr·e^(-k·step): `Exponential` with gamma = e^(-k).

    Args:
        lr: The rate of the first update, at least 0.
        k: At least 0.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Example:
        >>> [round(ExponentialDecay(1.0, k=0.1)(step), 4) for step in (0, 1, 10)]
        [1.0, 0.9048, 0.3679]
    """

    lr: float
    k: float

    def __post_init__(self) -> None:
        self._real("lr")
        self._real("k")

    def value(self, step: int) -> float:
        """A rate that halves every ln 2 / k steps."""
        return self.lr * math.exp(-self.k * step)


@dataclass(frozen=True)
class InverseTime(Schedule, name="inverse_time"):
    """lr / (1 + k·step).

    Args:
        lr: The rate of the first update, at least 0.
        k: At least 0.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Example:
        >>> [InverseTime(1.0, k=1.0)(step) for step in (0, 1, 3)]
        [1.0, 0.5, 0.25]
    """

    lr: float
    k: float

    def __post_init__(self) -> None:
        self._real("lr")
        self._real("k")

    def value(self, step: int) -> float:
        """A rate that is half of the first after 1 / k steps."""
        return self.lr / (1.0 + self.k * step)
