"""Optimizers over arrays of the device: every bit as over arrays of the host."""

import itertools

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from battery import CONFIGS
from gpu_optim import LAYOUTS, SHAPES, Pair, drawn, same
from reference_codes import MOMENTLESS
from reference_storage import DTYPES

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
PAIRS = list(itertools.product(DTYPES.values(), DTYPES.values()))
FOLDED = {
    "nothing": {"on_nonfinite": "propagate"},
    "checked": {},
    "copies": {"ema": 0.9, "shadow": "bfloat16", "zero_grads": True},
    "clipped": {"clip_value": 0.7, "max_norm": 1.0, "on_nonfinite": "skip"},
    "rounded": {"rounding": "stochastic", "seed": 2**40 + 7, "max_norm": np.inf, "norm_type": 1},
    "int8": {"state_dtype": "int8", "min_8bit_size": 0, "state_rounding": "stochastic", "agc": 0.1},
    "float8": {"state_dtype": "float8", "min_8bit_size": 0, "ema": 0.5, "on_nonfinite": "propagate"},
    "master": {"master": True, "state_dtype": "bfloat16", "agc": 0.05, "max_norm": 2.0, "norm_type": np.inf},
}


def tensors(rng):
    """All shapes, each with some pair of dtypes and of layouts."""
    params, grads = {}, {}
    for k, (name, shape) in enumerate(SHAPES.items()):
        param, grad = PAIRS[(5 * k + rng.integers(16)) % 16]
        layouts = [LAYOUTS[rng.integers(len(LAYOUTS))] for _ in range(2)]
        params[name] = drawn(rng, shape, param, layouts[0])
        grads[name] = grad, layouts[1]
    return params, grads


def run(gpu, rule, settings, folded, seed, masked=False, steps=3):
    if rule in MOMENTLESS:
        folded = {key: value for key, value in folded.items() if key not in {"state_dtype", "state_rounding"}}
    rng = np.random.default_rng(seed)
    params, kinds = tensors(rng)
    masks = {name: rng.random(params[name].shape) < 0.7 for name in ("matrix", "long", "scalar")} if masked else None
    pair = Pair(gpu, rule, params, masks=masks, **settings, **folded)
    for t in range(steps):
        grads = {name: drawn(rng, params[name].shape, *kind) for name, kind in kinds.items()}
        if t == 1:
            grads["long"] = grads["axes"] = None
        there = pair.step(grads, grad_scale=(1.0, -3.0, 0.1)[t])
        if folded.get("zero_grads"):
            assert all(not there[name].get().any() for name in there if there[name] is not None)
    pair.compare()


# The file of each rule at one setting; the slow test has all settings.
SOME = {rule: config for config, (rule, _) in reversed(CONFIGS.items())}


@pytest.mark.parametrize("rule", SOME)
def test_a_rule_is_the_same_on_either_device(gpu, rule):
    names = list(FOLDED)
    k = list(SOME).index(rule)
    run(gpu, rule, CONFIGS[SOME[rule]][1], FOLDED[names[k % len(names)]], k)


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("folded", FOLDED)
def test_what_is_folded_around_a_rule_is_the_same(gpu, folded):
    run(gpu, "adamw", {"lr": 0.01, "amsgrad": True}, FOLDED[folded], 100 + len(folded), masked=True)


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("folded", FOLDED)
def test_every_setting_of_every_rule_is_the_same(gpu, config, folded):
    rule, settings = CONFIGS[config]
    for masked in (False, True):
        run(gpu, rule, settings, FOLDED[folded], len(config) + masked, masked)


@pytest.mark.parametrize(("param", "grad"), PAIRS)
def test_every_pair_of_dtypes_and_layouts_is_the_same(gpu, param, grad):
    rng = np.random.default_rng(3)
    ways = list(itertools.product(LAYOUTS, LAYOUTS))
    params = {f"{own} {other}": drawn(rng, (7, 39), param, own) for own, other in ways}
    pair = Pair(gpu, "adam", params, lr=0.01, on_nonfinite="propagate")
    for _ in range(2):
        pair.step({f"{own} {other}": drawn(rng, (7, 39), grad, other) for own, other in ways})
    pair.compare()


def test_views_of_one_buffer_and_gradients_of_one_number(gpu):
    rng = np.random.default_rng(5)
    buffer, there = rng.standard_normal((40, 12)), gpu.empty((40, 12))
    there[...] = gpu.asarray(buffer)
    parts = {"left": np.s_[:, :5], "right": np.s_[::-1, 5:], "row": np.s_[3:4, :0]}
    settings = {"lr": 0.1, "momentum": 0.9}
    host = ss.optim.SGD({name: buffer[part] for name, part in parts.items()}, **settings)
    device = ss.optim.SGD({name: there[part] for name, part in parts.items()}, **settings)
    for _ in range(2):
        row = rng.standard_normal(5).astype(np.float32)
        host.step({"left": np.broadcast_to(row, (40, 5)), "right": np.full((40, 7), 2.0), "row": np.zeros((1, 0))})
        wide = gpu.broadcast_to(gpu.asarray(row), (40, 5))
        device.step({"left": wide, "right": gpu.broadcast_to(gpu.asarray(2.0), (40, 7)), "row": gpu.zeros((1, 0))})
    assert there.get().tobytes() == buffer.tobytes()


