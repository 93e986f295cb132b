"""What is folded around a rule equals the oracle: each stage, pairs, all of them; a refused step changes nothing."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stepsmith as ss
from battery import CONFIGS, parts_of
from battery_stages import PARTS, STAGES, TOGETHER, compatible, differences, everything, settings_of, wanted
from helpers import assert_same_bits, different, values
from reference_codes import MOMENTLESS
from reference_stages import Staged
from reference_storage import DTYPES
from test_layouts import LAYOUTS

RNG = np.random.default_rng(89)


@pytest.mark.parametrize("part", PARTS)
def test_every_level_equals_the_oracle(battery, level, part) -> None:
    report = battery("stages", level)[part]
    assert report["wrong"] == []
    assert report["isa"] == level
    if "ran" in report:
        assert report["ran"] == 7, "as many threads took part as were asked for"


def test_every_pair_that_can_be_is_compared() -> None:
    assert parts_of("stages") is PARTS
    refused = [(a, b) for i, a in enumerate(STAGES) for b in list(STAGES)[i + 1 :] if not compatible(a, b)]
    assert len(refused) == 3 + 3 + 10 + 1, "three norms, three shadows, five states, master beside random rounding"
    assert all(compatible(*stages) for stages in TOGETHER.values())
    assert {stage for stages in TOGETHER.values() for stage in stages} >= set(STAGES) - {
        "shadow-bfloat16",
        "shadow-float16",
    }


# The unfused sequence: public functions one after another, then NumPy. float32, so that nothing is rounded in between.


@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("clip_value", [None, 0.5])
@pytest.mark.parametrize("max_norm", [None, 0.5, 1e9])
@pytest.mark.parametrize("config", ["sgd-nesterov", "adamw"])
def test_one_folded_step_equals_the_unfused_sequence(config, max_norm, clip_value, norm_type) -> None:
    rule, hyperparameters = CONFIGS[config]
    start = {"a": values(RNG, 70001, np.float32), "b": values(RNG, (9, 5), np.float32)}
    kept = {name: RNG.random(x.shape) < 0.7 for name, x in start.items()}
    folded, plain = ({name: x.copy() for name, x in start.items()} for _ in range(2))
    folds = {"clip_value": clip_value, "max_norm": max_norm, "norm_type": norm_type, "ema": 0.95}
    folds |= {"shadow": "float16", "zero_grads": True, "masks": kept}
    optimizer = ss.optim.REGISTRY[rule](folded, **hyperparameters, **folds)
    unfolded = ss.optim.REGISTRY[rule](plain, **hyperparameters)
    ema = {name: np.where(kept[name], x, np.float32(0)) for name, x in start.items()}
    for _ in range(3):
        grads = {name: values(RNG, x.shape, np.float32) for name, x in start.items()}
        masked = {name: np.where(kept[name], grad, np.float32(0)) for name, grad in grads.items()}
        info = optimizer.step(grads)
        if clip_value is not None:
            ss.clip_grad_value(masked, clip_value)
        if max_norm is not None:
            assert info.grad_norm == ss.clip_grad_norm(masked, max_norm, norm_type)
        unfolded.step(masked)
        for name, x in plain.items():
            x[~kept[name]] = 0
            for array in unfolded.state[name].values():
                array[~kept[name]] = 0
                assert array.base is not None, "a view of the optimizer's own"
            ema[name] += (x - ema[name]) * np.float32(1 - 0.95)
            assert_same_bits(folded[name], x, name)
            for slot, array in unfolded.state[name].items():
                assert_same_bits(optimizer.state[name][slot], array, f"{name} {slot}")
            assert_same_bits(optimizer.state[name]["ema"], ema[name], "ema")
            assert_same_bits(optimizer.state[name]["shadow"], x.astype(np.float16), "shadow")
            assert not grads[name].any()


# All or nothing.


def build(policy: str, **more):
    rng = np.random.default_rng(2)
    shapes = {"f32": (13, 7), "f64": 70001, "bf16": (3, 4099), "f16": ()}
    params = {name: np.asarray(values(rng, shape, DTYPES[name])) for name, shape in shapes.items()}
    masks = {name: np.asarray(rng.random(x.shape) < 0.6) for name, x in params.items()}
    masks["f16"] = np.array(True)
    for name in ("f32", "f64", "bf16"):
        masks[name].reshape(-1)[[5, -1]] = True
    shadow = {"f32": np.zeros((13, 7), np.float16)}
    stages = {"masks": masks, "clip_value": 1.0, "max_norm": 1.0, "agc": 0.1, "ema": 0.9, "shadow": shadow}
    stages |= {"zero_grads": True, "on_nonfinite": policy, **more}
    optimizer = ss.optim.AdamW(params, lr=0.1, **stages)
    optimizer.step({name: np.asarray(values(rng, x.shape, np.float32)) for name, x in params.items()})
    grads = {name: np.asarray(values(rng, x.shape, np.float64)) for name, x in params.items()}
    return params, grads, optimizer, shadow


def snapshot(optimizer, params, grads, shadow):
    arrays = {name: np.array(x) for name, x in everything(optimizer, params, shadow).items()}
    arrays |= {f"gradient of {name}": np.array(x) for name, x in grads.items()}
    numbers = optimizer._stepper.now(optimizer._partition.setting)
    return arrays, optimizer.state_dict()["steps"], optimizer.state_dict()["groups"], numbers


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("policy", ["skip", "raise"])
@pytest.mark.parametrize(
    "more", [{}, {"rounding": "stochastic"}, {"master": True}, {"clip_value": None}, {"max_norm": None}]
)
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e300])
@pytest.mark.parametrize("name", ["f32", "f64", "bf16", "f16"])
def test_a_refused_step_changes_nothing(name, bad, more, policy, bound) -> None:
    params, grads, optimizer, shadow = build(policy, **more)
    grads[name].reshape(-1)[-1 if grads[name].size < 100 else 5] = bad
    if (name, bad) == ("f64", 1e300) and "clip_value" not in more:
        return  # float64 can hold it
    before = snapshot(optimizer, params, grads, shadow)
    if bound:
        optimizer.bind(grads)
    if policy == "skip":
        assert optimizer.step(None if bound else grads)[:2] == (None, True)
    else:
        with pytest.raises(ss.NonFiniteError, match="must be finite, got"):
            optimizer.step(None if bound else grads)
    after = snapshot(optimizer, params, grads, shadow)
    assert differences("", after[0], before[0]) == []
    assert before[1:] == after[1:]
    for grad in grads.values():
        grad[...] = 1
    assert optimizer.step(None if bound else grads).step == 2
    assert different(everything(optimizer, params, shadow)["f32 ema"], before[0]["f32 ema"]).size > 0


# Anything.

names = {key: st.sampled_from(sorted(values)) for key, values in {"layout": LAYOUTS, "dtype": DTYPES}.items()}
shapes = st.one_of(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from([0, 1, 2, 15, 33, 64, 130])),
    st.tuples(st.integers(1, 5), st.just(1), st.sampled_from([127, 128, 129, 513])),
)


@st.composite
def tensors(draw):
    """Shape, dtype and layout of a parameter, dtype and layout of its gradient, which may be missing."""
    return (draw(shapes), *(draw(names[key]) for key in ("dtype", "layout") * 2), draw(st.integers(0, 3)) == 0)


def check_any(config, stages, listed, seed, grad_scale) -> None:
    rule, hyperparameters = CONFIGS[config]
    chosen: tuple[str, ...] = ()
    for stage in stages:
        if compatible(*chosen, stage) and not STAGES[stage].keys() & {*hyperparameters, "grad_scale"}:
            chosen += (stage,)
    rng = np.random.default_rng(seed)
    params = {str(k): LAYOUTS[layout](values(rng, shape, DTYPES[p])) for k, (shape, p, layout, *_) in enumerate(listed)}
    sizes = {param.dtype.itemsize for param in params.values()}
    for stage, needs in (("master", {2}), ("stochastic", {2}), ("shadow-bfloat16", {4, 8}), ("shadow-float16", {4, 8})):
        if stage in chosen and not needs & sizes:
            chosen = tuple(x for x in chosen if x != stage)
    if rule in MOMENTLESS:
        chosen = tuple(x for x in chosen if not x.startswith(("state-int8", "state-float8")))
    masks = {name: rng.random(x.shape) < 0.6 for name, x in params.items() if rng.random() < 0.8}
    folds, _ = settings_of(chosen, params, masks)
    reference = Staged(rule, params, **{**hyperparameters, **folds})
    if folds.get("shadow") == {}:
        del folds["shadow"]
    optimizer = ss.optim.REGISTRY[rule](params, **{**hyperparameters, **folds})
    for step in range(2):
        grads = {
            str(k): None if missing and step else LAYOUTS[layout](values(rng, shape, DTYPES[g]))
            for k, (shape, _, _, g, layout, missing) in enumerate(listed)
        }
        copies = {name: None if grad is None else grad.copy() for name, grad in grads.items()}
        assert optimizer.step(grads, grad_scale).grad_norm == reference.step(copies, grad_scale)
        for name, grad in grads.items():
            if grad is not None:
                assert_same_bits(grad, copies[name])
    assert differences(str(chosen), everything(optimizer, params, folds.get("shadow")), wanted(reference)) == []


anything = given(
    config=st.sampled_from(sorted(CONFIGS)),
    stages=st.lists(st.sampled_from(sorted(STAGES)), unique=True, max_size=len(STAGES)),
    listed=st.lists(tensors(), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
    grad_scale=st.sampled_from([1.0, -3.0, 1024.0, 0.1]),
)
patient = [HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=800, deadline=None, suppress_health_check=patient, derandomize=True)
@anything
def test_any_stages_equal_the_oracle(config, stages, listed, seed, grad_scale) -> None:
    check_any(config, stages, listed, seed, grad_scale)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=patient)
@anything
def test_any_stages_equal_the_oracle_many_times(config, stages, listed, seed, grad_scale) -> None:
    check_any(config, stages, listed, seed, grad_scale)
