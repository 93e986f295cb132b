"""How the tensors of an optimizer are told to the core: those that share a step's scalars form a cohort."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

__all__ = ["Cohort", "Numbers", "Partition", "Plan"]


class Cohort:
    """Tensors of one group with the same step count, which share a step's scalars.

    The count of those that take part is `offset` + the optimizer's updates, of the others `offset` alone. What they
    carry from update to update is kept by the core.
    """

    __slots__ = ("active", "group", "offset")

    def __init__(self, group: int, offset: int, active: bool) -> None:
        self.group, self.offset, self.active = group, offset, active


class Partition(NamedTuple):
    """The tensors as the core was last told, replaced as a whole."""

    cohorts: list[Cohort]
    cohort_of: list[int]
    """For each tensor its cohort."""
    present: tuple[bool, ...]
    """For each tensor whether it has a gradient."""
    setting: int
    """The core's number of this partition."""


class Numbers(NamedTuple):
    """What a step hands to the core, one cohort after another."""

    lrs: tuple[float, ...]
    """Of each group."""
    scalars: list[float]
    signs: list[float]
    carried: list[float]
    moment: tuple[int, int]
    """Updates made and the partition's number when these were computed."""


class Plan(NamedTuple):
    """What says the numbers of any update, for a device that counts updates itself."""

    numbers: Callable[[int, Sequence[float]], Numbers]
    """Updates made so far and what cohorts carry → those of the next one."""
    lrs: Callable[[int], tuple[float, ...]]
    """Updates made so far → the learning rates of the next one."""
    held: tuple[tuple[dict[str, Any], tuple[str, ...]], ...]
    """Of each group the hyperparameters and the names of those that are scheduled; replaced whenever one is set."""
    setting: int
    """The partition's number."""

    def is_same(self, other: "Plan") -> bool:
        """Has nobody set anything in between?"""
        return self.setting == other.setting and all(a is b for a, b in zip(self.held, other.held))

    @property
    def is_scheduled(self) -> bool:
        """Is some hyperparameter a schedule?"""
        return any(scheduled for _, scheduled in self.held)
