"""What the GPU bench needs: sides timed by the device's clock in blocks that take turns, and the speed of a copy."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        id: such as "adamw/float32/1Gi".
        moved: bytes that must be read and written at least.
        prepare: makes the arrays and gives what is timed, ours first, each by name; peers that are not installed are
            left out. It has compared the sides' results.
        target: what our time is to be compared with: "copy" for the time that a copy of the same bytes takes, or the
            name of a side, with the least ratio of speed that is wanted.
    """

    id: str
    moved: int
    prepare: Callable[[], dict[str, Step]]
    target: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    blocks: int
    seconds: float


def run(case: Case, effort: Effort, copy_speed: float) -> dict[str, Any]:
    """Times a case; the row of the table. `copy_speed` in bytes a second, reads and writes counted."""
    sides = case.prepare()
    ms = measure(sides, effort)
    ours = ms["stepsmith"]
    of_copy = case.moved / (ours * 1e-3) / copy_speed
    ratios = {name: other / ours for name, other in ms.items() if name != "stepsmith"} | {"copy": of_copy}
    wanted = [{"beside": name, "wanted": least, "got": ratios[name]} for name, least in case.target if ratios.get(name)]
    return {"case": case.id, "ms": ms, "GB/s": case.moved / ours * 1e-6, "ratios": ratios, "targets": wanted}


def measure(sides: dict[str, Step], effort: Effort) -> dict[str, float]:
    """Milliseconds a call: the median over blocks of many calls that take turns, every second round in reverse."""
    calls = {name: _calls(step, effort.seconds) for name, step in sides.items()}
    blocks: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(effort.blocks):
        names = list(sides)
        for name in names if turn % 2 == 0 else reversed(names):
            sides[name]()  # finds the caches as a step of its own kind leaves them
            blocks[name].append(_milliseconds(sides[name], calls[name]) / calls[name])
    return {name: statistics.median(found) for name, found in blocks.items()}


def _calls(step: Step, seconds: float) -> int:
    for _ in range(3):
        step()
    return min(max(int(seconds * 1e3 / max(_milliseconds(step, 1), 1e-3)), 1), 1000)


def _milliseconds(step: Step, calls: int) -> float:
    import cupy

    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    for _ in range(calls):
        step()
    end.record()
    end.synchronize()
    return float(cupy.cuda.get_elapsed_time(start, end))


def copy_speed(size: int, effort: Effort) -> float:
    """Bytes a second that a copy within the device's memory moves, reads and writes counted."""
    import cupy

    source, target = cupy.zeros(size, np.uint8), cupy.empty(size, np.uint8)
    ms = measure({"copy": lambda: cupy.copyto(target, source)}, effort)["copy"]
    return 2 * size / (ms * 1e-3)


def device() -> dict[str, str]:
    """The device, its driver, and the versions that matter."""
    import cupy

    runtime = cupy.cuda.runtime
    name = runtime.getDeviceProperties(cupy.cuda.Device().id)["name"]
    return {
        "gpu": name.decode() if isinstance(name, bytes) else str(name),
        "compute_capability": str(cupy.cuda.Device().compute_capability),
        "driver": str(runtime.driverGetVersion()),
        "runtime": str(runtime.runtimeGetVersion()),
        "cupy": cupy.__version__,
    }


def lines(row: dict[str, Any]) -> Iterator[str]:
    """The table's lines of a row."""
    ratios = "  ".join(f"{name} {ratio:.2f}x" for name, ratio in row["ratios"].items())
    yield f"{row['case']:34} {row['ms']['stepsmith']:10.4f} ms {row['GB/s']:8.0f} GB/s   {ratios}"
    for target in row["targets"]:
        state = "reached" if target["got"] >= target["wanted"] else "MISSED"
        yield f"{'':34} {target['wanted']:.2f}x of {target['beside']}: {state} ({target['got']:.2f})"


def close(got: Sequence[Any], want: Sequence[Any], rtol: float, what: str) -> None:
    """Fails if a result is not the peer's, before anything is timed."""
    for mine, theirs in zip(got, want, strict=True):
        a, b = (np.asarray(x.get() if hasattr(x, "get") else x.float().cpu(), np.float64) for x in (mine, theirs))
        if not np.allclose(a, b, rtol=rtol, atol=rtol * float(abs(b).max(initial=0.0))):
            raise SystemExit(f"{what}: the results differ by up to {abs(a - b).max()}")
