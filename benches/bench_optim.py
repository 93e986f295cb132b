"""The whole call ``opt.step()`` beside NumPy, PyTorch, optax and thinc, as far as they can be imported.

Each library takes its turn beside ours and beside a sweep with our step's memory traffic: the sides start from equal
parameters, are compared after one step and after a second one with other gradients, and only then timed, in alternating
blocks. ``python benches/bench_optim.py --only 'adamw/64Mi/*'``
"""

import argparse
import fnmatch
import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import _harness
import _peers
from _harness import Timing
from _peers import PATTERN, Contender, Problem

OURS, SWEEP = "stepsmith", "sweep"
MUST_AGREE = SWEEP, "numpy", "default check", "max_norm"


@dataclass(frozen=True)
class Limit:
    """How far two results may lie apart: shares of the update and of the parameter.

    bfloat16 keeps 8 bits: a rounding of the parameter, and of what an operator-by-operator peer stores in between.
    """

    of_update: float
    of_param: float


LIMITS = {"float32": Limit(1e-5, 0.0), "bfloat16": Limit(2.0**-6, 2.0**-7)}


@dataclass(frozen=True)
class Shape:
    """`count` tensors of `size` elements each."""

    label: str
    count: int
    size: int


SHAPES = (
    Shape("64Mi", 1, 64 << 20),
    Shape("1000x64", 1000, 64),
    Shape("1000x1024", 1000, 1024),
    Shape("200x100000", 200, 100_000),
    Shape("10", 1, 10),
)
EVERYWHERE = "sgd", "adam", "adamw"
QUICK_SHAPES = Shape("70001", 1, 70_001), Shape("8x64", 8, 64), Shape("10", 1, 10)


@dataclass(frozen=True)
class Case:
    """A row of the table: what is stepped, and beside what."""

    rule: str
    shape: Shape
    dtype: str = "float32"
    checks: bool = False

    @property
    def id(self) -> str:
        """As ``--only`` matches it."""
        return f"{self.rule}/{self.shape.label}/{self.dtype}" + ("/checks" if self.checks else "")


def cases(shapes: Sequence[Shape]) -> Iterator[Case]:
    """Every rule at the first shape, some at all; AdamW also in bfloat16, and with checks that peers do without."""
    for rule in _peers.ROWS:
        yield from (Case(rule, shape) for shape in (shapes if rule in EVERYWHERE else shapes[:1]))
    yield Case("adamw", shapes[0], "bfloat16")
    yield Case("adamw", shapes[0], checks=True)


@dataclass(frozen=True)
class Target:
    """What the project wants of a figure: the side's time over ours, or our own milliseconds."""

    at_least: float | None = None
    at_most: float | None = None
    unit: str = "x"

    def __str__(self) -> str:
        sign, value = (">=", self.at_least) if self.at_most is None else ("<=", self.at_most)
        return f"{sign} {value:g} {self.unit}"

    def met(self, value: float) -> bool:
        """Is the figure as wanted?"""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


TARGETS = {
    ("adamw/64Mi/float32", SWEEP): Target(at_least=0.95),
    ("adamw/64Mi/float32", "torch fused"): Target(at_least=1.0),
    ("adamw/1000x64/float32", "torch fused"): Target(at_least=80),
    ("adamw/1000x1024/float32", "torch fused"): Target(at_least=12),
    ("adamw/200x100000/float32", "torch fused"): Target(at_least=1.15),
    ("adamw/64Mi/bfloat16", "torch fused"): Target(at_least=1.0),
    ("adamw/64Mi/float32/checks", "default check"): Target(at_most=1.3),
    ("adamw/64Mi/float32/checks", "max_norm"): Target(at_most=1.3),
    ("adamw/10/float32", OURS): Target(at_most=0.002, unit="ms"),
}


# Checking.


