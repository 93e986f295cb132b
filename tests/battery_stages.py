"""Comparisons of everything that is folded around a rule with its oracle: each stage, each pair, all of them at once.

Run by battery.py, a process for each CPU level.
"""

import math
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from itertools import combinations
from typing import Any

import numpy as np

from battery import CONFIGS, PAIRS, THREADS, Mxcsr, last_threads, layouts
from helpers import Array, different, flat_state, misaligned, offset, values
from reference_codes import MOMENTLESS
from reference_stages import SHADOWS, Staged
from reference_storage import DTYPES

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
    "state-int8": {"state_dtype": "int8", "min_8bit_size": 0},
    "state-float8": {"state_dtype": "float8", "min_8bit_size": 0},
    "state-int8-random": {"state_dtype": "int8", "min_8bit_size": 0, "state_rounding": "stochastic"},
    "state-float8-random": {"state_dtype": "float8", "min_8bit_size": 0, "state_rounding": "stochastic"},
    "maximize": {"maximize": True},
}
ALL = ("masks", "grad_scale", "clip_value", "norm", "agc", "ema", "shadow-arrays", "zero_grads", "state-bfloat16")
TOGETHER = {
    "stochastic": (*ALL, "stochastic"),
    "master": (*ALL, "master", "maximize"),
    "norm-1": tuple(stage if stage != "norm" else "norm-1" for stage in (*ALL, "stochastic")),
    "norm-inf": tuple(stage if stage != "norm" else "norm-inf" for stage in (*ALL, "master")),
    "int8": tuple(stage if stage != "state-bfloat16" else "state-int8" for stage in (*ALL, "stochastic")),
    "float8": tuple(stage if stage != "state-bfloat16" else "state-float8" for stage in (*ALL, "master")),
    "int8-random": (*(stage for stage in ALL if stage != "state-bfloat16"), "state-int8-random", "stochastic"),
    "float8-random": ("masks", "norm", "ema", "state-float8-random"),
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
        found |= {f"{name} {slot}": x for slot, x in flat_state(row).items()}
    if isinstance(shadow, dict):
        found |= {f"{name} shadow": x for name, x in shadow.items()}
    return found


def wanted(reference: Staged) -> dict[str, Array]:
    found = dict(reference.params)
    for name in reference.params:
        row = flat_state({**reference.state[name], **reference.copies[name]})
        found |= {f"{name} {slot}": x for slot, x in row.items()}
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


Made = tuple[Arrays, list[dict[str, Any]], Arrays]


def compare(
    config: str,
    stages: tuple[str, ...],
    make: Callable[[], Made],
    threads: tuple[int, ...] = (1,),
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
    **more: Any,
) -> tuple[list[str], dict[str, Array]]:
    """What differs from the oracle after each step, and what the oracle ended with."""
    import stepsmith as ss

    rule, hyperparameters = CONFIGS[config]
    given, all_grads, masks = make()
    settings, grad_scale = settings_of(stages, given, masks)
    reference = Staged(rule, given, **{**hyperparameters, **settings, **more})
    afters, norms = [wanted(reference)], [None]
    for grads in all_grads:
        norms.append(reference.step(grads, grad_scale))
        afters.append(wanted(reference))
    wrong = []
    for count in threads:
        params, grads_now, _ = make()
        settings, _ = settings_of(stages, params, masks)
        shadow = settings.get("shadow")
        what = f"{config} {' + '.join(stages)} threads {count}"
        with ss.threads(count), np.errstate(all="ignore"):
            optimizer = ss.optim.REGISTRY[rule](params, **{**hyperparameters, **settings, **more})
            wrong += differences(f"{what} at the start", everything(optimizer, params, shadow), afters[0])
            for t, grads in enumerate(grads_now):
                with around():
                    info = optimizer.step(grads, grad_scale)
                wrong += differences(f"{what} step {t + 1}", everything(optimizer, params, shadow), afters[t + 1])
                wrong += differences(f"{what} gradients {t + 1}", present(grads), present(all_grads[t]))
                if repr(info.grad_norm) != repr(norms[t + 1]):
                    wrong.append(f"{what} step {t + 1}: norm {info.grad_norm!r}, not {norms[t + 1]!r}")
    return wrong, afters[-1]


def present(grads: dict[str, Any]) -> Arrays:
    return {name: grad for name, grad in grads.items() if grad is not None}


def alone(stage: str) -> dict[str, Any]:
    """A stage by itself under several rules; it does something that no stage does not."""
    wrong = []
    for k, config in enumerate(("sgd", "sgd-momentum", "adamw", "adam-amsgrad")):
        lines, ended = compare(config, (stage,), partial(data, k))
        wrong += lines
        _, plain = compare(config, (), partial(data, k))
        others = ("zero_grads", "ema", "shadow-bfloat16", "shadow-float16", "shadow-arrays")
        changed = plain.keys() - ended.keys() or any(
            x.dtype != ended[name].dtype or different(x, ended[name]).size for name, x in plain.items()
        )
        if bool(changed) != (stage not in others) and (config, stage.partition("-")[0]) != ("sgd", "state"):
            wrong.append(f"{config} {stage}: does {'something' if changed else 'nothing'}")
    return {"wrong": wrong}


def pairs(stage: str) -> dict[str, Any]:
    """The stage with each of those after it."""
    wrong, count = [], 0
    for i, (first, second) in enumerate(combinations(STAGES, 2)):
        if first == stage and compatible(first, second):
            wrong += compare(("sgd-momentum", "adamw")[i % 2], (first, second), partial(data, i))[0]
            count += 1
    return {"wrong": wrong, "count": count}


def together(which: str) -> dict[str, Any]:
    """All stages at once under every configuration; of codes each has both kinds and both roundings, in two of four."""
    wrong, coded = [], {"int8": 0, "float8": 1, "int8-random": 1, "float8-random": 0}
    for k, config in enumerate(CONFIGS):
        if which in coded and (CONFIGS[config][0] in MOMENTLESS or k % 2 != coded[which]):
            continue
        stages = tuple(
            stage for stage in TOGETHER[which] if stage != "maximize" or "maximize" not in CONFIGS[config][1]
        )
        wrong += compare(config, stages, partial(data, k))[0]
    return {"wrong": wrong}


def large(which: str) -> dict[str, Any]:
    """Around the chunk and on several threads; the units are longer than a block, than a chunk, and short."""
    from stepsmith._core import CHUNK

    shapes = [(CHUNK + 1,), (2, CHUNK + 1), (41, 26, 37), (CHUNK - 1,), (700, 5), (CHUNK,), (3 * CHUNK + 1,)]
    k = list(TOGETHER).index(which)
    wrong, _ = compare(("adamw", "sgd-momentum")[k % 2], TOGETHER[which], partial(data, k, shapes), THREADS)
    return {"wrong": wrong, "ran": last_threads()}


def special_data() -> Made:
    """NaN, infinities, zeros of both signs, denormals, the largest numbers: each in each place of a tile and a tail."""
    params, masks = {}, {}
    grads: list[dict[str, Any]] = [{}, {}]
    for i, (p, g) in enumerate(PAIRS):
        specials = [np.nan, np.inf, -np.inf, 0.0, -0.0, 2.0**-24, -(2.0**-133), 1e-39, 6e4, 65519.0, -3e38, 1.0, 1.003]
        with np.errstate(all="ignore"):
            x, y = (np.array(specials, wide_type(key)).astype(DTYPES[key]) for key in (p, g))
        name, n = f"{p}-{g}", x.size
        params[name] = np.repeat(x, n).reshape(n, n)
        for t, order in enumerate((y, y[::-1])):
            grads[t][name] = np.tile(order, n).reshape(n, n)
        if i % 2:
            masks[name] = np.arange(n * n).reshape(n, n) % 3 != 0
    return params, grads, masks


def wide_type(dtype: str) -> type[np.floating[Any]]:
    return np.float64 if dtype == "f64" else np.float32


def special_values() -> dict[str, Any]:
    """Without a norm of all gradients, which would be NaN and so everything."""
    stages = ("masks", "grad_scale", "clip_value", "agc", "ema", "shadow-arrays", "zero_grads")
    wrong = []
    for config in ("sgd-momentum", "adam-amsgrad"):
        for k in range(len(stages) + 1):
            for more in (("stochastic",), ("master",), ("state-bfloat16",), ("state-int8",), ("state-float8",)):
                chosen = (*stages[:k], *stages[k + 1 :], *more)
                wrong += compare(config, chosen, special_data, on_nonfinite="propagate")[0]
    return {"wrong": wrong}


def tiny_data() -> Made:
    """Numbers whose products and sums are denormal in float32."""
    params, grads, masks = data(5)
    for x in (*params.values(), *(grad for row in grads for grad in present(row).values())):
        np.multiply(x, x.dtype.type(2.0**-120 if x.dtype != np.float64 else 2.0**-1040), out=x)
    return params, grads, masks


def flush_to_zero() -> dict[str, Any]:
    """Somebody else's setting does not reach a step, nor is it changed."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        return {"wrong": []}
    mxcsr, wrong = Mxcsr(), []
    for which in TOGETHER:
        wrong += compare("sgd-momentum", TOGETHER[which], tiny_data, (1,), mxcsr.flushing)[0]
    return {"wrong": wrong}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    **{f"alone {stage}": lambda stage=stage: alone(stage) for stage in STAGES},
    **{f"pairs {stage}": lambda stage=stage: pairs(stage) for stage in list(STAGES)[:-1]},
    **{f"together {which}": lambda which=which: together(which) for which in TOGETHER},
    **{f"large {which}": lambda which=which: large(which) for which in TOGETHER},
    "special-values": special_values,
    "flush-to-zero": flush_to_zero,
}
