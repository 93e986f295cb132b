"""The scalars of the coming updates, computed on the host and kept in the device's memory.

The device counts updates, since only it knows whether one was skipped, and takes the scalars of the one that is next.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stepsmith._backend import cupy
from stepsmith.cuda._launch import launch_over
from stepsmith.cuda.optim.structs import RING
from stepsmith.optim._partition import Numbers, Plan

__all__ = ["Ring"]


class Entry(NamedTuple):
    """What holds for one update."""

    before: Sequence[float]
    """What cohorts carry into it."""
    numbers: Numbers


class Ring:
    """A table of 256 updates' scalars, each slot with the number of the update that it is for.

    Rows are made for updates that may be next: as few as can be after a change of the hyperparameters, then twice as
    many each time, so that who sets a rate at each step pays for one row.
    """

    def __init__(self, scalars: int) -> None:
        self._scalars = scalars
        self._table: Any = None

    def restart(self, updates: int, carried: Sequence[float], cohorts: int) -> None:
        """Begins anew at an update, with what cohorts carry into it; there may be more of them, or fewer."""
        self.slot_width = 1 + cohorts * (self._scalars + 1)
        self._entries: dict[int, Entry] = {}
        self._next, self._carried = updates, carried
        self._plan: Plan | None = None

    def before(self, updates: int) -> Sequence[float]:
        """What cohorts carry into an update."""
        return self._carried if updates == self._next else self._entries[updates].before

    def numbers(self, updates: int) -> Numbers:
        """What holds for an update that was prepared."""
        return self._entries[updates].numbers

    def rewind(self, updates: int) -> None:
        """The update is next after all, though later ones were prepared."""
        self._carried, self._next, self._plan = self.before(updates), updates, None

    def has(self, plan: Plan) -> bool:
        """Is there a table, made with the hyperparameters of now?"""
        return self._plan is not None and self._plan.is_same(plan)

    def holds(self, updates: int, plan: Plan) -> bool:
        """The same, for an update for which a schedule may say something else than it did."""
        entry = self._entries.get(updates)
        if not self.has(plan) or entry is None or not plan.is_scheduled:
            return self.has(plan)
        return plan.numbers(updates, entry.before) == entry.numbers

    def prepare(self, lower: int, upper: int, plan: Plan, count: int = 0) -> None:
        """Makes the rows for these updates, any of which may be next, and at least `count` rows."""
        clears = not self.holds(upper, plan)
        if clears:
            self._carried, self._next, self._horizon = self.before(lower), lower, 1
        end = min(max(upper + self._horizon, lower + count), lower + RING)
        if self._next > upper and not (clears or count):
            return
        fresh, carried = self._computed(upper, end, plan)
        self._upload(fresh, clears)
        self._entries |= fresh
        self._plan, self._next, self._carried = plan, self._next + len(fresh), carried
        self._horizon = min(2 * self._horizon, RING // 2)

    def _computed(self, upper: int, end: int, plan: Plan) -> tuple[dict[int, Entry], Sequence[float]]:
        """The entries from the next one up to `end`, and what is carried out of the last one.

        Where a schedule has no value for an update after `upper`, that is for the step that comes to it to say.
        """
        carried, entries = self._carried, {}
        for updates in range(self._next, end):
            try:
                numbers = plan.numbers(updates, carried)
            except Exception:
                if updates <= upper:
                    raise
                break
            entries[updates] = Entry(carried, numbers)
            carried = numbers.carried
        return entries, carried

    def _upload(self, entries: Mapping[int, Entry], clears: bool) -> None:
        """Brings entries that follow each other into the table; with `clears` all others leave it."""
        width = self.slot_width
        if self._table is None or self._table.size != RING * width:
            self._table, clears = cupy().empty(RING * width, np.float64), True
        rows = np.empty((len(entries), width), np.float64)
        rows.view(np.uint64)[:, 0] = list(entries)
        for row, (_, numbers) in zip(rows, entries.values()):
            scalars = np.array(numbers.scalars, np.float64).reshape(len(numbers.signs), -1)
            row[1:] = np.column_stack([scalars, numbers.signs]).reshape(-1)
        first = np.uint64(next(iter(entries), 0))
        args = self._table, np.uint64(width), cupy().asarray(rows), first, np.uint64(len(rows)), np.int32(clears)
        launch_over("refill", "refill", RING * width, args, per_thread=1)

    def forget(self, updates: int) -> None:
        """No update before this one can be next any more."""
        if len(self._entries) > 2 * RING:
            self._entries = {known: entry for known, entry in self._entries.items() if known >= updates}

    def fill(self, record: "np.ndarray[Any, np.dtype[np.void]]") -> None:
        """Says in a `PASS` where the table is."""
        record["table"], record["slot_width"] = self._table.data.ptr, self.slot_width
        record["scalar_count"] = self._scalars

    @property
    def kept(self) -> Any:
        """What a recorded step needs to find unchanged."""
        return self._table
