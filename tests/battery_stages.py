"""Comparisons of everything that is folded around a rule with its oracle: each stage, each pair, all of them at once.

Run by battery.py, a process for each CPU level.
"""

import math
from collections.abc import Callable
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np

from battery import CONFIGS, PAIRS, THREADS, last_threads, layouts
from helpers import Array, different, misaligned, offset, values
from reference import DTYPES
from reference_stages import SHADOWS, Staged

Arrays = dict[str, Array]

# What a stage asks for; "masks" and "shadow" are made for the data at hand.
STAGES: dict[str, dict[str, Any]] = {
    "masks": {"masks": True},
    "grad_scale": {"grad_scale": -3.0},
    "clip_value": {"clip_value": 0.3},
    "norm": {"max_norm": 0.7},
    "norm-1": {"max_norm": 5.0, "norm_type": 1.0},
    "norm-inf": {"max_norm": 0.2, "norm_type": np.inf},
    "agc": {"agc": 0.02},
    "ema": {"ema": 0.9},
    "master": {"master": True},
    "stochastic": {"rounding": "stochastic", "seed": 2**33 + 5},
    "shadow-bfloat16": {"shadow": "bfloat16"},
    "shadow-float16": {"shadow": "float16"},
    "shadow-arrays": {"shadow": True},
    "zero_grads": {"zero_grads": True},
    "state-bfloat16": {"state_dtype": "bfloat16"},
    "maximize": {"maximize": True},
}
ALL = ("masks", "grad_scale", "clip_value", "norm", "agc", "ema", "shadow-arrays", "zero_grads", "state-bfloat16")
TOGETHER = {
    "stochastic": (*ALL, "stochastic"),
    "master": (*ALL, "master", "maximize"),
    "norm-1": tuple(stage if stage != "norm" else "norm-1" for stage in (*ALL, "stochastic")),
    "norm-inf": tuple(stage if stage != "norm" else "norm-inf" for stage in (*ALL, "master")),
    "no-clip-value": tuple(stage for stage in (*ALL, "stochastic") if stage != "clip_value"),
}
SHAPES = [
    (1,),
    (127,),
    (129,),
    (511,),
    (513,),
    (4097,),
    (),
    (0,),
    (3, 0, 5),
    (3, 4099),
    (9, 1),
    (5, 7, 37),
    (6, 5, 130),
]
COUNTED = ("masks", "agc", "stochastic")


def compatible(*stages: str) -> bool:
    """No two of them set the same option, and no master copy is rounded at random."""
    keys = [key for stage in stages for key in STAGES[stage]]
    return len(set(keys)) == len(keys) and not {"master", "stochastic"} <= set(stages)


def relaid(x: Array, k: int) -> Array:
    """The same elements in layout number k."""
    if x.ndim == 3 and x.size:
        every = list(layouts(x).values())
        return every[k % len(every)]
    if x.ndim == 2:
        return (np.copy, np.asfortranarray, misaligned)[k % 3](x)
    if x.ndim == 1 and x.size:
        spread = np.zeros(3 * x.size, x.dtype)[:: -3 if k % 2 else 3]
        spread[...] = x
        return (x.copy(), misaligned(x), offset(x), spread, x.copy(), x.copy())[k % 6]
    return x.copy()


@cache
def pool(dtype: str) -> Array:
    return values(np.random.default_rng(67), 2**18, DTYPES[dtype])


def drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """A piece of the pool."""
    n = math.prod(shape)
    start = int(rng.integers(2**18 - n))
    return pool(dtype)[start : start + n].reshape(shape).copy()


