"""Rules that measure whole arrays before they step: LAMB, LARS and Adafactor."""

import math
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from helpers import LAYOUTS, assert_same_bits, laid_out, values
from reference_storage import DTYPES
from stepsmith._core import CHUNK
from test_adafactor import assert_equals_the_oracle, drawn

SETTINGS: dict[str, dict[str, Any]] = {
    "lamb": {"lr": 0.1, "weight_decay": 0.3},
    "lars": {"lr": 0.5, "trust_coefficient": 0.5, "weight_decay": 0.3},
    "adafactor": {"lr": 0.3, "d": 0.5},
}
SIZES = (1, 127, 128, 129, 4095, 4096, 4097, 8193, CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK + 4097)


def test_each_rule_that_measures_is_tested() -> None:
    """The write pass of these alone is followed by norms: their scalars are not all rounded."""
    from reference_rules import EXACT

    assert set(SETTINGS) == set(EXACT)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("rule", SETTINGS)
def test_norms_go_by_blocks(rule, threads) -> None:
    params, grads = drawn([(n,) for n in SIZES], steps=2)
    assert_equals_the_oracle(rule, params, grads, threads=threads, **SETTINGS[rule])
    assert ss._core.info()["last_threads"] == threads


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", SETTINGS)
def test_norms_count_in_c_order(rule, dtype) -> None:
    params, grads = drawn([(65, 131), (3, 5, 37)], dtype, steps=2)
    for layout in LAYOUTS:
        clothed = {name: laid_out(x, layout) for name, x in params.items()}
        laid = [{name: laid_out(x, layout) for name, x in row.items()} for row in grads]
        assert_equals_the_oracle(rule, clothed, laid, state_dtype="bfloat16", max_norm=0.5, **SETTINGS[rule])


def trust(param: Any, update: Any) -> float:
    norms = np.linalg.norm(param.ravel()), np.linalg.norm(update.ravel())
    return norms[0] / norms[1] if all(norms) else 1.0


