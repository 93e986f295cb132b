"""Clipping inside the step, grad_scale, and what NaN and infinity do: all or nothing."""

import math

import numpy as np
import pytest

import stepsmith as ss
from battery import CONFIGS
from helpers import assert_same_bits, different, values
from reference import Reference
from reference_reduce import grad_norm
from reference_storage import DTYPES

RNG = np.random.default_rng(47)
NAN, INF = math.nan, math.inf


def build(policy: str = "raise", **settings):
    params = {
        "a": values(RNG, (13, 7), np.float32),
        "b": values(RNG, 70001, np.float32),
        "c": values(RNG, 33, np.float64),
        "d": np.ones((), np.float16),
    }
    optimizer = ss.optim.AdamW(params, lr=0.1, on_nonfinite=policy, **settings)
    grads = {name: values(RNG, x.shape, np.float32) for name, x in params.items()}
    optimizer.step(grads)
    return params, grads, optimizer


def snapshot(params, optimizer):
    arrays = [x.copy() for x in params.values()]
    arrays += [x.copy() for row in optimizer.state.values() for x in row.values()]
    return arrays, optimizer.state_dict()["steps"], optimizer.state_dict()["groups"]


def assert_unchanged(before, after) -> None:
    assert before[1:] == after[1:]
    for x, y in zip(before[0], after[0]):
        assert_same_bits(y, x)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("grad_scale", [1.0, 1024.0, -3.0, 0.1])
@pytest.mark.parametrize("max_norm", [1e9, 0.75, 0.0])
def test_clipping_inside_the_step_equals_the_oracle(config, grad_scale, max_norm) -> None:
    rule, settings = CONFIGS[config]
    params = {name: values(RNG, n, DTYPES[name]) for name, n in zip(DTYPES, (70001, 513, 65, 4097))}
    reference = Reference(rule, params, max_norm=max_norm, **settings)
    optimizer = ss.optim.REGISTRY[rule](params, max_norm=max_norm, **settings)
    for _ in range(2):
        grads = {name: values(RNG, x.shape, np.float32) for name, x in params.items()}
        info = optimizer.step(grads, grad_scale=grad_scale)
        assert info.grad_norm == reference.step(grads, grad_scale) > 0
        for name, x in params.items():
            assert_same_bits(x, reference.params[name], name)


def test_clipping_inside_the_step_equals_the_unfused_sequence() -> None:
    """clip_grad_norm, then a step: float32 gradients of float32 parameters, so that nothing is rounded in between."""
    start = [values(RNG, 70001, np.float32), values(RNG, (9, 5), np.float32)]
    grads = [values(RNG, x.shape, np.float32) for x in start]
    fused, unfused, free = ([x.copy() for x in start] for _ in range(3))
    info = ss.optim.AdamW(fused, lr=0.1, eps=1.0, max_norm=2.5).step(grads)
    ss.optim.AdamW(free, lr=0.1, eps=1.0).step(grads)
    clipped = [grad.copy() for grad in grads]
    assert ss.clip_grad_norm(clipped, 2.5) == info.grad_norm == ss.grad_norm(grads) > 2.5
    ss.optim.AdamW(unfused, lr=0.1, eps=1.0).step(clipped)
    for x, y, z in zip(fused, unfused, free):
        assert_same_bits(x, y)
        assert different(x, z).size > x.size // 2, "clipping changed the step"


def test_the_norm_covers_all_groups_and_leaves_out_missing_gradients() -> None:
    params = [np.ones(3, np.float32), np.ones(4, np.float64), np.ones(5, np.float32)]
    grads = [values(RNG, x.shape, np.float64) for x in params]
    groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.0}]
    optimizer = ss.optim.SGD(groups, max_norm=1.0)
    assert optimizer.step(grads, grad_scale=2.0).grad_norm == grad_norm(params, grads, 2.0)
    assert optimizer.step([grads[0], None, grads[2]]).grad_norm == grad_norm(params[::2], grads[::2])
    assert optimizer.step([None, None, None]).grad_norm == 0.0
    assert ss.optim.SGD(params).step(grads).grad_norm is None


