"""Pruned weights: exactly zero with all that is theirs, whatever their gradients; the others as without a mask."""

import math

import numpy as np
import pytest

import stepsmith as ss
from battery import CONFIGS
from helpers import assert_same_bits, different, values
from reference_rules import EXACT, SHARED
from reference_stages import Staged
from reference_storage import DTYPES

RNG = np.random.default_rng(83)
SHAPES = {"f32": (13, 11, 5), "f64": (700,), "bf16": (4, 129), "f16": ()}


def build(seed: int = 1):
    rng = np.random.default_rng(seed)
    params = {name: values(rng, shape, DTYPES[name]) + DTYPES[name].type(1) for name, shape in SHAPES.items()}
    params = {name: np.asarray(x, DTYPES[name]) for name, x in params.items()}
    masks = {name: np.asarray(rng.random(shape) < 0.5) for name, shape in SHAPES.items()}
    grads = {name: values(rng, shape, np.float32) for name, shape in SHAPES.items()}
    return params, masks, grads


def assert_zero_where_pruned(optimizer, masks) -> None:
    for name, mask in masks.items():
        own = [x for slot, x in optimizer.state[name].items() if slot not in SHARED]
        for x in (optimizer.params[name], *own):
            assert (x[~mask].view(f"u{x.itemsize}") == 0).all(), "+0.0"


@pytest.mark.parametrize("config", CONFIGS)
def test_pruned_weights_are_zero_and_the_others_as_without_a_mask(config) -> None:
    """Rules that measure whole tensors see the zeros: their other weights differ."""
    rule, settings = CONFIGS[config]
    alone = rule not in EXACT
    params, masks, grads = build()
    masks["f16"] = np.array(False)
    for name, mask in masks.items():
        params[name][~mask] *= -1
        grads[name][~mask] *= 1e20
    free = {name: x.copy() for name, x in params.items()}
    optimizer = ss.optim.REGISTRY[rule](params, masks=masks, ema=0.5, **settings)
    other = ss.optim.REGISTRY[rule](free, ema=0.5, **settings)
    for _ in range(3):
        optimizer.step(grads)
        other.step(grads)
        assert_zero_where_pruned(optimizer, masks)
    for name, mask in masks.items() if alone else ():
        assert_same_bits(params[name][mask], free[name][mask])
        for slot, x in optimizer.state[name].items():
            assert_same_bits(x[mask], other.state[name][slot][mask], slot)


@pytest.mark.parametrize("bound", [False, True])
def test_masks_change_between_steps(bound) -> None:
    params, masks, grads = build()
    settings = {"lr": 0.1, "max_norm": 1.0, "ema": 0.8}
    reference = Staged("adamw", params, masks=masks, **settings)
    optimizer = ss.optim.AdamW(params, masks=masks, **settings)
    if bound:
        optimizer.bind(grads)
    fewer = {name: np.asarray(mask & (RNG.random(mask.shape) < 0.5)) for name, mask in masks.items()}
    some = {"f64": ~masks["f64"], "f32": masks["f32"]}
    for now in (masks, fewer, None, some, {}):
        if now is not masks:
            before = {name: x.copy() for name, x in params.items()}
            optimizer.set_masks(now)
            reference.masks = now or {}
            for name, x in params.items():
                assert_same_bits(x, before[name], "nothing happens before the step")
        info = optimizer.step() if bound else optimizer.step(grads)
        assert info.grad_norm == reference.step(grads)
        assert_zero_where_pruned(optimizer, now or {})
        for name, x in params.items():
            assert_same_bits(x, reference.params[name], name)
            assert_same_bits(optimizer.state[name]["ema"], reference.copies[name]["ema"], name)
    assert ((params["f64"] != 0) | (grads["f64"] == 0)).all(), "pruned weights that come back start from zero and move"