def test_several_groups_schedules_and_missing_gradients(gpu):
    rng = np.random.default_rng(7)
    lr = ss.schedules.CosineAnnealing(0.1, T_max=9)
    params = {name: drawn(rng, (300,), np.float32) for name in "abcd"}
    for make in ("nadam", "schedulefree_adamw", "adam"):
        host, device = ({name: param.copy() for name, param in params.items()} for _ in range(2))
        device = {name: gpu.asarray(param) for name, param in device.items()}
        opts = [
            ss.optim.REGISTRY[make](
                [
                    {"params": {name: own[name] for name in "ab"}, "lr": lr},
                    {"params": {name: own[name] for name in "cd"}, "weight_decay": 0.1, "maximize": True},
                ],
                lr=0.02,
            )
            for own in (host, device)
        ]
        for t in range(12):
            grads = {name: drawn(rng, (300,), np.float32) for name in "abcd"}
            there = {name: gpu.asarray(grad) for name, grad in grads.items()}
            for name in "abcd"[: t % 3]:
                grads[name] = there[name] = None
            if t == 5:
                for opt in opts:
                    opt.groups[1]["lr"] = 0.5
            assert tuple(opts[0].step(grads)) == tuple(opts[1].step(there))
        for name in "abcd":
            assert device[name].get().tobytes() == host[name].tobytes(), (make, name)
        assert opts[0].state_dict()["steps"] == opts[1].state_dict()["steps"]


def test_gradients_of_plain_arrays_become_zero(gpu):
    rng = np.random.default_rng(15)
    pair = Pair(gpu, "adam", {"w": drawn(rng, (5000,), np.float32)}, zero_grads=True, on_nonfinite="propagate")
    there = pair.step({"w": drawn(rng, (5000,), np.float32)})
    assert not there["w"].get().any()
    pair.compare()


def test_what_lies_behind_the_last_code_has_no_scale(gpu):
    """The largest average becomes 0, the others are small: nothing else is left of the old scale."""
    pair = Pair(gpu, "adam", {"w": np.ones(5, np.float32)}, state_dtype="int8", min_8bit_size=0)
    for first in (100.0, -900.0, 1.0):
        pair.step({"w": np.array([first, 1, 1, 1, 1], np.float32)})
    pair.compare()


def test_muon_is_the_same_up_to_products_of_matrices(gpu):
    rng = np.random.default_rng(9)
    params = {"wide": drawn(rng, (8, 12), np.float32), "tall": drawn(rng, (9, 4), np.float64, "F")}
    pair = Pair(gpu, "muon", params, lr=0.1)
    for _ in range(3):
        pair.step({name: drawn(rng, param.shape, np.float32) for name, param in params.items()})
    for name, param in params.items():
        np.testing.assert_allclose(pair.there[name].get(), param, rtol=1e-4, atol=1e-6)
        same(pair.device.state[name]["momentum"].get(), pair.host.state[name]["momentum"], name)


@pytest.mark.parametrize("settings", [{}, {"state_dtype": "int8", "min_8bit_size": 0, "ema": 0.9, "zero_grads": True}])
def test_a_sweep_has_the_traffic_of_a_step_and_counts_nothing(gpu, settings):
    rng = np.random.default_rng(13)
    params, kinds = tensors(rng)
    pair = Pair(gpu, "adam", params, **settings)
    grads = {name: drawn(rng, params[name].shape, *kind) for name, kind in kinds.items()}
    pair.step(grads)
    there = pair.grads_there(grads)
    sweeps = pair.host.sweeper(grads), pair.device.sweeper(there)
    for _ in range(2):
        for sweep in sweeps:
            sweep()
    pair.compare()
    pair.host.bind(None)
    pair.step(grads)
    pair.compare()


def test_shadow_arrays_of_the_user(gpu):
    rng = np.random.default_rng(11)
    params = {"w": drawn(rng, (33, 5), np.float32)}
    pair = Pair(gpu, "sgd", params, lr=0.1, shadow={"w": np.zeros((33, 5), BFLOAT16)})
    for _ in range(2):
        pair.step({"w": drawn(rng, (33, 5), np.float32, "strided")})
    host, device = pair.host._arrays.shadow("w"), pair.device._arrays.shadow("w")
    assert device.get().tobytes() == host.tobytes() != bytes(host.nbytes)