@pytest.mark.parametrize("grad_scale", [0.0, NAN, INF, -INF])
def test_a_grad_scale_that_cannot_divide_is_an_error(grad_scale) -> None:
    params, grads, optimizer = build()
    before = snapshot(params, optimizer)
    with pytest.raises(ValueError, match=r"^AdamW: grad_scale must .*, got "):
        optimizer.step(grads, grad_scale=grad_scale)
    with pytest.raises(TypeError, match=r"^AdamW: grad_scale must be a number, got '2'$"):
        optimizer.step(grads, grad_scale="2")
    assert_unchanged(before, snapshot(params, optimizer))


BAD = {
    "nan": ("b", (70000,), NAN, "AdamW: grads['b'] must be finite, got nan at index [70000]"),
    "inf": ("a", (12, 3), INF, "AdamW: grads['a'] must be finite, got inf at index [12, 3]"),
    "minus-inf": ("c", (0,), -INF, "AdamW: grads['c'] must be finite, got -inf at index [0]"),
    "no-axes": ("d", (), NAN, "AdamW: grads['d'] must be finite, got nan at index []"),
    "chunk-edge": ("b", (32768,), NAN, "AdamW: grads['b'] must be finite, got nan at index [32768]"),
}


@pytest.mark.parametrize("max_norm", [None, 1.0])
@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bad_element_is_named_and_nothing_changes(case, max_norm, dtype) -> None:
    name, index, value, message = BAD[case]
    params, grads, optimizer = build(max_norm=max_norm)
    grads[name] = grads[name].astype(DTYPES[dtype])
    grads[name][index] = value
    before = snapshot(params, optimizer)
    with pytest.raises(ss.NonFiniteError) as caught:
        optimizer.step(grads)
    assert str(caught.value) == message
    assert_unchanged(before, snapshot(params, optimizer))
    optimizer.bind(grads)
    with pytest.raises(FloatingPointError):
        optimizer.step()
    assert_unchanged(before, snapshot(params, optimizer))
    grads[name][index] = 1.0
    assert optimizer.step().step == 2


def test_the_first_bad_element_is_named_in_the_order_of_tensors_and_c_order() -> None:
    params, grads, optimizer = build()
    a = np.asfortranarray(grads["a"])
    a[[1, 9, 5], [6, 0, 2]] = NAN, INF, NAN
    grads["b"][0] = NAN
    with pytest.raises(ss.NonFiniteError, match=r"grads\['a'\] must be finite, got nan at index \[1, 6\]$"):
        optimizer.step({**grads, "a": a})
    with pytest.raises(ss.NonFiniteError, match=r"grads\['a'\] must be finite, got inf at index \[3, 0\]$"):
        optimizer.step({**grads, "a": np.ascontiguousarray(a)[::-1]})
    with pytest.raises(ss.NonFiniteError, match=r"grads\['b'\] must be finite, got nan at index \[0\]$"):
        optimizer.step({**grads, "a": None})
    assert optimizer.state_dict()["steps"] == dict.fromkeys(params, 1)


@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_an_element_must_be_finite_in_its_parameter_s_compute_type(max_norm) -> None:
    params, grads, optimizer = build(max_norm=max_norm)
    before = snapshot(params, optimizer)
    grads["a"] = grads["a"].astype(np.float64)
    grads["a"][4, 5] = -1e300
    with pytest.raises(ss.NonFiniteError, match=r"grads\['a'\] must be finite, got -inf at index \[4, 5\]$"):
        optimizer.step(grads)
    assert_unchanged(before, snapshot(params, optimizer))
    grads["a"][4, 5] = 3e38
    grads["c"] = np.full(33, 1e150)
    optimizer.step(grads)
    assert optimizer.state_dict()["steps"] == dict.fromkeys(params, 2)


@pytest.mark.parametrize("max_norm", [None, 1.0])
@pytest.mark.parametrize(("grad", "grad_scale"), [(3e38, 0.5), (1e30, 1e-20), (1e-44, 1e-45), (0.0, 1e-40)])
def test_what_division_by_grad_scale_makes_infinite_is_refused(grad, grad_scale, max_norm) -> None:
    """Gradients are multiplied once, by a factor rounded to float32: where that gives no number, nothing is written."""
    params, grads, optimizer = build(max_norm=max_norm)
    before = snapshot(params, optimizer)
    for name in grads:
        grads[name] = np.full(params[name].shape, grad, np.float32)
    with pytest.raises(ss.NonFiniteError):
        optimizer.step(grads, grad_scale=grad_scale)
    assert_unchanged(before, snapshot(params, optimizer))