@pytest.mark.parametrize("start", ["zero", "drawn"])
@pytest.mark.parametrize("given", ["zero", "drawn"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_in_plain_numpy(nesterov, given, start) -> None:
    """The ratio is 1 where a norm is 0."""
    rng = np.random.default_rng(7)
    p = rng.standard_normal((13, 11)) if start == "drawn" else np.zeros((13, 11))
    param, b = p.copy(), np.zeros_like(p)
    optimizer = ss.optim.LARS([param], lr=0.2, trust_coefficient=0.1, nesterov=nesterov)
    for _ in range(3):
        g = rng.standard_normal(p.shape) if given == "drawn" else np.zeros_like(p)
        ratio = 0.1 * trust(p, g) if p.any() and g.any() else 1.0
        b = 0.9 * b + 0.2 * ratio * g
        p = p - (0.2 * ratio * g + 0.9 * b if nesterov else b)
        optimizer.step([g])
        np.testing.assert_allclose(param, p, rtol=1e-12)
    assert param.any() == (start == "drawn" or given == "drawn")


@pytest.mark.parametrize("start", ["zero", "drawn"])
@pytest.mark.parametrize("given", ["zero", "drawn"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_lamb_in_plain_numpy(weight_decay, given, start) -> None:
    rng = np.random.default_rng(9)
    p = rng.standard_normal((13, 11)) if start == "drawn" else np.zeros((13, 11))
    param, m, v = p.copy(), np.zeros_like(p), np.zeros_like(p)
    optimizer = ss.optim.LAMB([param], lr=0.2, weight_decay=weight_decay)
    for t in range(1, 4):
        g = rng.standard_normal(p.shape) if given == "drawn" else np.zeros_like(p)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        u = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + weight_decay * p
        p = p - 0.2 * trust(p, u) * u
        optimizer.step([g])
        np.testing.assert_allclose(param, p, rtol=1e-9, atol=1e-15)
    if given == "zero" and start == "drawn" and weight_decay:
        assert np.linalg.norm(param) == pytest.approx(0.8**3 * np.linalg.norm(p / 0.8**3))


def test_norms_are_of_one_array_each() -> None:
    """A step of two arrays is two steps of one."""
    for rule, settings in SETTINGS.items():
        params, grads = drawn([(9, 7), (4100,), (3, 5)])
        alone = {name: {name: x.copy()} for name, x in params.items()}
        together = ss.optim.REGISTRY[rule](params, **settings)
        others = {name: ss.optim.REGISTRY[rule](x, **settings) for name, x in alone.items()}
        for row in grads:
            together.step(row)
            for name, other in others.items():
                other.step({name: row[name]})
                assert_same_bits(params[name], other.params[name], f"{rule} {name}")


@pytest.mark.parametrize("rule", SETTINGS)
def test_tensors_without_gradient_stay(rule) -> None:
    """Rows of a step are counted anew: each tensor keeps its own norms and counts."""
    params, grads = drawn([(9, 7), (4100,), (3, 5), (66, 2)], steps=5)
    for t, missing in enumerate([(), ("(9, 7)",), ("(4100,)", "(3, 5)"), tuple(params), ("(66, 2)",)]):
        grads[t] |= dict.fromkeys(missing)
    assert_equals_the_oracle(rule, params, grads, max_norm=1.0, **SETTINGS[rule])


@pytest.mark.parametrize("rule", SETTINGS)
def test_groups_have_their_own_numbers(rule) -> None:
    params, grads = drawn([(9, 7), (4100,), (66, 2)])
    alone = {name: {name: x.copy()} for name, x in params.items()}
    rates = dict(zip(params, (0.1, 0.02, 0.3)))
    groups = [{"params": {name: x}, "lr": rates[name]} for name, x in params.items()]
    together = ss.optim.REGISTRY[rule](groups)
    others = {name: ss.optim.REGISTRY[rule](x, lr=rates[name]) for name, x in alone.items()}
    for row in grads:
        together.step(row)
        for name, other in others.items():
            other.step({name: row[name]})
            assert_same_bits(params[name], other.params[name], f"{rule} {name}")


@pytest.mark.parametrize("size", [1e20, 1e38])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("rule", SETTINGS)
def test_large_numbers_equal_the_oracle(rule, dtype, size) -> None:
    """Squares are infinite in float32, not so the sums, which are float64; there they are infinite in the end."""
    size = size if dtype == "f32" else size**8
    rng = np.random.default_rng(11)
    for of_param, of_grad in ((1.0, size), (size, 1.0), (size, size)):
        params, grads = drawn([(5, 9), (130,)], dtype, steps=2)
        for name, x in params.items():
            params[name] = (np.sign(rng.standard_normal(x.shape)) * of_param).astype(x.dtype)
            for row in grads:
                row[name] = (rng.uniform(-1, 1, x.shape) * of_grad).astype(x.dtype)
        moves = dtype == "f32" and of_grad == 1.0
        assert_equals_the_oracle(rule, params, grads, moves=moves, **SETTINGS[rule])


def test_the_sweep_sees_what_the_step_sees() -> None:
    """Clipped, masked and scaled gradients; state as it is stored."""
    rng = np.random.default_rng(13)
    for rule, settings in SETTINGS.items():
        start = values(rng, (66, 131), np.float32)
        mask = rng.random(start.shape) < 0.7
        grads = [rng.standard_normal(start.shape).astype(np.float32) for _ in range(2)]
        options = {"state_dtype": "bfloat16", **settings}
        fused, plain = start.copy(), np.where(mask, start, np.float32(0))
        one = ss.optim.REGISTRY[rule]({"w": fused}, clip_value=0.5, masks={"w": mask}, **options)
        other = ss.optim.REGISTRY[rule]({"w": plain}, **options)
        fused[~mask] = 0
        for grad in grads:
            one.step([grad * 4], grad_scale=4.0)
            other.step([np.where(mask, grad, np.float32(0)).clip(-0.5, 0.5)])
            assert_same_bits(fused[mask], plain[mask], rule)
            assert not fused[~mask].any()
        assert math.isclose(np.linalg.norm(fused), np.linalg.norm(plain), rel_tol=1e-6)
