"""What every schedule is: a frozen dataclass with a name, its checks and one formula; and how it becomes JSON."""

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from stepsmith import _check, _plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["REGISTRY", "Schedule", "adopt", "from_dict", "rate"]

REGISTRY: dict[str, type[Schedule]] = {}


@dataclass(frozen=True)
class Schedule(ABC):
    """A number that depends on the step alone; subclasses are frozen dataclasses and join `REGISTRY`.

    Example:
        >>> schedule = ss.schedules.Step(0.1, step_size=2, gamma=0.5)
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
        """The value at `step` >= 0: the subclass's formula."""

    def __call__(self, step: int) -> float:
        """Value for update `step` + 1; `TypeError` unless an integer, `ValueError` if negative."""
        step = operator.index(step)
        if step < 0:
            raise ValueError(f"{type(self).__name__}: step must be at least 0, got {step}")
        return self.value(step)

    def to_dict(self) -> dict[str, Any]:
        """Name and arguments as JSON values; `from_dict` reads them back."""
        arguments = {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self) if field.init}
        return {"schedule": self.name, "arguments": arguments}

    def plot(self, steps: int, path: str | os.PathLike[str] | None = None, *, axes: Axes | None = None) -> Axes:
        """Draw the values of the first steps.

        Args:
            steps: How many, at least 1.
            path: Where to save the figure, in the format of its suffix; None only returns the axes.
            axes: Matplotlib axes to draw into, so that several schedules share them; None makes a figure.

        Raises:
            ImportError: matplotlib is missing.
            TypeError, ValueError: `steps` is no integer, or below 1.

        Example:
            >>> axes = ss.schedules.CosineAnnealing(0.1, T_max=100).plot(200)
            >>> axes = ss.schedules.Step(0.1, step_size=50).plot(200, axes=axes)
            >>> len(axes.lines)
            2
        """
        owner = type(self).__name__
        steps = _check.integer(owner, "steps", steps, low=1)
        if axes is None:
            axes = _plot.figure(f"{owner}.plot", 6, 4).add_subplot(xlabel="step", ylabel="value")
            axes.grid(alpha=0.3)
        axes.plot(range(steps), [self.value(step) for step in range(steps)], label=owner)
        axes.legend()
        if path is not None:
            figure: Any = axes.figure
            figure.savefig(path)
        return axes

    def _restore(self, state: Any) -> None:
        """Take back the state that `to_dict` gave, for the schedules that have one."""
        raise ValueError(f"{type(self).__name__}: state must be absent from a pure function of the step, got {state!r}")

    def _take_state(self, other: Schedule) -> None:
        """Become like another one of the same arguments, for those that have a state or hold such."""
        for item in dataclasses.fields(self):
            for own, its in zip(_entries(getattr(self, item.name)), _entries(getattr(other, item.name))):
                if isinstance(own, Schedule):
                    own._take_state(its)

    # Checks for __post_init__; each stores the plain Python value, so that `to_dict` stays JSON.

    def _real(
        self,
        argument: str,
        low: float = 0.0,
        high: float = math.inf,
        *,
        open_low: bool = False,
        open_high: bool = False,
    ) -> None:
        owner, value = type(self).__name__, getattr(self, argument)
        checked = _check.number(owner, argument, value, low=low, high=high, open_low=open_low, open_high=open_high)
        object.__setattr__(self, argument, checked)

    def _rate(self, argument: str) -> None:
        if not isinstance(getattr(self, argument), Schedule):
            self._real(argument)

    def _integer(self, argument: str, low: int) -> None:
        owner, value = type(self).__name__, getattr(self, argument)
        object.__setattr__(self, argument, _check.integer(owner, argument, value, low=low))

    def _flag(self, argument: str) -> None:
        _check.boolean(type(self).__name__, argument, getattr(self, argument))

    def _one_of(self, argument: str, *choices: str) -> None:
        _check.one_of(type(self).__name__, argument, getattr(self, argument), choices)

    def _at_least(self, argument: str, other: str) -> None:
        value, least = getattr(self, argument), getattr(self, other)
        if value < least:
            raise ValueError(f"{type(self).__name__}: {argument} must be at least {other}={least}, got {value}")

    def _milestones(self, low: int, *, repeat: bool) -> None:
        """Steps in ascending order, as a tuple."""
        owner, given = type(self).__name__, self._items("milestones")
        steps = tuple([_check.integer(owner, f"milestones[{i}]", step, low=low) for i, step in enumerate(given)])
        if any(b < a or (a == b and not repeat) for a, b in itertools.pairwise(steps)):
            raise ValueError(f"{owner}: milestones must ascend, got {list(steps)}")
        object.__setattr__(self, "milestones", steps)

    def _schedules(self) -> None:
        """One schedule or more, as a tuple."""
        owner, given = type(self).__name__, self._items("schedules")
        if not given:
            raise ValueError(f"{owner}: schedules must hold at least one, got none")
        for i, schedule in enumerate(given):
            if not isinstance(schedule, Schedule):
                raise TypeError(f"{owner}: schedules[{i}] must be a schedule, got {schedule!r}")
        object.__setattr__(self, "schedules", given)

    def _items(self, argument: str) -> tuple[Any, ...]:
        value = getattr(self, argument)
        if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
            raise TypeError(f"{type(self).__name__}: {argument} must be a sequence, got {value!r}")
        return tuple(value)