def test_a_norm_that_overflows_is_not_finite() -> None:
    params = {"w": np.ones(9)}
    grads = {"w": np.full(9, 1e200)}
    optimizer = ss.optim.SGD(params, max_norm=1.0)
    with pytest.raises(ss.NonFiniteError, match=r"^SGD: the norm of all gradients must be finite, got inf$"):
        optimizer.step(grads)
    assert (params["w"] == 1).all()
    assert ss.optim.SGD(params, max_norm=1.0, on_nonfinite="skip").step(grads).skipped
    assert (params["w"] == 1).all()
    assert not ss.optim.SGD(params).step(grads).skipped, "no norm, no overflow"
    assert (params["w"] == 1 - 1e-3 * 1e200).all()


def test_a_norm_beyond_float32_is_no_overflow() -> None:
    params = {"w": np.ones(900, np.float32)}
    optimizer = ss.optim.SGD(params, lr=1.0, max_norm=3.0)
    info = optimizer.step([np.full(900, 3e38, np.float32)])
    assert info.grad_norm == pytest.approx(9e39)
    np.testing.assert_allclose(params["w"], 0.9, rtol=1e-6)


def test_skip_skips_everything_and_advances_nothing() -> None:
    params, grads, optimizer = build("skip", max_norm=1.0)
    before = snapshot(params, optimizer)
    grads["b"][5] = NAN
    info = optimizer.step(grads)
    assert (info.skipped, info.step, info.lr) == (True, 1, (0.1,))
    assert_unchanged(before, snapshot(params, optimizer))
    grads["b"][5] = 1.0
    info = optimizer.step(grads)
    assert (info.skipped, info.step) == (False, 2)
    assert info.grad_norm > 0


@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_a_skipped_first_step_leaves_the_momentum_s_first_step_to_come(max_norm) -> None:
    params = {"w": values(RNG, 70, np.float32)}
    settings = {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}
    reference = Reference("sgd", params, max_norm=max_norm, **settings)
    optimizer = ss.optim.SGD(params, max_norm=max_norm, on_nonfinite="skip", **settings)
    assert optimizer.step([np.full(70, INF, np.float32)]).skipped
    for _ in range(2):
        grads = {"w": values(RNG, 70, np.float32)}
        assert not optimizer.step(grads).skipped
        reference.step(grads)
        assert_same_bits(params["w"], reference.params["w"])


@pytest.mark.parametrize("max_norm", [None, 1.0])
@pytest.mark.parametrize("value", [NAN, INF])
def test_propagate_does_as_the_oracle(max_norm, value) -> None:
    params = {"w": values(RNG, 70, np.float32), "x": values(RNG, 5, np.float64)}
    reference = Reference("adam", params, lr=0.1, max_norm=max_norm)
    optimizer = ss.optim.Adam(params, lr=0.1, max_norm=max_norm, on_nonfinite="propagate")
    grads = {name: values(RNG, x.shape, np.float32) for name, x in params.items()}
    grads["w"][7] = value
    info = optimizer.step(grads)
    reference.step(grads)
    assert (info.skipped, info.step) == (False, 1)
    assert np.isnan(params["w"][7])
    for name, x in params.items():
        assert_same_bits(x, reference.params[name])


def test_a_norm_at_the_edge_of_float32_is_checked_element_by_element() -> None:
    largest = np.finfo(np.float32).max
    param = np.zeros(4, np.float32)
    optimizer = ss.optim.SGD([param], max_norm=1e300)
    with pytest.raises(ss.NonFiniteError, match=r"grads\['0'\] / grad_scale must be finite, got 3.4028"):
        optimizer.step([np.array([0, 0, 0, largest], np.float32)], grad_scale=1 / (1 + 2**-24 * 1.0000001))
    assert (param == 0).all()
