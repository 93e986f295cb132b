"""AdamW with everything folded into the step, beside the same done with PyTorch one after another.

Unscale, finite check, clip by norm, AdamW, moving average, bfloat16 copy, zeroed gradients. Both sides start from equal
parameters and are compared after two steps, then timed in alternating blocks. ``python benches/bench_folded.py``
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

import _harness
from _harness import Side
from stepsmith import _core, optim

Array = np.ndarray[Any, Any]

SETTINGS: dict[str, float] = {"lr": 1e-3, "weight_decay": 1e-2}
SCALE = 1024.0
MAX_NORM = 1.0
EMA = 0.999
LIMIT = 1e-3
"""Share of the update by which two results may lie apart: float32's rounding of a parameter is 3e-5 of it."""
TARGET = 1.6
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
CHUNK = 1 << 20
PATTERN = 1 << 16

OURS_BYTES = 4 + 5 * 4 + 4 * 4 + 2 + 4
"""A parameter: the gradient read for check and norm; p, g, m, v, average read; p, m, v, average, copy, g written."""
TORCH_BYTES = 8 + 4 + 8 + 28 + 12 + 6 + 4
"""Unscale and check in place, norm, clip in place, AdamW, lerp, copy, zero."""


class Arrays(NamedTuple):
    """What a side works on."""

    param: Array
    grad: Array
    ema: Array
    shadow: Array


def arrays(n: int) -> Arrays:
    """Parameters in ±[0, 0.5) and room for the rest."""
    param = np.resize(np.random.default_rng(0).uniform(-0.5, 0.5, PATTERN).astype(np.float32), n)
    return Arrays(param, np.empty_like(param), param.copy(), np.zeros(n, BFLOAT16))


def fill(grad: Array) -> None:
    """Gradients as a scaled loss leaves them, so small that clipping does something."""
    pattern = np.random.default_rng(1).uniform(0.5, 1.5, PATTERN) * np.where(np.arange(PATTERN) % 3, 1.0, -1.0)
    scaled = (pattern * SCALE).astype(np.float32)
    for at in range(0, grad.size, PATTERN):
        grad[at : at + PATTERN] = scaled[: grad.size - at]


def folded(n: int) -> tuple[Side, Arrays]:
    """One call."""
    own = arrays(n)
    opt = optim.AdamW(
        {"w": own.param}, **SETTINGS, max_norm=MAX_NORM, ema=EMA, shadow={"w": own.shadow}, zero_grads=True
    )
    opt.bind([own.grad])
    own = own._replace(ema=opt.state["w"]["ema"])
    return Side("stepsmith", lambda: opt.step(grad_scale=SCALE), lambda: fill(own.grad)), own


def sweep(n: int) -> Side:
    """The traffic of the write pass and next to no arithmetic."""
    own = arrays(n)
    opt = optim.AdamW({"w": own.param}, **SETTINGS, ema=EMA, shadow={"w": own.shadow}, zero_grads=True)
    return Side("sweep", opt.sweeper([own.grad]), lambda: fill(own.grad))


def one_by_one(n: int) -> tuple[Side, Arrays] | None:
    """PyTorch's functions, over memory that NumPy allocated, with as many threads as ours."""
    torch: Any = _harness.find("torch")
    if torch is None:
        return None
    torch.set_num_threads(int(dict(_core.info())["threads"]))
    own = arrays(n)
    param = torch.nn.Parameter(torch.from_numpy(own.param))
    param.grad = torch.from_numpy(own.grad)
    ema = torch.from_numpy(own.ema)
    shadow = torch.from_numpy(own.shadow.view(np.int16)).view(torch.bfloat16)
    opt = torch.optim.AdamW([param], **SETTINGS, fused=True)
    inverse, found = torch.tensor(1.0 / SCALE), torch.tensor(0.0)

    def step() -> None:
        with torch.no_grad():
            torch._amp_foreach_non_finite_check_and_unscale_([param.grad], found, inverse)
            torch.nn.utils.clip_grad_norm_([param], MAX_NORM)
            if not found.item():
                opt.step()
            torch._foreach_lerp_([ema], [param.detach()], 1.0 - EMA)
            shadow.copy_(param)
            torch._foreach_zero_([param.grad])

    return Side("torch", step, lambda: fill(own.grad)), own


def check(ours: Arrays, theirs: Arrays, step: Callable[[], object], other: Callable[[], object]) -> float:
    """The largest distance after two steps, as a share of the update; infinite where something is wrong altogether."""
    start = ours.param.copy()
    for _ in range(2):
        fill(ours.grad)
        fill(theirs.grad)
        step()
        other()
    worst = 0.0
    for at in range(0, start.size, CHUNK):
        part = slice(at, at + CHUNK)
        update = np.abs(theirs.param[part].astype(np.float64) - start[part])
        apart = np.abs(ours.param[part].astype(np.float64) - theirs.param[part])
        averages = np.abs(ours.ema[part].astype(np.float64) - theirs.ema[part])
        right = (ours.shadow[part] == ours.param[part].astype(BFLOAT16)).all() and not ours.grad[part].any()
        right = right and update.all() and (ours.ema[part] != start[part]).any()
        # The average's last bit is larger than what a step moves it by.
        worst = max(
            worst, float((apart / update).max()) if right else np.inf, float(averages.max()) if right else np.inf
        )
    return worst


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small size and few calls: a test of the bench itself")
    parser.add_argument("--json", default=".bench/folded.json", metavar="PATH", help="default: %(default)s")
    options = parser.parse_args(arguments)
    n, blocks, seconds = (70_001, 2, 0.002) if options.quick else (64 << 20, 12, 0.3)
    ours, own = folded(n)
    peer = one_by_one(n)
    deviation = check(own, peer[1], ours.step, peer[0].step) if peer else 0.0
    if deviation > LIMIT:
        raise ArithmeticError(f"stepsmith and torch disagree: {deviation}")
    sides = [ours, sweep(n), *([peer[0]] if peer else [])]
    timings = _harness.measure(sides, blocks, seconds)
    print(f"adamw with everything, {n:,} elements; bytes a parameter: {OURS_BYTES} here, {TORCH_BYTES} in PyTorch")
    rows = {}
    for name, timing in timings.items():
        ratio = timing.over(timings["stepsmith"])
        bytes_here = {"torch": TORCH_BYTES, "sweep": OURS_BYTES - 4}.get(name, OURS_BYTES)
        rows[name] = {**timing.as_json(), "ratio": ratio, "gb_per_s": n * bytes_here / timing.median / 1e6}
        target = f"  target >= {TARGET} {'met' if ratio >= TARGET else 'missed'}" if name == "torch" else ""
        print(f"{name:<12}{timing.median:>9.4g} ms {rows[name]['gb_per_s']:>7.2f} GB/s {ratio:>6.2f} x ours{target}")
    _harness.write_json(options.json, {"quick": options.quick, "elements": n, "deviation": deviation, "sides": rows})


if __name__ == "__main__":
    sys.exit(main())
