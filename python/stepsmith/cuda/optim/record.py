"""What the device keeps of an optimizer from step to step, and what the host knows of it without waiting."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from stepsmith._backend import cupy
from stepsmith.cuda.optim.structs import CONTROL, NEWS, NOTHING, REPORT

__all__ = ["Record", "Reports"]

_TOGETHER = 256
"""Reports, or slots for news, of an allocation."""


class Slot:
    """Memory of the host in which a device tells news of an optimizer."""

    def __init__(self, news: Any) -> None:
        self.news = news
        self.launched = 0
        """Steps that tell of themselves here when they end."""
        self.is_recorded = False
        """May others come, nobody knows when?"""

    @property
    def is_quiet(self) -> bool:
        """Will nothing be written here any more, if no step is launched?"""
        return not self.is_recorded and int(self.news["steps"][0]) == self.launched


_free: list[Any] = []
_given_back: list[Slot] = []
"""Of optimizers that are no more, whose last steps may be on their way."""


def _slot() -> Slot:
    """A slot that no device writes to. Such memory is never let go of: a device may not have seen yet that it is."""
    waiting, _given_back[:] = _given_back[:], []
    for slot in waiting:
        if slot.is_quiet:
            _free.append(slot.news)
        else:
            _given_back.append(slot)
    if not _free:
        memory = np.frombuffer(cupy().cuda.alloc_pinned_memory(_TOGETHER * NEWS.itemsize), NEWS, _TOGETHER)
        _free.extend(memory[i : i + 1] for i in range(_TOGETHER))
    return Slot(_free.pop())


class Reports:
    """A place for what becomes of each step, in the device's memory; never used for two steps."""

    def __init__(self) -> None:
        self._used = _TOGETHER

    @property
    def has_room(self) -> bool:
        """Can the next one be had without an allocation?"""
        return self._used < _TOGETHER

    def next(self) -> Any:
        """Bytes for a `REPORT`."""
        if not self.has_room:
            self._block, self._used = cupy().zeros((_TOGETHER, REPORT.itemsize), np.uint8), 0
        self._used += 1
        return self._block[self._used - 1]

    @property
    def kept(self) -> Any:
        """What a recorded step needs to find unchanged."""
        return self._block


class Record:
    """The `CONTROL` of an optimizer, and what the host knows of its count of updates.

    The device writes news into memory of the host, so that nobody waits. Steps that were launched and did not end yet
    may be skipped, or fail, or not.
    """

    def __init__(self, skips: bool, may_stop: bool) -> None:
        self._skips, self._may_stop = skips, may_stop
        self._slot = _slot()
        weakref.finalize(self, _given_back.append, self._slot)
        self._news = self._slot.news
        self._control = cupy().empty(CONTROL.itemsize, np.uint8)
        self._stream = cupy().cuda.get_current_stream()
        self.write(0)

    def fill(self, record: "np.ndarray[Any, np.dtype[np.void]]") -> None:
        """Says in a `PASS` where everything is."""
        record["control"], record["news"] = self._control.data.ptr, self._news.ctypes.data

    # What the host knows.

    @property
    def is_recorded(self) -> bool:
        """Is there a recording of a step, which may have run unseen any number of times?"""
        return self._slot.is_recorded

    def recorded(self) -> None:
        """From now on there is."""
        self._slot.is_recorded = True

    @property
    def has_problem(self) -> bool:
        """Did a step that ended meet something that the host has not seen yet?"""
        return bool(self._news["problem"][0])

    @property
    def is_certain(self) -> bool:
        """Is the count known without waiting?"""
        if self.is_recorded or not self._is_settled:
            return False
        return not self._may_stop or (int(self._news["steps"][0]) == self._slot.launched and not self.has_problem)

    def bounds(self) -> tuple[int, int]:
        """The least and the most that the count may be when the next step runs; waits only where it cannot be told.

        That is after a recording was made, which counts unseen, and after an interrupt between a launch and its count.
        Where a step fails, the ones behind it do nothing, so the most is right whenever something is written.
        """
        if self.is_recorded or not self._is_settled:
            self.read()
        if not self._skips:
            return self._upper, self._upper
        steps = int(self._news["steps"][0])
        updates = int(self._news["updates"][0])
        return updates, min(self._upper, updates + self._slot.launched - steps)

    @property
    def oldest(self) -> int:
        """No update before this one can be next any more."""
        return int(self._news["updates"][0])

    @contextmanager
    def counting(self) -> Iterator[None]:
        """For the launch of a step, which counts from before it: an interrupt makes the count uncertain."""
        self._is_settled = False
        self._stream = cupy().cuda.get_current_stream()
        self._upper += 1
        self._slot.launched += 1
        yield
        self._is_settled = True

    # What waits.

    def wait(self) -> None:
        """Until all steps on their way have ended; those of a recording may be on any stream."""
        if self.is_recorded:
            cupy().cuda.Device().synchronize()
        else:
            self._stream.synchronize()

    def read(self) -> Any:
        """The device's record, when all steps on their way have ended."""
        self.wait()
        control = np.frombuffer(self._control.get().tobytes(), CONTROL)[0]
        self._upper, self._slot.launched = int(control["updates"]), int(control["steps"])
        self._is_settled = True
        return control

    def write(self, updates: int) -> None:
        """Sets the count, when all steps on their way have ended; what went wrong is forgotten."""
        self.wait()
        control = np.zeros((), CONTROL)
        control["updates"], control["steps"], control["first_bad"] = updates, self._slot.launched, NOTHING
        self._news[0] = updates, self._slot.launched, 0
        self._upper, self._is_settled = updates, True
        self._control.set(np.frombuffer(control.tobytes(), np.uint8))
