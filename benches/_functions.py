"""Functions with a backward pass, timed beside PyTorch's and beside a sweep of the same traffic on as many threads."""

import argparse
import fnmatch
import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

import _harness
from _harness import Side
from stepsmith import _core

Array = np.ndarray[Any, Any]
Arrays = Sequence[Array]

LIMIT = 1e-4
"""Share of an array's largest entry by which two results may lie apart: PyTorch adds up weights' in float32."""
LARGE = 1 << 20
"""Elements from which a sweep says something: below, starting threads is all it does."""
OURS, INTO, PEER, SWEEP = "stepsmith", "out=", "torch", "sweep"


@dataclass(frozen=True)
class Work:
    """A pass over arrays.

    Attributes:
        fresh: makes its outputs.
        into: writes them where they were before.
        peer: PyTorch's, with outputs of its own; None where it is missing.
        formula: the first output in float64, on part of the input, and which part.
        reads: arrays of the full size that are read while one is written.
        before: those that are read before, for sums that must be known first.
    """

    fresh: Callable[[], Arrays]
    into: Callable[[], Arrays]
    peer: Callable[[], Arrays] | None
    formula: Callable[[], tuple[Array, Any]] | None
    reads: int
    before: int = 0


@dataclass(frozen=True)
class Case:
    """A function, a shape, a direction, and what is wanted: times PyTorch's speed, and with out= of a sweep's."""

    name: str
    shape: tuple[int, ...]
    make: Callable[[tuple[int, ...]], dict[str, Work]]
    direction: str
    target: float | None = None
    of_sweep: float | None = None

    @property
    def id(self) -> str:
        """Function, shape and direction."""
        return f"{self.name}/{'x'.join(map(str, self.shape))}/{self.direction}"


def numbers(shape: tuple[int, ...], seed: int = 0) -> Array:
    """Normal float32 numbers."""
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def torch_passes(
    function: Callable[..., Any], arrays: Arrays, dy: Array | None
) -> tuple[Callable[[], Arrays], Callable[[], Arrays]] | None:
    """PyTorch's forward and backward over memory that NumPy allocated, with as many threads as ours."""
    torch: Any = _harness.find("torch")
    if torch is None:
        return None
    torch.set_num_threads(int(dict(_core.info())["threads"]))
    plain = [torch.from_numpy(array) for array in arrays]
    leaves = [tensor.clone().requires_grad_() for tensor in plain]
    y = function(torch, *leaves)
    gradient = torch.ones(()) if dy is None else torch.from_numpy(dy)

    def forward() -> Arrays:
        with torch.no_grad():
            return [function(torch, *plain).numpy()]

    def backward() -> Arrays:
        return [grad.numpy() for grad in torch.autograd.grad(y, leaves, gradient, retain_graph=True)]

    return forward, backward


_HELPERS = ThreadPoolExecutor(int(dict(_core.info())["threads"]))


