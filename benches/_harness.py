"""What the benches share: sides that are timed in alternating blocks, and what stands in every JSON file."""

import datetime
import gc
import importlib
import importlib.metadata
import itertools
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

PAUSE = 0.02
"""Seconds between blocks: a peer's threads spin for a while after its last call."""
SAMPLE = 5e-4
"""Seconds that a sample lasts at least: shorter calls are timed several at a time."""
SAMPLES = 1, 15
"""Fewest and most samples of a block."""
PEERS = "torch", "optax", "jax", "thinc", "scikit-learn", "ml_dtypes", "gguf", "bitsandbytes", "torchao"
PACKAGES = "stepsmith", "numpy", *PEERS


@dataclass(frozen=True)
class Side:
    """One way to do the work that is measured.

    Attributes:
        name: stands in the table.
        step: the call that is timed.
        refresh: called before each block, outside of the timing.
    """

    name: str
    step: Callable[[], object]
    refresh: Callable[[], object] = lambda: None


@dataclass
class Timing:
    """Milliseconds a call, block by block."""

    blocks: list[list[float]] = field(default_factory=list)

    def __add__(self, other: "Timing") -> "Timing":
        return Timing(self.blocks + other.blocks)

    @property
    def samples(self) -> list[float]:
        """All of them."""
        return list(itertools.chain.from_iterable(self.blocks))

    @property
    def median(self) -> float:
        """Over all blocks' samples."""
        return statistics.median(self.samples)

    def over(self, other: "Timing") -> float:
        """How many times as long as another side of the same rounds: the median of the rounds' ratios.

        A busy moment of the machine hits both sides of a round, but not all rounds.
        """
        rounds = zip(self.blocks, other.blocks, strict=True)
        return statistics.median(statistics.median(mine) / statistics.median(others) for mine, others in rounds)

    def as_json(self) -> dict[str, Any]:
        """Median, quartiles, and each block's median."""
        q1, _, q3 = statistics.quantiles(self.samples, n=4, method="inclusive")
        medians = [statistics.median(block) for block in self.blocks]
        return {"ms": self.median, "q1": q1, "q3": q3, "samples": len(self.samples), "blocks": medians}


def measure(sides: Sequence[Side], blocks: int, block_seconds: float) -> dict[str, Timing]:
    """Times the sides in blocks of several calls that take turns, every second round in reverse.

    Args:
        sides: what to time; each was called before.
        blocks: of each side.
        block_seconds: about how long a block is, if that leaves it a reasonable number of samples.
    """
    sizes = {side.name: _block_size(side, block_seconds) for side in sides}
    timings = {side.name: Timing() for side in sides}
    for turn in range(blocks):
        for side in sides if turn % 2 == 0 else reversed(sides):
            time.sleep(PAUSE)
            timings[side.name].blocks.append(_block(side, *sizes[side.name]))
    return timings


def _block_size(side: Side, block_seconds: float) -> tuple[int, int]:
    """Calls a sample, samples a block."""
    side.refresh()
    seconds = _seconds(side.step, 1)
    if seconds < block_seconds:
        seconds = min(seconds, _seconds(side.step, 1), _seconds(side.step, 1))
    calls = math.ceil(SAMPLE / seconds)
    fewest, most = SAMPLES
    return calls, min(max(int(block_seconds / (calls * seconds)), fewest), most)


def _block(side: Side, calls: int, samples: int) -> list[float]:
    """Milliseconds a call; the first sample, which finds cold caches and sleeping threads, is dropped."""
    side.refresh()
    collects = gc.isenabled()
    gc.disable()
    try:
        seconds = [_seconds(side.step, calls) for _ in range(samples + 1)]
    finally:
        if collects:
            gc.enable()
    return [1e3 * x for x in seconds[1:]]


def _seconds(step: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in itertools.repeat(None, calls):
        step()
    return (time.perf_counter() - start) / calls


def find(name: str) -> ModuleType | None:
    """The module, or None where it cannot be imported."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def busy_cores(seconds: float = 0.3) -> float | None:
    """Cores that other programs use while this one sleeps; None where the system does not tell."""

    def ticks() -> tuple[int, int]:
        fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    try:
        total, idle = ticks()
        time.sleep(seconds)
        total, idle = ticks()[0] - total, ticks()[1] - idle
    except (OSError, ValueError, IndexError):
        return None
    return round((1 - idle / total) * (os.cpu_count() or 1), 2) if total else None


def environment() -> dict[str, Any]:
    """Date, machine and versions."""
    from stepsmith import _core

    core = dict(_core.info())
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "isa": core["isa"],
        "threads": core["threads"],
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _cpu() -> str:
    """The CPU's model as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def write_json(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """Writes the environment and the content, and says where."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({**environment(), **content}, indent=1) + "\n")
    print(f"written: {target}")
