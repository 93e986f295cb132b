"""Rates that rise and fall between two bounds, each with a momentum that falls and rises against it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stepsmith.schedules.base import Schedule

__all__ = ["Cyclic", "CyclicMomentum", "OneCycle", "OneCycleMomentum"]


@dataclass(frozen=True)
class Cyclic(Schedule, name="cyclic"):
    """base_lr + (max_lr - base_lr)·a·w: w rises from 0 to 1 in step_size_up steps, falls in step_size_down, repeats.

    The amplitude a is 1 ("triangular"), ½^c in cycle c from 0 ("triangular2"), gamma^step ("exp_range").

    Args:
        base_lr: The rate where a cycle begins, at least 0.
        max_lr: The rate at its top, at least base_lr.
        step_size_up: Steps up, at least 1.
        step_size_down: Steps down, at least 1; None means as many as up.
        mode: "triangular", "triangular2" or "exp_range".
        gamma: Of "exp_range", in [0, 1].

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.optim.lr_scheduler.CyclicLR`` without `scale_fn`; Smith, "Cyclical learning rates", 2017.
    `CyclicMomentum` is its `cycle_momentum`.

    Example:
        >>> [Cyclic(0.0, 1.0, step_size_up=2, mode="triangular2")(step) for step in range(8)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25]
    """

    base_lr: float
    max_lr: float
    step_size_up: int = 2000
    step_size_down: int | None = None
    mode: str = "triangular"
    gamma: float = 1.0

    def __post_init__(self) -> None:
        self._real("base_lr")
        self._real("max_lr")
        self._at_least("max_lr", "base_lr")
        _check_wave(self)

    def value(self, step: int) -> float:
        """A triangle above base_lr."""
        return self.base_lr + (self.max_lr - self.base_lr) * _wave(self, step)


@dataclass(frozen=True)
class CyclicMomentum(Schedule, name="cyclic_momentum"):
    """max_momentum - (max_momentum - base_momentum)·a·w, with a and w of `Cyclic`: low where the rate is high.

    It stands for `momentum` of SGD, or for the first of `betas`: ``betas=(CyclicMomentum(0.8, 0.9, 500), 0.999)``.

    Args:
        base_momentum: The momentum at the top of the rate, in [0, 1).
        max_momentum: The momentum where a cycle begins, in [0, 1), at least base_momentum.
        step_size_up: As the rate's; so are the following.
        step_size_down: Steps until the momentum is back, at least 1; None means as many as up.
        mode: "triangular", "triangular2" or "exp_range".
        gamma: Of "exp_range", in [0, 1].

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.optim.lr_scheduler.CyclicLR`` with `cycle_momentum`, which takes 0.8 and 0.9 by default.

    Example:
        >>> [CyclicMomentum(0.5, 0.75, step_size_up=2)(step) for step in range(5)]
        [0.75, 0.625, 0.5, 0.625, 0.75]
    """

    base_momentum: float
    max_momentum: float
    step_size_up: int = 2000
    step_size_down: int | None = None
    mode: str = "triangular"
    gamma: float = 1.0

    def __post_init__(self) -> None:
        self._real("base_momentum", high=1.0, open_high=True)
        self._real("max_momentum", high=1.0, open_high=True)
        self._at_least("max_momentum", "base_momentum")
        _check_wave(self)

    def value(self, step: int) -> float:
        """A triangle below max_momentum."""
        return self.max_momentum - (self.max_momentum - self.base_momentum) * _wave(self, step)


def _check_wave(schedule: Cyclic | CyclicMomentum) -> None:
    schedule._integer("step_size_up", low=1)
    if schedule.step_size_down is not None:
        schedule._integer("step_size_down", low=1)
    schedule._one_of("mode", "triangular", "triangular2", "exp_range")
    schedule._real("gamma", high=1.0)


def _wave(schedule: Cyclic | CyclicMomentum, step: int) -> float:
    """a·w in [0, 1]; whole numbers decide the position, so late cycles are as exact as the first."""
    up, down = schedule.step_size_up, schedule.step_size_down or schedule.step_size_up
    cycle, position = divmod(step, up + down)
    height = position / up if position <= up else (up + down - position) / down
    if schedule.mode == "triangular2":
        return height * 0.5**cycle
    return height * schedule.gamma**step if schedule.mode == "exp_range" else height


@dataclass(frozen=True)
class OneCycle(Schedule, name="one_cycle"):
    """One rise from max_lr / div_factor to max_lr, then one fall to max_lr / (div_factor·final_div_factor).

    The rise ends at step pct_start·total_steps - 1, the fall at total_steps - 1. With `three_phase` the rate first
    falls back as it rose, until step 2·pct_start·total_steps - 2, then to the end. From there on it stays.

    Args:
        max_lr: The highest rate, at least 0.
        total_steps: Length of the cycle, at least 1 (PyTorch's epochs·steps_per_epoch).
        pct_start: Share of the steps that rise, in [0, 1], with three phases in [0, 0.5].
        anneal_strategy: "cos" for half waves, "linear" for lines.
        div_factor: Above 0.
        final_div_factor: Above 0.
        three_phase: Whether there are three phases.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.optim.lr_scheduler.OneCycleLR``, which ends with an error instead of staying; Smith and Topin,
    "Super-convergence", 2018. `OneCycleMomentum` is its `cycle_momentum`.

    Example:
        >>> schedule = OneCycle(1.0, 9, pct_start=1 / 3, anneal_strategy="linear", div_factor=5.0)
        >>> [round(schedule(step), 3) for step in range(10)]
        [0.2, 0.6, 1.0, 0.833, 0.667, 0.5, 0.333, 0.167, 0.0, 0.0]
    """

    max_lr: float
    total_steps: int
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self) -> None:
        self._real("max_lr")
        self._real("div_factor", open_low=True)
        self._real("final_div_factor", open_low=True)
        _check_phases(self)

    def value(self, step: int) -> float:
        """Up, down, and a long way further down."""
        first = self.max_lr / self.div_factor
        last = first / self.final_div_factor
        levels = (first, self.max_lr, first, last) if self.three_phase else (first, self.max_lr, last)
        return _annealed(self, levels, step)


@dataclass(frozen=True)
class OneCycleMomentum(Schedule, name="one_cycle_momentum"):
    """The momentum beside `OneCycle`: from max_momentum down to base_momentum, back, and with three phases it stays.

    It stands for `momentum` of SGD, or for the first of `betas`: ``betas=(OneCycleMomentum(0.85, 0.95, 900), 0.999)``.

    Args:
        base_momentum: The momentum at the highest rate, in [0, 1).
        max_momentum: The momentum at both ends, in [0, 1), at least base_momentum.
        total_steps: As the rate's; so are the following.
        pct_start: Share of the steps in which it falls, in [0, 1], with three phases in [0, 0.5].
        anneal_strategy: "cos" for half waves, "linear" for lines.
        three_phase: Whether there are three phases.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.optim.lr_scheduler.OneCycleLR`` with `cycle_momentum`, which takes 0.85 and 0.95 by default.

    Example:
        >>> schedule = OneCycleMomentum(0.5, 0.75, 8, pct_start=0.375, anneal_strategy="linear")
        >>> [round(schedule(step), 3) for step in range(8)]
        [0.75, 0.625, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75]
    """

    base_momentum: float
    max_momentum: float
    total_steps: int
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    three_phase: bool = False

    def __post_init__(self) -> None:
        self._real("base_momentum", high=1.0, open_high=True)
        self._real("max_momentum", high=1.0, open_high=True)
        self._at_least("max_momentum", "base_momentum")
        _check_phases(self)

    def value(self, step: int) -> float:
        """Down and up again."""
        low, high = self.base_momentum, self.max_momentum
        return _annealed(self, (high, low, high, high) if self.three_phase else (high, low, high), step)


def _check_phases(schedule: OneCycle | OneCycleMomentum) -> None:
    schedule._integer("total_steps", low=1)
    schedule._flag("three_phase")
    schedule._real("pct_start", high=0.5 if schedule.three_phase else 1.0)
    schedule._one_of("anneal_strategy", "cos", "linear")


def _annealed(schedule: OneCycle | OneCycleMomentum, levels: Sequence[float], step: int) -> float:
    """The way from one level to the next, in the phase that the step lies in."""
    rise, last = schedule.pct_start * schedule.total_steps - 1.0, schedule.total_steps - 1.0
    ends = (rise, 2.0 * schedule.pct_start * schedule.total_steps - 2.0, last) if schedule.three_phase else (rise, last)
    phase = next((i for i, end in enumerate(ends) if step <= end), len(ends) - 1)
    begin, end = ends[phase - 1] if phase else 0.0, ends[phase]
    share = min(1.0, (step - begin) / (end - begin)) if end > begin else 1.0
    start, stop = levels[phase], levels[phase + 1]
    if schedule.anneal_strategy == "linear":
        return start + (stop - start) * share
    return stop + (start - stop) * 0.5 * (1.0 + math.cos(math.pi * share))
