"""Learning-rate schedules: pure functions of the step, which counts from 0.

A schedule stands wherever an optimizer takes ``lr``; update t (from 1) uses ``schedule(t - 1)``, as in PyTorch.
A new one is a frozen dataclass below `Schedule` with its name, its checks and one formula.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from stepsmith import _check

__all__ = ["REGISTRY", "Constant", "CosineAnnealing", "LinearWarmup", "Schedule", "Step", "from_dict"]

REGISTRY: dict[str, type[Schedule]] = {}


@dataclass(frozen=True)
class Schedule(ABC):
    """A learning rate that depends on the step alone; subclasses are frozen dataclasses and join `REGISTRY`.

    Example:
        >>> schedule = Step(0.1, step_size=2, gamma=0.5)
        >>> [schedule(step) for step in range(5)]
        [0.1, 0.1, 0.05, 0.05, 0.025]
        >>> from_dict(schedule.to_dict()) == schedule
        True
    """

    name: ClassVar[str]

    def __init_subclass__(cls, *, name: str, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = name
        REGISTRY[name] = cls

    @abstractmethod
    def value(self, step: int) -> float:
        """The learning rate at `step` >= 0: the subclass's formula."""

    def __call__(self, step: int) -> float:
        """Learning rate of update `step` + 1; `TypeError` unless an integer, `ValueError` if negative."""
        step = operator.index(step)
        if step < 0:
            raise ValueError(f"{type(self).__name__}: step must be at least 0, got {step}")
        return self.value(step)

    def to_dict(self) -> dict[str, Any]:
        """Name and arguments as JSON values; `from_dict` reads them back."""
        arguments = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain = {key: value.to_dict() if isinstance(value, Schedule) else value for key, value in arguments.items()}
        return {"schedule": self.name, "arguments": plain}

    def _real(self, argument: str, minimum: float = 0.0, maximum: float = math.inf) -> None:
        """Check a finite number and store it as a Python float, so that `to_dict` stays JSON."""
        owner, value = type(self).__name__, getattr(self, argument)
        object.__setattr__(self, argument, _check.number(owner, argument, value, low=minimum, high=maximum))

    def _integer(self, argument: str, minimum: int) -> None:
        owner, value = type(self).__name__, getattr(self, argument)
        object.__setattr__(self, argument, _check.integer(owner, argument, value, low=minimum))


def from_dict(description: Mapping[str, Any]) -> Schedule:
    """Build the schedule that `Schedule.to_dict` described.

    Raises:
        ValueError: Keys other than "schedule" and "arguments", or a name that is not in `REGISTRY`.
        TypeError: Arguments that the schedule does not take.

    Example:
        >>> from_dict({"schedule": "cosine_annealing", "arguments": {"lr": 1.0, "T_max": 2}})(1)
        0.5
    """
    if set(description) != {"schedule", "arguments"}:
        raise ValueError(f"from_dict: keys must be 'schedule' and 'arguments', got {sorted(description)}")
    name = description["schedule"]
    if name not in REGISTRY:
        raise ValueError(f"from_dict: schedule must be one of {sorted(REGISTRY)}, got {name!r}")
    given = description["arguments"]
    if not isinstance(given, Mapping):
        raise TypeError(f"from_dict: arguments must be a mapping, got {type(given).__name__}")
    arguments = {key: from_dict(value) if isinstance(value, Mapping) else value for key, value in given.items()}
    return REGISTRY[name](**arguments)


@dataclass(frozen=True)
class Constant(Schedule, name="constant"):
    """lr·factor for the first `total_iters` steps, then lr; as ``torch.optim.lr_scheduler.ConstantLR``.

    ``Constant(lr, factor=1.0)`` never changes.

    Example:
        >>> [Constant(0.1, factor=0.5, total_iters=2)(step) for step in range(4)]
        [0.05, 0.05, 0.1, 0.1]
    """

    lr: float
    factor: float = 1.0 / 3.0
    total_iters: int = 5

    def __post_init__(self) -> None:
        self._real("lr")
        self._real("factor", maximum=1.0)
        self._integer("total_iters", minimum=0)

    def value(self, step: int) -> float:
        """lr·factor, then lr."""
        return self.lr * self.factor if step < self.total_iters else self.lr


@dataclass(frozen=True)
class Step(Schedule, name="step"):
    """lr·gamma^⌊step / step_size⌋; as ``torch.optim.lr_scheduler.StepLR``.

    Example:
        >>> [Step(1.0, step_size=2, gamma=0.5)(step) for step in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    lr: float
    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        self._real("lr")
        self._integer("step_size", minimum=1)
        self._real("gamma", maximum=1.0)

    def value(self, step: int) -> float:
        """A rate that falls by gamma every step_size steps."""
        return self.lr * self.gamma ** (step // self.step_size)


@dataclass(frozen=True)
class CosineAnnealing(Schedule, name="cosine_annealing"):
    """eta_min + (lr - eta_min)·½(1 + cos(π·step / T_max)); as ``torch.optim.lr_scheduler.CosineAnnealingLR``.

    Past `T_max` it rises again and repeats with period 2·T_max, as PyTorch does.

    Example:
        >>> [round(CosineAnnealing(1.0, T_max=4)(step), 3) for step in range(6)]
        [1.0, 0.854, 0.5, 0.146, 0.0, 0.146]
    """

    lr: float
    T_max: int
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        self._real("lr")
        self._integer("T_max", minimum=1)
        self._real("eta_min")

    def value(self, step: int) -> float:
        """Half a cosine wave every T_max steps."""
        # The remainder is exact, so late periods repeat the first one to the bit.
        angle = math.pi * (step % (2 * self.T_max)) / self.T_max
        return self.eta_min + (self.lr - self.eta_min) * 0.5 * (1.0 + math.cos(angle))


@dataclass(frozen=True)
class LinearWarmup(Schedule, name="linear_warmup"):
    """lr·min(1, (step + 1) / T): the first update has lr / T, update T and later the whole rate.

    `lr` may be a schedule: the factor then multiplies its value at the same step.

    Example:
        >>> [LinearWarmup(0.4, T=4)(step) for step in range(5)]
        [0.1, 0.2, 0.30000000000000004, 0.4, 0.4]
        >>> LinearWarmup(CosineAnnealing(1.0, T_max=4), T=4)(2)
        0.375
    """

    lr: float | Schedule
    T: int

    def __post_init__(self) -> None:
        if not isinstance(self.lr, Schedule):
            self._real("lr")
        self._integer("T", minimum=1)

    def value(self, step: int) -> float:
        """The rate's share (step + 1) / T until it is whole."""
        lr = self.lr.value(step) if isinstance(self.lr, Schedule) else self.lr
        return lr * min(1.0, (step + 1) / self.T)