def sweeper(shape: tuple[int, ...], reads: int, before: int) -> Callable[[], object]:
    """Reads as many arrays (one or two) and writes one, by NumPy's own loops, each thread its part."""
    inputs, out = [numbers((math.prod(shape),), seed) for seed in range(reads)], np.empty(math.prod(shape), np.float32)
    threads = int(dict(_core.info())["threads"])
    ends = [k * out.size // threads for k in range(threads + 1)]
    parts = [slice(ends[k], ends[k + 1]) for k in range(threads)]

    def read(k: slice) -> None:
        np.dot(inputs[0][k], inputs[before - 1][k])

    def write(k: slice) -> None:
        np.copyto(out[k], inputs[0][k]) if reads == 1 else np.add(inputs[0][k], inputs[1][k], out=out[k])

    def sweep() -> None:
        for work in (read, write) if before else (write,):
            list(_HELPERS.map(work, parts))

    return sweep


def deviation(got: Arrays, want: Arrays) -> float:
    """The largest distance as a share of what is allowed; NaN counts as infinitely far."""
    shares = [np.abs(a.astype(np.float64) - b).max() / np.abs(b).max() for a, b in zip(got, want, strict=True)]
    worst = float(max(shares)) / LIMIT
    return math.inf if math.isnan(worst) else worst


def check(case: Case, work: Work) -> None:
    """Raises ArithmeticError unless all sides and the formula agree."""
    got = [array.copy() for array in work.fresh()]
    others = {INTO: [array.copy() for array in work.into()]}
    if work.peer:
        others[PEER] = work.peer()
    shares = {name: deviation(got, arrays) for name, arrays in others.items()}
    if work.formula:
        want, part = work.formula()
        shares["numpy"] = deviation([got[0][part]], [want])
    wrong = [name for name, share in shares.items() if share > 1.0]
    if wrong:
        raise ArithmeticError(f"{case.id}: {OURS} and {', '.join(wrong)} disagree: {shares}")


def run(case: Case, blocks: int, seconds: float) -> dict[str, Any]:
    """Checks and times a case."""
    work = case.make(case.shape)[case.direction]
    check(case, work)
    sides = [Side(OURS, work.fresh), Side(INTO, work.into)]
    elements = math.prod(case.shape)
    if work.peer:
        sides.append(Side(PEER, work.peer))
    if elements >= LARGE:
        sides.append(Side(SWEEP, sweeper(case.shape, work.reads, work.before)))
    timings = _harness.measure(sides, blocks, seconds)
    traffic = elements * 4 * (work.before + work.reads + 1)
    rows = {name: {**timing.as_json(), "gb_per_s": traffic / timing.median / 1e6} for name, timing in timings.items()}
    row: dict[str, Any] = {"case": case.id, "bytes": traffic, "sides": rows}
    if PEER in timings:
        ratios = {name: timings[PEER].over(timings[name]) for name in (OURS, INTO)}
        row |= {"ratio": ratios[OURS], "ratio_into": ratios[INTO]}
        if case.target:
            row |= {"target": case.target, "met": ratios[OURS] >= case.target}
    if SWEEP in timings:
        row["of_sweep"] = timings[SWEEP].over(timings[INTO])
        if case.of_sweep:
            row |= {"target_of_sweep": case.of_sweep, "met_of_sweep": row["of_sweep"] >= case.of_sweep}
    return row


HEADER = f"{'':<42}{'ms':>9}{'out= ms':>9}{'GB/s':>7}{'x torch':>9}{'out= x':>8}{'of sweep':>9}  target"


def show(row: dict[str, Any]) -> None:
    """A case as a line."""
    ours, into = row["sides"][OURS], row["sides"][INTO]
    ratios = [f"{row[name]:.2f}" if name in row else "" for name in ("ratio", "ratio_into", "of_sweep")]
    targets = [f"{row[name]:g}{'' if row[met] else ' missed'}" for name, met in _TARGETS if name in row]
    print(
        f"{row['case']:<42}{ours['ms']:>9.4g}{into['ms']:>9.4g}{into['gb_per_s']:>7.2f}"
        f"{ratios[0]:>9}{ratios[1]:>8}{ratios[2]:>9}  {', '.join(targets)}".rstrip(),
        flush=True,
    )


_TARGETS = ("target", "met"), ("target_of_sweep", "met_of_sweep")


def main(doc: str, cases: Iterable[Case], quick: Iterable[Case], name: str, arguments: Sequence[str] | None) -> None:
    """Runs the cases that are asked for."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes and few calls: a test of the bench itself")
    parser.add_argument("--only", default="*", metavar="GLOB", help="cases to run, such as 'layer_norm/*/forward'")
    parser.add_argument("--json", default=f".bench/{name}.json", metavar="PATH", help="default: %(default)s")
    options = parser.parse_args(arguments)
    wanted = [case for case in (quick if options.quick else cases) if fnmatch.fnmatchcase(case.id, options.only)]
    if not wanted:
        parser.error(f"no case is called {options.only!r}")
    blocks, seconds = (2, 0.002) if options.quick else (12, 0.1)
    print(HEADER)
    rows = []
    for case in wanted:
        rows.append(run(case, blocks, seconds))
        show(rows[-1])
    _harness.write_json(options.json, {"quick": options.quick, "cases": rows})
