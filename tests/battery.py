"""Comparisons with the oracle that must run in a process of their own, since the CPU level is chosen at import.

``python battery.py SUITE`` prints one JSON line for each part: what was compared, what differed, what ran.
"""

import ctypes
import importlib
import json
import mmap
import platform
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from helpers import Array, different, flat_state, misaligned, offset, values
from reference import Reference
from reference_codes import MOMENTLESS
from reference_storage import BFLOAT16, DTYPES

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("sgd", {"lr": 0.05}),
    "sgd-weight-decay": ("sgd", {"lr": 0.05, "weight_decay": 0.1}),
    "sgd-momentum": ("sgd", {"lr": 0.05, "momentum": 0.9}),
    "sgd-dampening": ("sgd", {"lr": 0.05, "momentum": 0.8, "dampening": 0.3}),
    "sgd-nesterov": ("sgd", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.02}),
    "sgd-maximize": ("sgd", {"lr": 0.05, "momentum": 0.7, "weight_decay": 0.3, "maximize": True}),
    "adam": ("adam", {"lr": 0.01}),
    "adam-weight-decay": ("adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.2}),
    "adam-decoupled": ("adam", {"lr": 0.03, "weight_decay": 0.2, "decoupled_weight_decay": True}),
    "adam-amsgrad": ("adam", {"lr": 0.01, "betas": (0.9, 0.7), "amsgrad": True}),
    "adam-maximize": ("adam", {"lr": 0.02, "weight_decay": 0.1, "maximize": True}),
    "adamw": ("adamw", {"lr": 0.01}),
    "adamw-amsgrad": ("adamw", {"lr": 0.01, "betas": (0.9, 0.7), "weight_decay": 0.3, "amsgrad": True}),
    "adamw-maximize": ("adamw", {"lr": 0.02, "betas": (0.0, 0.5), "maximize": True}),
    "adagrad": ("adagrad", {"lr": 0.05, "lr_decay": 0.2, "weight_decay": 0.1}),
    "adagrad-initial": ("adagrad", {"lr": 0.05, "initial_accumulator_value": 0.3, "maximize": True}),
    "rmsprop": ("rmsprop", {"lr": 0.01, "alpha": 0.9, "weight_decay": 0.1}),
    "rmsprop-centered": ("rmsprop", {"lr": 0.01, "alpha": 0.7, "centered": True, "maximize": True}),
    "rmsprop-momentum": ("rmsprop", {"lr": 0.01, "momentum": 0.8, "eps_inside_sqrt": True}),
    "rmsprop-all": (
        "rmsprop",
        {"lr": 0.01, "alpha": 0.8, "momentum": 0.5, "centered": True, "eps_inside_sqrt": True, "eps": 1e-4},
    ),
    "adadelta": ("adadelta", {"lr": 0.7}),
    "adadelta-weight-decay": ("adadelta", {"lr": 0.7, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    "adamax": ("adamax", {"lr": 0.02}),
    "adamax-weight-decay": ("adamax", {"lr": 0.02, "betas": (0.8, 0.5), "weight_decay": 0.1, "maximize": True}),
    "nadam": ("nadam", {"lr": 0.01, "weight_decay": 0.1, "momentum_decay": 0.1}),
    "nadam-decoupled": ("nadam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    "radam": ("radam", {"lr": 0.01, "weight_decay": 0.1, "maximize": True}),
    "radam-rectified": ("radam", {"lr": 0.01, "betas": (0.9, 0.9999), "weight_decay": 0.1}),
    "radam-decoupled": ("radam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "rprop": ("rprop", {"lr": 0.01}),
    "rprop-clamped": ("rprop", {"lr": 0.01, "etas": (0.3, 1.7), "step_sizes": (0.008, 0.012), "maximize": True}),
    "asgd": ("asgd", {"lr": 0.05, "lambd": 0.1, "weight_decay": 0.1}),
    "asgd-averaging": ("asgd", {"lr": 0.05, "lambd": 0.01, "alpha": 0.5, "t0": 0.0, "maximize": True}),
    "lion": ("lion", {"lr": 0.01}),
    "lion-weight-decay": ("lion", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1, "maximize": True}),
    "ademamix": ("ademamix", {"lr": 0.01, "weight_decay": 0.1}),
    "ademamix-warm-up": ("ademamix", {"lr": 0.01, "alpha": 3.0, "T_alpha_beta3": 4, "maximize": True}),
    "schedulefree": ("schedulefree_adamw", {"lr": 0.01}),
    "schedulefree-warm-up": (
        "schedulefree_adamw",
        {"lr": 0.01, "weight_decay": 0.1, "warmup_steps": 3, "r": 0.5, "weight_lr_power": 1.0, "maximize": True},
    ),
    "adan": ("adan", {"lr": 0.01, "weight_decay": 0.1}),
    "lamb": ("lamb", {"lr": 0.01}),
    "lamb-maximize": ("lamb", {"lr": 0.02, "betas": (0.8, 0.9), "weight_decay": 0.0, "maximize": True}),
    "lars": ("lars", {"lr": 5.0, "weight_decay": 0.1}),
    "lars-nesterov": ("lars", {"lr": 9.0, "momentum": 0.5, "nesterov": True, "trust_coefficient": 0.01}),
    "adafactor": ("adafactor", {"lr": 0.1, "weight_decay": 0.1}),
    "adafactor-eps": ("adafactor", {"lr": 0.1, "eps": (1e-4, 0.1), "d": 0.3, "beta2_decay": -0.5, "maximize": True}),
    "adan-decoupled": ("adan", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
}
# The rectification begins with step 6.
STEPS = {"radam-rectified": 7}
# Compared over all pairs of dtypes at all thread counts; the others over some that differ from one to the next.
THOROUGH = [config for config, (rule, _) in CONFIGS.items() if rule in {"sgd", "adam", "adamw"}]
THREADS = (1, 2, 3, 7)
# Every level's tile of float32 and float64 and one less and more; 128 elements are staged at a time.
SMALL = (0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257)
PAIRS = [(param, grad) for param in DTYPES for grad in DTYPES]
REDUCTIONS = ("sum", "sum_abs", "sum_squares", "max_abs")
REDUCED = (0, 1, 127, 128, 129, 4095, 4096, 4097, 98305, 524289)
REDUCED_LARGE = 16777217

Data = tuple[dict[str, Array], list[dict[str, Array]]]


def compare(config: str, state_dtype: str, data: Data, threads: int, want: list[Any], **settings: Any) -> list[str]:
    """Steps as the oracle did; what differs, in words."""
    import stepsmith as ss

    rule, hyperparameters = CONFIGS[config]
    given, all_grads = data
    params = {name: relaid(param) for name, param in given.items()}
    options = {**hyperparameters, **settings}
    optimizer = ss.optim.REGISTRY[rule](params, state_dtype=state_dtype, on_nonfinite="propagate", **options)
    wrong = []
    with ss.threads(threads):
        for t, grads in enumerate(all_grads):
            optimizer.step(grads)
            params_want, state_want = want[t]
            for name, param in params.items():
                pairs = [(name, param, params_want[name])]
                state, wanted = flat_state(optimizer.state[name]), flat_state(state_want[name])
                pairs += [(f"{name} {slot}", x, wanted[slot]) for slot, x in state.items()]
                for what, got, right in pairs:
                    bad = different(got, right)
                    if bad.size:
                        first = f"{got.reshape(-1)[bad[0]]!r}, not {right.reshape(-1)[bad[0]]!r}"
                        wrong.append(f"{config} {what} step {t + 1} threads {threads} at {bad[0]}: {first}")
    return wrong


def oracle(config: str, state_dtype: str, data: Data, **settings: Any) -> list[Any]:
    rule, hyperparameters = CONFIGS[config]
    reference = Reference(rule, data[0], state_dtype, **{**hyperparameters, **settings})
    after = []
    for grads in data[1]:
        reference.step(grads)
        after.append((dict(reference.params), {name: dict(row) for name, row in reference.state.items()}))
    return after


def relaid(param: Array) -> Array:
    """A copy that is misaligned where the original is."""
    return param.copy() if param.flags.aligned else misaligned(param)


def moved(data: Data, want: list[Any]) -> bool:
    """Every parameter of some length changed somewhere."""
    last = want[-1][0]
    return all(param.size < 64 or different(last[name], param).size > 0 for name, param in data[0].items())


def small_data(steps: int = 3) -> Data:
    """All sizes and dtype pairs in one list, in turn plain, offset, and misaligned on either side."""
    rng = np.random.default_rng(11)
    params, grads = {}, [{} for _ in range(steps)]
    for p, g in PAIRS:
        for k, n in enumerate(SMALL):
            name = f"{p}-{g}-{n}"
            way = (k + len(params)) % 4
            params[name] = (np.copy, misaligned, offset, np.copy)[way](values(rng, n, DTYPES[p]) + DTYPES[p].type(1))
            for t in range(steps):
                grads[t][name] = (np.copy, misaligned, offset, misaligned)[way](values(rng, n, DTYPES[g]))
    return params, grads


def large_data(p: str, g: str, chunk: int, steps: int = 2) -> Data:
    """Around the chunk: in one list, so that pieces end inside and between tensors."""
    rng = np.random.default_rng([13, len(p), len(g)])
    pool_p, pool_g = values(rng, 4 * chunk, DTYPES[p]), values(rng, 5 * chunk, DTYPES[g])
    sizes = {"chunk-1": chunk - 1, "one": 1, "chunk": chunk, "chunk+1": chunk + 1, "3chunk+1": 3 * chunk + 1}
    params = {name: pool_p[k : k + n].copy() for k, (name, n) in enumerate(sizes.items())}
    params["misaligned"] = misaligned(pool_p[9 : 9 + chunk + 3])
    params["misaligned grad"] = pool_p[7 : 7 + chunk // 2 + 5].copy()
    params["offset"] = offset(pool_p[5 : 5 + chunk // 2 + 1])
    grads = []
    for t in range(steps):
        row = {name: pool_g[101 * t + k :][: param.size].copy() for k, (name, param) in enumerate(params.items())}
        row["misaligned grad"] = misaligned(row["misaligned grad"])
        row["offset"] = offset(row["offset"])
        grads.append(row)
    return params, grads


def small_sizes(config: str) -> dict[str, Any]:
    data = small_data(STEPS.get(config, 3))
    return {"wrong": small("float32", config, data) + small("bfloat16", config, data) + small_coded(config, data)}


def small(state_dtype: str, config: str, data: Data, **settings: Any) -> list[str]:
    want = oracle(config, state_dtype, data, **settings)
    assert moved(data, want)
    wrong = compare(config, state_dtype, data, 7, want, **settings)
    assert last_threads() == 1, "a step under 64 Ki elements runs on the caller"
    return wrong


def small_coded(config: str, data: Data, all_pairs: bool = False) -> list[str]:
    """Codes become float32 whatever the dtypes are: four pairs of them, four others for the next configuration."""
    if CONFIGS[config][0] in MOMENTLESS:
        return []
    nth, wrong = list(CONFIGS).index(config), []
    for k, state_dtype in enumerate(("int8", "float8")):
        some = data if all_pairs else of_pairs(data, [PAIRS[4 * p + (p + nth + k) % 4] for p in range(4)])
        wrong += small(state_dtype, config, some, min_8bit_size=0)
    return wrong


def of_pairs(data: Data, pairs: list[tuple[str, str]]) -> Data:
    names = [name for name in data[0] if tuple(name.split("-")[:2]) in pairs]
    return {name: data[0][name] for name in names}, [{name: grads[name] for name in names} for grads in data[1]]


def all_coded(config: str) -> dict[str, Any]:
    return {"wrong": small_coded(config, small_data(STEPS.get(config, 3)), all_pairs=True)}


def chunk_sizes(config: str, thorough: bool) -> dict[str, Any]:
    """The state's dtype alternates from pair to pair and from configuration to configuration."""
    from stepsmith._core import CHUNK

    wrong, threads = [], set()
    nth = list(CONFIGS).index(config)
    for k, (p, g) in enumerate(PAIRS):
        if not thorough and (k - 5 * nth) % len(PAIRS) not in {0, 6}:
            continue
        state_dtype = ("float32", "bfloat16")[(k + k // 4 + nth) % 2]
        data = large_data(p, g, CHUNK, STEPS.get(config, 2))
        want = oracle(config, state_dtype, data)
        assert moved(data, want)
        for count in threads_of(config, thorough):
            wrong += [f"{p} {g} {line}" for line in compare(config, state_dtype, data, count, want)]
            threads.add((count, last_threads()))
    return {"wrong": wrong, "threads": sorted(threads)}


def threads_of(config: str, thorough: bool) -> tuple[int, ...]:
    return THREADS if thorough else THREADS[list(CONFIGS).index(config) % 2 :: 2]


def long_chunks() -> dict[str, Any]:
    """More elements than 64 chunks: the chunks grow."""
    from stepsmith._core import CHUNK

    rng, n = np.random.default_rng(17), 67 * CHUNK + 1
    data = {"w": values(rng, n, np.float32)}, [{"w": values(rng, n, BFLOAT16)}]
    want = oracle("adamw", "float32", data)
    return {"wrong": compare("adamw", "float32", data, 3, want) + compare("adamw", "float32", data, 1, want)}


def special_values() -> dict[str, Any]:
    """NaN, infinities, zeros of both signs, denormals, the largest numbers: each in each place of a tile and a tail."""
    wrong = []
    tiny = {"f32": 2.0**-149, "f64": 5e-324, "bf16": 2.0**-133, "f16": 2.0**-24}
    for p, g in PAIRS:
        specials = [np.nan, np.inf, -np.inf, 0.0, -0.0, tiny[p], -3 * tiny[p], 1e-39, -1e-41, 6e4, -3e38, 1.0]
        with np.errstate(all="ignore"):
            x = np.array(specials).astype(np.float64 if p == "f64" else np.float32).astype(DTYPES[p])
            y = np.array([*specials[:5], tiny[g], -3 * tiny[g], *specials[7:]])
            y = y.astype(np.float64 if g == "f64" else np.float32).astype(DTYPES[g])
        data = {"w": np.repeat(x, x.size)}, [{"w": np.tile(y, y.size)}, {"w": np.tile(y[::-1], y.size)}]
        for config in CONFIGS:
            for state_dtype in ("float32", "bfloat16"):
                want = oracle(config, state_dtype, data)
                assert moved(data, want)
                wrong += [f"{p} {g} {line}" for line in compare(config, state_dtype, data, 1, want)]
    return {"wrong": wrong}


# Somebody else's flush-to-zero.


class Mxcsr:
    """Loads and stores the control word of SSE by eight bytes of machine code."""

    FLUSH = 0x9FC0  # flush to zero, denormals are zero, every exception masked

    def __init__(self) -> None:
        self.page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self.page.write(
            bytes([0x0F, 0xAE, 0x17, 0xC3, 0x0F, 0xAE, 0x1F, 0xC3])
        )  # ldmxcsr [rdi]; ret; stmxcsr [rdi]; ret
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.page))
        function = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint32))
        self._load, self._store = function(address), function(address + 4)

    def get(self) -> int:
        word = ctypes.c_uint32()
        self._store(word)
        return word.value

    def set(self, value: int) -> None:
        self._load(ctypes.c_uint32(value))

    @contextmanager
    def flushing(self) -> Iterator[None]:
        """Denormals are zero inside; what runs inside must leave it so."""
        before = self.get()
        self.set(self.FLUSH)
        try:
            assert np.float32(1e-40) * np.float32(1.0) == 0.0, "denormals are flushed here"
            self.set(self.FLUSH)
            yield
            after = self.get()
        finally:
            self.set(before)
        # The low six bits only record what happened.
        assert after & ~0x3F == self.FLUSH, f"the caller's MXCSR became {after:#x}"


def tiny_data(n: int, dtype: str) -> Data:
    """Normal and denormal numbers whose products and sums are denormal."""
    rng = np.random.default_rng(19)
    scale = 1e-308 if dtype == "f64" else 1e-38
    x = (scale * rng.standard_normal((3, n)) * 2.0 ** rng.integers(-14, 3, (3, n))).astype(DTYPES[dtype])
    return {"w": x[0]}, [{"w": x[1]}, {"w": x[2]}]


def flush_to_zero() -> dict[str, Any]:
    """Comes first: the pool's threads start inside and inherit the setting."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        return {"skipped": True}
    import stepsmith as ss
    from stepsmith import _core

    mxcsr, wrong = Mxcsr(), []
    ran = set()
    for dtype in ("f32", "f64", "bf16"):
        for n in (7 * _core.CHUNK + 5, 129):
            data = tiny_data(n, dtype)
            for config, settings in (("sgd-momentum", {}), ("adamw", {"eps": 1e-30}), ("adam-amsgrad", {"eps": 1e-30})):
                want = oracle(config, "float32", data, **settings)
                assert moved(data, want)
                for threads in (7, 1):
                    with mxcsr.flushing():
                        wrong += compare(config, "float32", data, threads, want, **settings)
                        ran.add(last_threads())
            total = _core.reduce("test", ["w"], [data[0]["w"]], "sum_abs")
            with mxcsr.flushing(), ss.threads(7):
                flushed = _core.reduce("test", ["w"], [data[0]["w"]], "sum_abs")
            if not total == flushed > 0:
                wrong.append(f"{dtype} sum {flushed!r}, not {total!r}")
    return {"wrong": wrong, "ran": sorted(ran)}


def flush_to_zero_scalars() -> dict[str, Any]:
    """Scalars and factors that are denormal in float32 are rounded, not flushed."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        return {"skipped": True}
    mxcsr, wrong = Mxcsr(), []
    grad, zero = np.linspace(-3, 3, 129, dtype=np.float32), np.zeros(129, np.float32)
    cases = {
        "lr": ("sgd", {"lr": 1e-39}, zero, grad),
        "weight_decay": ("sgd-weight-decay", {"weight_decay": 3e-40, "lr": 1.0}, grad, zero),
        "eps": ("adam", {"eps": 1e-40}, grad, zero),
    }
    for name, (config, settings, param, g) in cases.items():
        data = {"w": param}, [{"w": g}]
        want = oracle(config, "float32", data, **settings)
        assert np.isfinite(want[0][0]["w"]).all()
        with mxcsr.flushing():
            wrong += [f"{name}: {line}" for line in compare(config, "float32", data, 1, want, **settings)]
    import stepsmith as ss

    param = np.zeros(5, np.float32)
    with mxcsr.flushing():
        ss.optim.SGD([param], lr=1.0).step([np.ones(5, np.float32)], grad_scale=1e39)
    if not (param == -np.float32(1e-39)).all():
        wrong.append(f"grad_scale: {param!r}")
    return {"wrong": wrong}


# Reductions: the values, which the test compares with the oracle's.


def reduced_data(dtype: str, n: int) -> Array:
    """n elements; the large ones repeat a smaller pool."""
    return np.resize(values(np.random.default_rng(23), min(n, 1_000_003), DTYPES[dtype]), n)


def layouts(array: Array) -> dict[str, Array]:
    """The same logical array of three axes in other clothes."""
    strided = np.zeros(tuple(2 * n for n in array.shape), array.dtype)[::2, ::2, ::2]
    strided[...] = array
    negative = array[::-1, :, ::-1].copy()[::-1, :, ::-1]
    return {
        "contiguous": array.copy(),
        "fortran": np.asfortranarray(array),
        "transposed": array.transpose(1, 2, 0).copy().transpose(2, 0, 1),
        "strided": strided,
        "negative": negative,
        "misaligned": misaligned(array),
        "offset": offset(array),
    }


SHAPE = (23, 31, 131)


def reductions() -> dict[str, Any]:
    import stepsmith as ss
    from stepsmith import _core

    results, threads = {}, set()
    for dtype in DTYPES:
        for n in (*REDUCED, REDUCED_LARGE):
            array = reduced_data(dtype, n)
            kinds = REDUCTIONS if n < REDUCED_LARGE or dtype == "f32" else ("sum_squares",)
            for kind in kinds:
                for count in THREADS:
                    with ss.threads(count):
                        value = _core.reduce("test", ["x"], [array], kind)
                        results[f"{dtype} {n} {kind} {count}"] = value.hex()
                    threads.add((n, count, last_threads()))
        array = reduced_data(dtype, SHAPE[0] * SHAPE[1] * SHAPE[2]).reshape(SHAPE)
        for name, other in layouts(array).items():
            for kind in REDUCTIONS:
                results[f"{dtype} {name} {kind}"] = _core.reduce("test", ["x"], [other], kind).hex()
        row = np.broadcast_to(array[0, 0], (5, 7, SHAPE[2]))
        results[f"{dtype} broadcast"] = _core.reduce("test", ["x"], [row], "sum").hex()
        mixed = [array[0], array[1].astype(np.float64), array[2, :0], array[3].T]
        results[f"{dtype} mixed"] = _core.reduce("test", list("abcd"), mixed, "sum_squares").hex()
    return {"results": results, "threads": sorted(threads)}


def last_threads() -> int:
    from stepsmith import _core

    return _core.info()["last_threads"]


SUITES: dict[str, dict[str, Callable[[], dict[str, Any]]]] = {
    "bits": {
        "flush-to-zero": flush_to_zero,
        "flush-to-zero-scalars": flush_to_zero_scalars,
        **{f"small {config}": lambda config=config: small_sizes(config) for config in CONFIGS},
        **{f"chunk {config}": lambda config=config: chunk_sizes(config, config in THOROUGH) for config in CONFIGS},
        "long-chunks": long_chunks,
        "special-values": special_values,
    },
    "bits-all-pairs": {
        f"chunk {config}": lambda config=config: chunk_sizes(config, True)
        for config in CONFIGS
        if config not in THOROUGH
    },
    "bits-all-coded": {f"small {config}": lambda config=config: all_coded(config) for config in CONFIGS},
    "reduce": {"reductions": reductions},
}


MODULES = {"stages": "battery_stages", "digests": "battery_digests"}
"""Suites in files of their own, which import this one."""


def parts_of(suite: str) -> dict[str, Callable[[], dict[str, Any]]]:
    if suite in MODULES:
        return importlib.import_module(MODULES[suite]).PARTS
    return SUITES[suite]


def main(suite: str) -> None:
    from stepsmith import _core

    for part, run in parts_of(suite).items():
        try:
            report = run()
        except Exception:
            report = {"wrong": [traceback.format_exc()]}
        print(json.dumps({"part": part, "isa": _core.info()["isa"], **report}))


if __name__ == "__main__":
    main(sys.argv[1])
