"""The share of weights that are pruned."""

from __future__ import annotations

from dataclasses import dataclass

from stepsmith.schedules.base import Schedule

__all__ = ["CubicSparsity"]


@dataclass(frozen=True)
class CubicSparsity(Schedule, name="cubic_sparsity"):
    """final + (initial - final)·(1 - (t - start) / (stop - start))³, with t the step rounded down to an update.

    Updates are at start, start + every, ... and stop; before the first the share is initial, after the last final. It
    rises fast at first, while there is much to spare.

    Args:
        final: Share in the end, in [0, 1].
        start: Step of the first update, at least 0.
        stop: Step of the last one, start plus a multiple of every, at least one.
        every: Steps between updates, at least 1.
        initial: Share at the first update, at most final.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: Zhu and Gupta, "To prune, or not to prune", 2017, with stop - start = n·Δt.

    Example:
        >>> schedule = CubicSparsity(0.8, start=2, stop=6, every=2)
        >>> [round(schedule(step), 3) for step in range(8)]
        [0.0, 0.0, 0.0, 0.0, 0.7, 0.7, 0.8, 0.8]
    """

    final: float
    start: int
    stop: int
    every: int = 1
    initial: float = 0.0

    def __post_init__(self) -> None:
        for share in ("final", "initial"):
            self._real(share, high=1.0)
        self._at_least("final", "initial")
        for argument, low in (("start", 0), ("stop", 0), ("every", 1)):
            self._integer(argument, low)
        if self.stop <= self.start or (self.stop - self.start) % self.every:
            rule = f"start={self.start} plus a multiple of every={self.every}"
            raise ValueError(f"CubicSparsity: stop must be {rule}, got {self.stop}")

    def is_update(self, step: int) -> bool:
        """Is the share a new one at this step?"""
        return self.start <= step <= self.stop and (step - self.start) % self.every == 0

    def value(self, step: int) -> float:
        """A share that rises by ever smaller parts."""
        done = min(max(step, self.start), self.stop) - self.start
        left = 1.0 - (done - done % self.every) / (self.stop - self.start)
        return self.final + (self.initial - self.final) * left**3
