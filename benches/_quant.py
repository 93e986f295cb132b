"""Lines of a table: ours beside a peer's, beside our own with a look for NaN first, and beside a copy."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import _functions
import _harness
from _harness import Side

OURS, CHECKED, COPY = "stepsmith", "nan='raise'", "copy"


@dataclass(frozen=True)
class Work:
    """What a line times.

    Attributes:
        ours: writes its outputs where they were before.
        traffic: bytes that it must read and write.
        right: calls all sides; are their results what they must be?
        peer: does the same.
        missing: the package that would be the peer.
        checked: ours, and looks for NaN before it writes.
        copied: time a copy of the same traffic too.
        refresh: called before each block of ours, outside of the timing.
        around: surroundings of the timing.
    """

    ours: Callable[[], object]
    traffic: int
    right: Callable[[], bool]
    peer: Side | None = None
    missing: str | None = None
    checked: Callable[[], object] | None = None
    copied: bool = True
    refresh: Callable[[], object] = lambda: None
    around: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True)
class Case:
    """A line, and how many times as fast as its peer we want to be."""

    id: str
    make: Callable[[], Work]
    target: float | None = None


@dataclass(frozen=True)
class Effort:
    """Most blocks of each side, about how long each is, and a slow side's seconds altogether."""

    blocks: int
    seconds: float
    altogether: float


def run(case: Case, effort: Effort) -> dict[str, Any]:
    """Checks and times a case.

    Raises:
        ArithmeticError: a result is not what it must be.
    """
    work = case.make()
    with work.around():
        if not work.right():
            raise ArithmeticError(f"{case.id}: {OURS} and {work.peer.name if work.peer else 'the array'} disagree")
        sides = _sides(work)
        timings = _harness.measure(sides, _blocks(sides, effort), effort.seconds)
    rows = {
        name: {**timing.as_json(), "gb_per_s": work.traffic / timing.median / 1e6} for name, timing in timings.items()
    }
    row: dict[str, Any] = {"case": case.id, "bytes": work.traffic, "sides": rows, "missing": work.missing}
    if COPY in timings:
        row["of_copy"] = timings[COPY].over(timings[OURS])
    if case.target:
        row["target"] = case.target
    if work.peer:
        row |= {"peer": work.peer.name, "ratio": timings[work.peer.name].over(timings[OURS])}
        if case.target:
            row["met"] = row["ratio"] >= case.target
    return row


def _sides(work: Work) -> list[Side]:
    sides = [Side(OURS, work.ours, work.refresh)]
    if work.checked:
        sides.append(Side(CHECKED, work.checked))
    if work.peer:
        sides.append(work.peer)
    if work.copied and work.traffic >= _functions.LARGE:
        sides.append(Side(COPY, _functions.sweeper((work.traffic // 8,), 1, 0)))
    return sides


def _blocks(sides: Sequence[Side], effort: Effort) -> int:
    """A block calls a slow side twice."""
    start = time.perf_counter()
    for side in sides:
        side.step()
    seconds = time.perf_counter() - start
    return max(2, min(effort.blocks, int(effort.altogether / (2 * seconds))))


HEADER = f"{'':<38}{'ms':>9}{'GB/s':>7}{'raise ms':>9}{'of copy':>8}  {'peer':<21}{'its ms':>8}{'x peer':>8}  target"


def show(row: dict[str, Any]) -> None:
    """A case as a line."""
    ours, checked, peer = (row["sides"].get(name) for name in (OURS, CHECKED, row.get("peer")))
    of_copy = f"{row['of_copy']:.2f}" if "of_copy" in row else ""
    name = row.get("peer") or (f"{row['missing']} is missing" if row["missing"] else "")
    target = f">= {row['target']:.3g}" if "target" in row else ""
    print(
        f"{row['case']:<38}{ours['ms']:>9.4g}{ours['gb_per_s']:>7.2f}{_number(checked)}{of_copy:>8}"
        f"  {name:<21}{_number(peer)[1:]}{_number(row, 'ratio')[1:]}"
        f"  {target}{'' if row.get('met', True) else ' missed'}".rstrip(),
        flush=True,
    )


def _number(of: dict[str, Any] | None, key: str = "ms") -> str:
    return f"{of[key]:>9.4g}" if of and key in of else " " * 9