def deviation(got: np.ndarray, want: np.ndarray, start: np.ndarray, limit: Limit) -> float:
    """The largest distance of two results as a share of what is allowed; infinite for NaN and where nothing moved.

    Args:
        got: parameters after some steps.
        want: the same from another side.
        start: parameters before, float64.
        limit: what is allowed.
    """
    got, want = got.astype(np.float64), want.astype(np.float64)
    update = np.abs(want - start)
    if not (update.all() and (got != start).all()):
        return np.inf
    shares = np.abs(got - want) / (limit.of_update * update + limit.of_param * np.abs(want))
    return float(np.nan_to_num(shares, nan=np.inf).max(initial=0.0))


Want = Callable[[int, slice], np.ndarray]
"""Tensor and part of it → what must stand there."""


def as_in(side: Contender) -> Want:
    """The parameters of another side."""
    params = side.params()
    return lambda k, part: params[k][part]


def as_sum(problem: Problem, factor: float) -> Want:
    """The first parameters plus some of the gradients of now."""
    return lambda k, part: problem.before(part) + factor * problem.grads[k][part].astype(np.float64)


def compare(problem: Problem, got: Contender, want: Want) -> float:
    """`deviation` over all tensors, a chunk at a time."""
    limit, worst = LIMITS[problem.dtype.name], 0.0
    for k, param in enumerate(got.params()):
        for at in range(0, problem.size, PATTERN):
            part = slice(at, min(at + PATTERN, problem.size))
            worst = max(worst, deviation(param[part], want(k, part), problem.before(part), limit))
    return worst


def check(problem: Problem, reference: Contender, others: Sequence[Contender]) -> dict[str, float]:
    """The largest deviation of each side from ours over two steps, in shares of what is allowed.

    The sweep is no step: it must have added both gradients, the second being half the first.
    """
    worst = dict.fromkeys((side.name for side in others), 0.0)
    for added in (1.0, 3.0):
        if added != 1.0:
            problem.halve_grads()
        for side in (reference, *others):
            side.refresh()
            side.step()
        for side in others:
            want = as_sum(problem, added) if side.name == SWEEP else as_in(reference)
            worst[side.name] = max(worst[side.name], compare(problem, side, want))
    return worst


# Running.


@dataclass
class Result:
    """A side of a case.

    Attributes:
        name: of the side.
        deviation: of its result, 1 being allowed.
        timing: None where the result was wrong.
        ratio: its time over ours, round by round.
        of_sweep: the sweep's time over its own, round by round.
    """

    name: str
    deviation: float
    timing: Timing | None
    ratio: float | None = None
    of_sweep: float | None = None

    @property
    def checked(self) -> bool:
        """Was its result right?"""
        return self.deviation <= 1.0


@dataclass(frozen=True)
class Effort:
    """Blocks of each side and about how long each is."""

    blocks: int
    seconds: float


def run(case: Case, effort: Effort) -> tuple[int, list[Result]]:
    """Traffic and results of a case: ours, the sweep, the others; one library in memory at a time.

    Raises:
        ArithmeticError: our result is not that of the NumPy expression, or the sweep did not add.
    """
    traffic, swept = 0, 0.0
    ours, sweep, results = Timing(), Timing(), []
    for peer in (_peers.variants,) if case.checks else _peers.PEERS:
        problem = Problem(case.shape.count, case.shape.size, case.dtype)
        others = peer(case.rule, problem)
        if not others:
            continue
        reference, sweeper = _peers.ours(case.rule, problem), _peers.sweep(case.rule, problem)
        traffic = reference.traffic
        deviations = _checked(case, problem, reference, [sweeper, *others])
        timed = [reference, sweeper, *(side for side in others if deviations[side.name] <= 1.0)]
        timings = _harness.measure(timed, effort.blocks, effort.seconds)
        results += [_result(name, share, timings) for name, share in deviations.items() if name != SWEEP]
        ours, sweep = ours + timings[OURS], sweep + timings[SWEEP]
        swept = max(swept, deviations[SWEEP])
        del problem, reference, sweeper, others, timed
        gc.collect()
    all_turns = {OURS: ours, SWEEP: sweep}
    return traffic, [_result(OURS, 0.0, all_turns), _result(SWEEP, swept, all_turns), *results]


