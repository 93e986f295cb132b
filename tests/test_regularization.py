"""Penalties, decoupled shrinkage and max-norm against the plain formulas."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from helpers import assert_same_bits
from stepsmith import nn

Array = np.ndarray[Any, Any]


def make(dtype: Any = np.float64) -> tuple[dict[str, Array], dict[str, Array | None]]:
    rng = np.random.default_rng(0)
    shapes = {"0.weight": (5, 3), "0.bias": (5,), "1.weight": (2, 5, 3), "2.weight": (7,)}
    params = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    params["0.weight"][1] = 0.0
    return params, {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def copies(arrays: dict[str, Array | None]) -> dict[str, Array | None]:
    return {name: None if array is None else array.copy() for name, array in arrays.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("build", "l1", "l2"),
    [
        (lambda **kw: nn.L1(0.3, **kw), 0.3, 0.0),
        (lambda **kw: nn.L2(0.7, **kw), 0.0, 0.7),
        (lambda **kw: nn.ElasticNet(0.3, 0.7, **kw), 0.3, 0.7),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_penalties(build: Callable[..., nn.ElasticNet], l1: float, l2: float, scale: float, dtype: type) -> None:
    params, grads = make(dtype)
    params["1.weight"] = np.asfortranarray(params["1.weight"])
    grads["2.weight"] = None
    kept, before = copies(params), copies(grads)
    penalty = build().before_step(params, grads, scale)
    used = [params[name].astype(np.float64) for name in ("0.weight", "1.weight")]
    want = sum(l1 * np.abs(w).sum() + l2 / 2 * (w**2).sum() for w in used)
    tolerance = 1e-13 if dtype == np.float64 else 1e-6
    assert penalty == pytest.approx(want, rel=tolerance)
    for name in ("0.weight", "1.weight"):
        expected = before[name] + scale * (l1 * np.sign(params[name]) + l2 * params[name])
        np.testing.assert_allclose(grads[name], expected, rtol=0, atol=tolerance * np.abs(expected).max())
        assert grads[name].dtype == dtype
    assert_same_bits(grads["0.bias"], before["0.bias"])
    assert grads["2.weight"] is None
    assert_same_bits(grads["0.weight"][1], before["0.weight"][1], "the gradient at 0 is 0")
    build().after_step(params, lr=0.1)
    assert all((params[name] == kept[name]).all() for name in params)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_decoupled(dtype: type) -> None:
    params, grads = make(dtype)
    kept, before = copies(params), copies(grads)
    lr, l1, l2 = 0.5, 0.4, 0.2
    net = nn.ElasticNet(l1, l2, decoupled=True, include=["0.*", "1.*"], exclude="*bias")
    assert net.before_step(params, grads) == 0.0
    assert all((grads[name] == before[name]).all() for name in grads)
    net.after_step(params, lr)
    for name in ("0.weight", "1.weight"):
        w = kept[name]
        shrunk = np.sign(w) * np.maximum(np.abs(w) - dtype(lr * l1), 0)
        want = shrunk * dtype(1 - lr * l2)
        assert (params[name] == want).all()
        zeros = np.abs(w) <= lr * l1
        assert 0 < zeros.sum() < zeros.size
        assert_same_bits(params[name][zeros], np.zeros(zeros.sum(), dtype))
    assert all((params[name] == kept[name]).all() for name in ("0.bias", "2.weight"))


def test_strength_zero_changes_nothing() -> None:
    params, grads = make()
    before, kept = copies(grads), copies(params)
    for decoupled in (False, True):
        net = nn.ElasticNet(0.0, 0.0, decoupled)
        assert net.before_step(params, grads) == 0.0
        net.after_step(params, 0.1)
    for name in params:
        assert_same_bits(grads[name], before[name])
        assert_same_bits(params[name], kept[name])


@pytest.mark.parametrize("penalty", [nn.L1(0.1), nn.L2(0.2), nn.ElasticNet(0.1, 0.2, include=("*weight*", "*.bias"))])
def test_gradcheck_of_loss_and_penalty(penalty: nn.ElasticNet) -> None:
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(4, 5, dtype=np.float64), nn.Tanh(), nn.Linear(5, 3, dtype=np.float64))
    batch = rng.normal(size=(7, 4)), rng.integers(0, 3, 7)
    model.parameters()["0.bias"][...] = rng.normal(size=5)
    model.parameters()["2.bias"][...] = rng.normal(size=3)

    def fn(params: dict[str, Array]) -> tuple[float, dict[str, Array]]:
        value, grads = model.loss_and_grads(batch)
        return value + penalty.before_step(params, grads), grads

    assert ss.gradcheck(fn, model.parameters()).compared == 4 * 5 + 5 + 5 * 3 + 3


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_max_norm(axis: int, dtype: type) -> None:
    params, _ = make(dtype)
    kept = copies(params)
    nn.MaxNorm(1.5, axis=axis).after_step(params, lr=0.1)
    for name in ("0.weight", "1.weight"):
        w = kept[name]
        units = np.moveaxis(w, axis, 0)
        clipped = 0
        for unit, now in zip(units, np.moveaxis(params[name], axis, 0), strict=True):
            norm = np.sqrt((unit.astype(np.float64) ** 2).sum())
            if norm <= 1.5:
                assert_same_bits(now, unit)
            else:
                clipped += 1
                np.testing.assert_allclose(now, unit * (1.5 / norm), rtol=1e-6 if dtype == np.float32 else 1e-14)
                assert np.sqrt((now.astype(np.float64) ** 2).sum()) == pytest.approx(1.5, rel=1e-6)
        assert clipped
    assert all((params[name] == kept[name]).all() for name in ("0.bias", "2.weight"))


def test_max_norm_of_huge_weights() -> None:
    w = np.array([[3e30, 4e30], [0.0, 0.0]], np.float32)
    nn.MaxNorm(1.0).after_step({"weight": w}, lr=0.1)
    np.testing.assert_allclose(w, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


def test_nothing_of_the_arrays_size_is_allocated() -> None:
    w, g = np.ones((300, 500), np.float32), np.ones((300, 500), np.float32)
    for rule in (nn.ElasticNet(0.1, 0.1), nn.ElasticNet(0.1, 0.1, True), nn.MaxNorm(1.0)):
        for _ in range(2):
            tracemalloc.start()
            rule.before_step({"weight": w}, {"weight": g})
            rule.after_step({"weight": w}, 0.1)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 160 * 1024, (rule, peak)


PARAMS, GRADS = {"weight": np.ones((2, 2)), "bias": np.ones(2)}, {"weight": np.ones((2, 2)), "bias": None}
HALF = {"weight": np.ones((2, 2), ml_dtypes.bfloat16), "bias": np.ones(2, np.float16)}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.L1(-0.1), ValueError, "L1: strength must be finite and at least 0, got -0.1"),
        (lambda: nn.L2("1"), TypeError, "L2: strength must be a number, got '1'"),
        (lambda: nn.ElasticNet(0.1, np.inf), ValueError, "ElasticNet: l2 must be finite and at least 0, got inf"),
        (lambda: nn.ElasticNet(0.1, 0.1, decoupled=1), TypeError, "ElasticNet: decoupled must be True or False"),
        (lambda: nn.MaxNorm(0.0), ValueError, "MaxNorm: limit must be finite and more than 0, got 0.0"),
        (lambda: nn.MaxNorm(1.0, axis=0.5), TypeError, "MaxNorm: axis must be an integer, got 0.5"),
        (lambda: nn.MaxNorm(1.0, axis=2).after_step(PARAMS, 0.1), ValueError, r"MaxNorm: axis must be one of 'weight'"),
        (lambda: nn.L1(1, include=[1]), TypeError, "L1: include must be globs, got 1"),
        (lambda: nn.L1(1, include="*kernel").before_step(PARAMS, GRADS), ValueError, r"include must .* got '\*kernel'"),
        (lambda: nn.L1(1, exclude="x").before_step(PARAMS, GRADS), ValueError, "L1: exclude must match .* got 'x'"),
        (lambda: nn.MaxNorm(1, include="x").after_step(PARAMS, 0.1), ValueError, "MaxNorm: include must match"),
        (lambda: nn.L2(1).before_step(HALF, GRADS), TypeError, "L2: parameters must be .* got bfloat16 for 'weight'"),
        (lambda: nn.MaxNorm(1, include="*").after_step(HALF, 0.1), TypeError, "must be float32 or float64, got bfl"),
        (lambda: nn.L1(1, True, "bias").after_step(HALF, 0.1), TypeError, "got float16 for 'bias'"),
    ],
)
def test_bad_input_is_named(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
    assert all((param == 1).all() for params in (PARAMS, HALF) for param in params.values())
    assert (GRADS["weight"] == 1).all()


def test_each_parameter_has_its_rate_and_those_without_one_stay() -> None:
    params = {name: np.full((2, 2), 4.0) for name in ("a.weight", "b.weight", "c.weight")}
    rates = {"a.weight": 1.0, "b.weight": 0.5}
    nn.L1(1.0, decoupled=True).after_step(params, rates)
    assert [param[0, 0] for param in params.values()] == [3.0, 3.5, 4.0]
    nn.MaxNorm(1.0).after_step(params, rates)
    assert [bool(np.isclose((param**2).sum(), 2.0)) for param in params.values()] == [True, True, False]