def adopt(held: Any, loaded: Any) -> Any:
    """The held schedule in the state of the loaded one if they differ in nothing else, so that who holds it goes on.

    Anything else is replaced by what was loaded; tuples go entry by entry.

    Example:
        >>> held, loaded = (ss.schedules.ReduceOnPlateau(1.0, patience=0, factor=0.5) for _ in range(2))
        >>> [loaded.update(1.0) for _ in range(2)], adopt(held, loaded) is held, held(0)
        ([1.0, 0.5], True, 0.5)
    """
    if isinstance(held, tuple) and isinstance(loaded, tuple) and len(held) == len(loaded):
        return tuple([adopt(*pair) for pair in zip(held, loaded)])
    if not isinstance(held, Schedule) or not isinstance(loaded, Schedule):
        return loaded
    if _stateless(held.to_dict()) != _stateless(loaded.to_dict()):
        return loaded
    held._take_state(loaded)
    return held


def _stateless(value: Any) -> Any:
    """A description without the state of any schedule in it."""
    if isinstance(value, Mapping):
        return {key: _stateless(entry) for key, entry in value.items() if key != "state"}
    return [_stateless(entry) for entry in value] if isinstance(value, list | tuple) else value


def _entries(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def rate(lr: float | Schedule, step: int) -> float:
    """A number, or a schedule's value at that step.

    Example:
        >>> rate(0.5, 3), rate(ss.schedules.Exponential(1.0, gamma=0.5), 3)
        (0.5, 0.125)
    """
    return lr.value(step) if isinstance(lr, Schedule) else lr


def _plain(value: Any) -> Any:
    if isinstance(value, Schedule):
        return value.to_dict()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _built(value: Any) -> Any:
    if isinstance(value, Mapping):
        return from_dict(value)
    return [_built(item) for item in value] if isinstance(value, list | tuple) else value


def from_dict(description: Mapping[str, Any]) -> Schedule:
    """Build the schedule that `Schedule.to_dict` described.

    Args:
        description: "schedule" is the name, "arguments" a mapping; "state" is there for a schedule that has some, and
            may be left out: it then starts afresh.

    Raises:
        ValueError: Other keys, a name that is not in `REGISTRY`, a state that the schedule cannot have.
        TypeError: Arguments that the schedule does not take.

    Example:
        >>> from_dict({"schedule": "cosine_annealing", "arguments": {"lr": 1.0, "T_max": 2}})(1)
        0.5
    """
    if set(description) - {"state"} != {"schedule", "arguments"}:
        rule = "keys must be 'schedule' and 'arguments', and 'state' where there is one"
        raise ValueError(f"from_dict: {rule}, got {sorted(description)}")
    name = description["schedule"]
    if name not in REGISTRY:
        raise ValueError(f"from_dict: schedule must be one of {sorted(REGISTRY)}, got {name!r}")
    given = description["arguments"]
    if not isinstance(given, Mapping):
        raise TypeError(f"from_dict: arguments must be a mapping, got {type(given).__name__}")
    schedule = REGISTRY[name](**{key: _built(value) for key, value in given.items()})
    if "state" in description:
        schedule._restore(description["state"])
    return schedule