def _checked(case: Case, problem: Problem, reference: Contender, others: Sequence[Contender]) -> dict[str, float]:
    """`check`, and an error if it is ourselves who are wrong."""
    deviations = check(problem, reference, others)
    wrong = [name for name in MUST_AGREE if deviations.get(name, 0.0) > 1.0]
    if wrong:
        raise ArithmeticError(f"{case.id}: {OURS} and {', '.join(wrong)} disagree: {deviations}")
    return deviations


def _result(name: str, share: float, timings: Mapping[str, Timing]) -> Result:
    timing = timings.get(name)
    if timing is None:
        return Result(name, share, None)
    ratio = None if name == OURS else timing.over(timings[OURS])
    return Result(name, share, timing, ratio, timings[SWEEP].over(timing))


# Showing.


def describe(case: Case, traffic: int, results: Sequence[Result]) -> dict[str, Any]:
    """A case as it stands in the JSON file."""
    sides = []
    for result in results:
        side: dict[str, Any] = {"name": result.name, "checked": result.checked, "deviation": result.deviation}
        if result.timing:
            ms = result.timing.median
            side |= result.timing.as_json()
            side |= {"gb_per_s": traffic / ms / 1e6, "ratio": result.ratio, "of_sweep": result.of_sweep}
        target = TARGETS.get((case.id, result.name))
        if target and result.timing:
            side |= {"target": str(target), "met": target.met(ms if target.unit == "ms" else result.ratio)}
        sides.append(side)
    shape = {"tensors": case.shape.count, "elements": case.shape.size}
    return {"case": case.id, "rule": case.rule, "dtype": case.dtype, **shape, "bytes": traffic, "sides": sides}


HEADER = f"{'':<15}{'ms':>10} {'quartiles':>21} {'GB/s':>7} {'time/ours':>10} {'of sweep':>9}  target"


def show(row: dict[str, Any]) -> None:
    """A case as a table."""
    print(f"\n{row['case']}: {row['tensors']} x {row['elements']:,} elements, {row['bytes']:,} bytes")
    print(HEADER)
    for side in row["sides"]:
        if "ms" not in side:
            print(f"{side['name']:<15}  wrong result, {side['deviation']:.3g} times what is allowed: not timed")
            continue
        ratio = "" if side["ratio"] is None else f"{side['ratio']:.2f}"
        quartiles = f"{side['q1']:.4g} - {side['q3']:.4g}"
        target = f"{side['target']} {'met' if side['met'] else 'missed'}" if "target" in side else ""
        print(
            f"{side['name']:<15}{side['ms']:>10.4g} {quartiles:>21} {side['gb_per_s']:>7.2f} {ratio:>10}"
            f" {side['of_sweep']:>9.2f}  {target}".rstrip(),
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the cases that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes and few calls: a test of the bench itself")
    parser.add_argument("--only", default="*", metavar="GLOB", help="cases to run, such as 'adamw/64Mi/float32*'")
    parser.add_argument("--rule", default="*", help="rule to run, such as adamw")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    parser.add_argument("--json", default=".bench/optim.json", metavar="PATH", help="default: %(default)s")
    options = parser.parse_args(arguments)
    wanted = [
        case
        for case in cases(QUICK_SHAPES if options.quick else SHAPES)
        if fnmatch.fnmatchcase(case.id, options.only) and fnmatch.fnmatchcase(case.rule, options.rule)
    ]
    if not wanted:
        parser.error(f"no case is called {options.only!r} with rule {options.rule!r}: see --list")
    if options.list:
        print("\n".join(case.id for case in wanted))
        return
    effort = Effort(2, 0.002) if options.quick else Effort(12, 0.12)
    busy = _harness.busy_cores()
    if busy is not None and busy > 0.2:
        print(f"warning: other programs keep {busy:.1f} cores busy; a peer whose threads spin suffers most from that")
    rows = []
    for case in wanted:
        rows.append(describe(case, *run(case, effort)))
        show(rows[-1])
    content = {"quick": options.quick, "effort": asdict(effort), "busy_cores_before": busy, "cases": rows}
    _harness.write_json(options.json, content)


if __name__ == "__main__":
    sys.exit(main())