@pytest.mark.parametrize("settings", [{}, {"max_norm": 1.0}, {"agc": 0.1}, {"clip_value": 1.0, "max_norm": 2.0}])
def test_what_stands_under_a_pruned_weight_is_ignored(settings) -> None:
    params, masks, grads = build()
    masks["f16"] = np.array(False)
    other = {name: x.copy() for name, x in params.items()}
    bad = {name: grad.copy() for name, grad in grads.items()}
    for name, mask in masks.items():
        bad[name][~mask] = RNG.choice([math.nan, math.inf, -math.inf, 3e38], (~mask).sum())
    infos = []
    for these, gradients in ((params, grads), (other, bad)):
        optimizer = ss.optim.AdamW(these, lr=0.1, masks=masks, **settings)
        infos.append([optimizer.step(gradients) for _ in range(2)])
        assert_zero_where_pruned(optimizer, masks)
    assert infos[0] == infos[1]
    for name, x in params.items():
        assert_same_bits(x, other[name], name)
        assert np.isfinite(x.astype(np.float64)).all()


def test_a_bad_gradient_of_a_kept_weight_is_named_behind_pruned_ones() -> None:
    params, masks, grads = build()
    masks["f32"][...] = False
    masks["f32"][7, 3, 2] = True
    grads["f32"][...] = math.nan
    with pytest.raises(ss.NonFiniteError, match=r"grads\['f32'\] must be finite, got nan at index \[7, 3, 2\]$"):
        ss.optim.SGD(params, masks=masks).step(grads)


def test_masks_are_copied_and_may_have_any_layout() -> None:
    kept = RNG.random((13, 9)) < 0.5
    wide = np.zeros((13, 18), bool)
    wide[:, ::2] = kept
    for mask in (kept.copy(), np.asfortranarray(kept), wide[:, ::2], kept[::-1].copy()[::-1]):
        param = np.ones((13, 9), np.float32)
        optimizer = ss.optim.SGD({"w": param}, masks={"w": mask})
        mask[...] = False
        optimizer.step([np.ones_like(param)])
        assert ((param != 0) == kept).all()
    param = np.ones((13, 9), np.float32)
    row = np.arange(9) % 2 == 0
    ss.optim.SGD({"w": param}, masks={"w": np.broadcast_to(row, param.shape)}).step([np.ones_like(param)])
    assert ((param != 0) == row).all()


def test_a_tensor_without_a_gradient_stays_even_where_it_is_pruned() -> None:
    params, masks, grads = build()
    before = params["f64"].copy()
    ss.optim.SGD(params, masks=masks).step({**grads, "f64": None})
    assert_same_bits(params["f64"], before)
    assert different(params["f32"], build()[0]["f32"]).size > 0


def test_masks_are_shown_as_copies() -> None:
    params, masks, _ = build()
    del masks["f64"]
    optimizer = ss.optim.SGD(params, masks=masks)
    assert list(optimizer.masks) == list(masks)
    for name, mask in masks.items():
        assert_same_bits(optimizer.masks[name], mask)
        optimizer.masks[name][...] = True
        assert_same_bits(optimizer.masks[name], mask)
    optimizer.set_masks(None)
    assert optimizer.masks == {}


CHANGED = [(config, {}) for config in CONFIGS] + [
    ("adamw", {"state_dtype": "int8", "min_8bit_size": 0}),
    ("adamw", {"state_dtype": "float8", "min_8bit_size": 0}),
    ("sgd-momentum", {"state_dtype": "bfloat16", "shadow": "bfloat16"}),
    ("adamw", {"master": True}),
]