def data(
    k: int, shapes: list[tuple[int, ...]] | None = None, steps: int = 2
) -> tuple[Arrays, list[dict[str, Any]], Arrays]:
    """Parameters, gradients of some steps and masks: dtypes and layouts change from number to number."""
    rng = np.random.default_rng([71, k])
    params, masks = {}, {}
    grads: list[dict[str, Any]] = [{} for _ in range(steps)]
    for i, shape in enumerate(shapes or SHAPES):
        p, g = PAIRS[(5 * i + 3 * k) % len(PAIRS)]
        name = f"{i}-{p}-{g}"
        params[name] = relaid(drawn(rng, shape, p), i + k)
        if i % 4 != 3:
            masks[name] = np.asarray(rng.random(shape) < 0.6)
        for t in range(steps):
            grads[t][name] = relaid(drawn(rng, shape, g), (i + k) // 2 + t)
    grads[-1][list(params)[k % 4]] = None
    return params, grads, masks


def settings_of(stages: tuple[str, ...], params: Arrays, masks: Arrays) -> tuple[dict[str, Any], float]:
    """What the optimizer is told, and grad_scale."""
    settings = {key: value for stage in stages for key, value in STAGES[stage].items()}
    if "masks" in settings:
        settings["masks"] = masks
    if settings.get("shadow") is True:
        wide = [name for name, param in params.items() if param.dtype.itemsize > 2]
        dtypes = list(SHADOWS.values())
        settings["shadow"] = {
            name: relaid(np.zeros(params[name].shape, dtypes[i % 2]), i + 1)
            for i, name in enumerate(wide)
            if i % 5 != 4
        }
    return settings, settings.pop("grad_scale", 1.0)


def everything(optimizer: Any, params: Arrays, shadow: Any) -> dict[str, Array]:
    """All that a step writes but the gradients."""
    found = dict(params)
    for name, row in optimizer.state.items():
        found |= {f"{name} {slot}": x for slot, x in row.items()}
    if isinstance(shadow, dict):
        found |= {f"{name} shadow": x for name, x in shadow.items()}
    return found


def wanted(reference: Staged) -> dict[str, Array]:
    found = dict(reference.params)
    for name in reference.params:
        found |= {f"{name} {slot}": x for slot, x in {**reference.state[name], **reference.copies[name]}.items()}
    return found


def differences(what: str, got: Arrays, want: Arrays) -> list[str]:
    if got.keys() != want.keys():
        return [f"{what}: arrays {sorted(got.keys() ^ want.keys())}"]
    lines = []
    for name, x in got.items():
        bad = different(x, np.asarray(want[name]))
        if bad.size:
            pair = f"{np.ravel(x)[bad[0]]!r}, not {np.ravel(want[name])[bad[0]]!r}"
            lines.append(f"{what}: {name}: {bad.size} of {x.size}, first at {bad[0]}: {pair}")
    return lines


def compare(
    config: str,
    stages: tuple[str, ...],
    k: int,
    threads: tuple[int, ...] = (1,),
    shapes: list[tuple[int, ...]] | None = None,
) -> tuple[list[str], dict[str, Array]]:
    """What differs from the oracle after each step, and what the oracle ended with."""
    import stepsmith as ss

    rule, hyperparameters = CONFIGS[config]
    given, all_grads, masks = data(k, shapes)
    settings, grad_scale = settings_of(stages, given, masks)
    reference = Staged(rule, given, **{**hyperparameters, **settings})
    afters, norms = [wanted(reference)], [None]
    for grads in all_grads:
        copies = {name: None if grad is None else grad.copy() for name, grad in grads.items()}
        norms.append(reference.step(copies, grad_scale))
        afters.append(wanted(reference))
    wrong = []
    for count in threads:
        params, grads_now, _ = data(k, shapes)
        settings, _ = settings_of(stages, params, masks)
        what = f"{config} {' + '.join(stages)} threads {count}"
        optimizer = ss.optim.REGISTRY[rule](params, **{**hyperparameters, **settings})
        with ss.threads(count):
            wrong += differences(
                f"{what} at the start", everything(optimizer, params, settings.get("shadow")), afters[0]
            )
            for t, grads in enumerate(grads_now):
                before = {name: grad.copy() for name, grad in grads.items() if grad is not None}
                info = optimizer.step(grads, grad_scale)
                after = everything(optimizer, params, settings.get("shadow"))
                wrong += differences(f"{what} step {t + 1}", after, afters[t + 1])
                if "zero_grads" in stages:
                    before = {name: np.zeros_like(grad) for name, grad in before.items()}
                present = {name: grad for name, grad in grads.items() if grad is not None}
                wrong += differences(f"{what} gradients {t + 1}", present, before)
                if info.grad_norm != norms[t + 1]:
                    wrong.append(f"{what} step {t + 1}: norm {info.grad_norm!r}, not {norms[t + 1]!r}")
    return wrong, afters[-1]


def alone(stage: str) -> dict[str, Any]:
    """A stage by itself under several rules; it does something that no stage does not."""
    wrong = []
    for k, config in enumerate(("sgd", "sgd-momentum", "adamw", "adam-amsgrad")):
        lines, ended = compare(config, (stage,), k)
        wrong += lines
        _, plain = compare(config, (), k)
        others = ("zero_grads", "ema", "shadow-bfloat16", "shadow-float16", "shadow-arrays")
        changed = any(x.dtype != ended[name].dtype or different(x, ended[name]).size for name, x in plain.items())
        if changed != (stage not in others) and (config, stage) != ("sgd", "state-bfloat16"):
            wrong.append(f"{config} {stage}: does {'something' if changed else 'nothing'}")
    return {"wrong": wrong}


def pairs(stage: str) -> dict[str, Any]:
    """The stage with each of those after it."""
    wrong, count = [], 0
    for i, (first, second) in enumerate(combinations(STAGES, 2)):
        if first == stage and compatible(first, second):
            wrong += compare(("sgd-momentum", "adamw")[i % 2], (first, second), i)[0]
            count += 1
    return {"wrong": wrong, "count": count}


def together(which: str) -> dict[str, Any]:
    """All stages at once under every configuration."""
    wrong = []
    for k, config in enumerate(CONFIGS):
        stages = tuple(
            stage for stage in TOGETHER[which] if stage != "maximize" or "maximize" not in CONFIGS[config][1]
        )
        wrong += compare(config, stages, k)[0]
    return {"wrong": wrong}


def large(which: str) -> dict[str, Any]:
    """Around the chunk and on several threads; the units are longer than a block, than a chunk, and short."""
    from stepsmith._core import CHUNK

    shapes = [(CHUNK + 1,), (2, CHUNK + 1), (41, 26, 37), (CHUNK - 1,), (700, 5), (CHUNK,), (3 * CHUNK + 1,)]
    k = list(TOGETHER).index(which)
    wrong, _ = compare(("adamw", "sgd-momentum")[k % 2], TOGETHER[which], k, THREADS, shapes)
    return {"wrong": wrong, "ran": last_threads()}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"alone {stage}": lambda stage=stage: alone(stage) for stage in STAGES},
    **{f"pairs {stage}": lambda stage=stage: pairs(stage) for stage in list(STAGES)[:-1]},
    **{f"together {which}": lambda which=which: together(which) for which in TOGETHER},
    **{f"large {which}": lambda which=which: large(which) for which in TOGETHER},
}