@pytest.mark.parametrize(("config", "more"), CHANGED, ids=str)
def test_weights_pruned_at_once_are_zero_before_the_next_step_and_after_it(config, more) -> None:
    """All that is not pruned stays as it is until then, and so do means over axes."""
    rule, settings = CONFIGS[config]
    params, masks, grads = build()
    optimizer = ss.optim.REGISTRY[rule](params, ema=0.5, **settings, **more)
    for _ in range(2):
        optimizer.step(grads)
    before = {name: {"": params[name].copy(), **decoded(optimizer.state[name])} for name in params}
    optimizer.set_masks(masks, at_once=True)
    for name, mask in masks.items():
        for slot, x in {"": params[name], **decoded(optimizer.state[name])}.items():
            kept = np.ones_like(x, bool) if slot in SHARED else mask
            assert_same_bits(x[kept], before[name][slot][kept], slot)
            assert (x[~kept].view(f"u{x.itemsize}") == 0).all(), slot
        grads[name][~mask] = math.nan
    optimizer.step(grads)
    for name, mask in masks.items():
        for slot, x in {"": params[name], **decoded(optimizer.state[name])}.items():
            assert slot in SHARED or (x[~mask] == 0).all(), slot
            assert np.isfinite(x.astype(np.float64)).all()


def decoded(row):
    return {slot: x.dequantize() if hasattr(x, "codes") else x.copy() for slot, x in row.items()}


def test_a_shadow_of_ones_own_is_pruned_at_once() -> None:
    w, shadow = np.ones(5, np.float32), np.zeros(5, np.float16)
    optimizer = ss.optim.SGD({"w": w}, shadow={"w": shadow})
    optimizer.set_masks({"w": np.arange(5) < 2}, at_once=True)
    assert w.tolist() == shadow.tolist() == [1, 1, 0, 0, 0]


def test_the_moving_average_starts_without_pruned_weights() -> None:
    params, masks, _ = build()
    optimizer = ss.optim.SGD(params, masks=masks, ema=0.9)
    for name, mask in masks.items():
        ema = optimizer.state[name]["ema"]
        assert (ema[~mask] == 0).all()
        assert_same_bits(ema[mask], params[name][mask].astype(ema.dtype))


MASK = np.ones(4, bool)
WRONG = {
    "name": ({"v": MASK}, ValueError, r"SGD: masks must have names of params, got \['v'\]"),
    "shape": ({"w": MASK[:3]}, ValueError, r"SGD: masks\['w'\] must have shape \(4,\), got \(3,\)"),
    "axes": ({"w": MASK[None]}, ValueError, r"SGD: masks\['w'\] must have shape \(4,\), got \(1, 4\)"),
    "dtype": ({"w": np.ones(4, np.uint8)}, TypeError, r"SGD: masks\['w'\] must be a boolean NumPy array, got uint8"),
    "float": ({"w": np.ones(4)}, TypeError, r"SGD: masks\['w'\] must be a boolean NumPy array, got float64"),
    "list": ({"w": [True] * 4}, TypeError, r"SGD: masks\['w'\] must be a boolean NumPy array, got list"),
    "none": ({"w": None}, TypeError, r"SGD: masks\['w'\] must be a boolean NumPy array, got NoneType"),
    "array": (MASK, TypeError, "SGD: masks must be a mapping from names to arrays, got ndarray"),
    "sequence": ([MASK], TypeError, "SGD: masks must be a mapping from names to arrays, got list"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_masks_are_refused_and_the_old_ones_stay(case) -> None:
    masks, kind, message = WRONG[case]
    with pytest.raises(kind, match=f"^{message}$"):
        ss.optim.SGD({"w": np.ones(4, np.float32)}, masks=masks)
    param = np.ones(4, np.float32)
    optimizer = ss.optim.SGD({"w": param}, masks={"w": np.arange(4) < 2})
    with pytest.raises(kind, match=f"^{message}$"):
        optimizer.set_masks(masks)
    optimizer.step([param.copy()])
    assert (param != 0).tolist() == [True, True, False, False]


def test_masks_cannot_change_while_a_step_runs() -> None:
    optimizer = ss.optim.SGD({"w": np.ones(4, np.float32)})
    with pytest.raises(RuntimeError, match=r"^SGD: one step at a time"):
        optimizer._stepper.exclusive(lambda: optimizer.set_masks(None))
