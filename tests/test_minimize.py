"""Full-batch problems by SciPy's methods: the best point ends in the arrays, a failure leaves them as they were."""

import math
import sys
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from helpers import assert_same_bits
from reference_storage import BFLOAT16

METHODS = ("Newton-CG", "BFGS", "L-BFGS-B", "trust-ncg")


def test_scipy_missing_is_said(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    w = np.ones(2)
    with pytest.raises(ImportError, match=r"^minimize needs SciPy: pip install 'stepsmith\[scipy\]'$"):
        ss.optim.minimize(lambda p: (0.0, p), [w])


pytest.importorskip("scipy")

RNG = np.random.default_rng(3)
MATRIX, TARGET = RNG.standard_normal((40, 6)), RNG.standard_normal(40)
WANT = np.linalg.lstsq(MATRIX, TARGET)[0]


def params(dtype: Any = np.float64) -> dict[str, np.ndarray]:
    """Six numbers in three arrays: Fortran order, a stride, no axes at all."""
    return {
        "a": np.asfortranarray(np.full((1, 3), 0.5, dtype)),
        "b": np.full(4, 0.25, dtype)[::2],
        "c": np.array(0.75, dtype),
    }


def flat(named: Any) -> np.ndarray:
    return np.concatenate([np.asarray(x, np.float64).reshape(-1) for x in named.values()])


def split(vector: np.ndarray) -> dict[str, np.ndarray]:
    return {"a": vector[:3].reshape(1, 3), "b": vector[3:5], "c": vector[5].reshape(())}


def least_squares(p: Any) -> tuple[float, dict[str, np.ndarray]]:
    error = MATRIX @ flat(p) - TARGET
    return float(error @ error), split(2 * MATRIX.T @ error)


def hessp(_p: Any, vector: Any) -> dict[str, np.ndarray]:
    return split(2 * MATRIX.T @ (MATRIX @ flat(vector)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("product", [None, hessp])
@pytest.mark.parametrize("method", METHODS)
def test_least_squares_reach_the_closed_form(method, product, dtype) -> None:
    if product is not None and method not in {"Newton-CG", "trust-ncg"}:
        pytest.skip("the method takes no hessp")
    p = params(dtype)
    calls, handed = [], []

    def fn(given):
        handed.append(given)
        calls.append(flat(given))
        return least_squares(given)

    found = ss.optim.minimize(fn, p, method, hessp=product)
    assert all(given is p for given in handed)
    assert len(calls) == found.evaluations > 2
    assert np.abs(flat(p) - WANT).max() < (1e-5 if dtype == np.float64 else 1e-3)
    assert found.loss == least_squares(p)[0]
    assert found.iterations > 0
    assert isinstance(found.message, str)
    if dtype == np.float64:
        assert found.success


def test_sixteen_bits_are_rounded_points() -> None:
    w = np.zeros(3, BFLOAT16)
    target = np.array([1.0, -2.0, 0.5])
    found = ss.optim.minimize(
        lambda p: (float(((p[0] - target) ** 2).sum()), [(2 * (p[0] - target)).astype(BFLOAT16)]), [w]
    )
    assert np.abs(w.astype(float) - target).max() < 0.02
    assert found.loss == float(((w - target) ** 2).sum())


@pytest.mark.parametrize("method", METHODS)
def test_the_best_point_is_kept_not_the_last(method) -> None:
    """A function that turns bad after a few calls, so that what is tried last is not what was best."""
    p, seen = params(), []

    def fn(given):
        loss, grads = least_squares(given)
        seen.append((loss + 1e6 * (len(seen) > 5), {name: x.copy() for name, x in given.items()}))
        return seen[-1][0], grads

    found = ss.optim.minimize(fn, p, method)
    assert len(seen) == found.evaluations > 6
    assert found.loss < 1e6 < seen[-1][0]
    assert found.loss == least_squares(p)[0]
    assert any(all((x[name] == p[name]).all() for name in p) for loss, x in seen if loss == found.loss)
    assert method == "L-BFGS-B" or any((seen[-1][1][name] != p[name]).any() for name in p)


def test_options_tolerance_and_callback() -> None:
    p, heard = params(), []

    def callback(given, loss):
        assert given is p
        assert least_squares(given)[0] == pytest.approx(loss, rel=1e-12)
        heard.append(loss)
        if len(heard) == 3:
            raise StopIteration

    found = ss.optim.minimize(least_squares, p, tol=1e-12, callback=callback)
    assert len(heard) == found.iterations == 3
    assert heard == sorted(heard, reverse=True)
    assert found.loss == heard[-1]
    assert ss.optim.minimize(least_squares, params(), options={"maxiter": 1}).iterations == 1


@pytest.mark.parametrize("start", [30.0, 3.0, 1e-3])
@pytest.mark.parametrize("method", METHODS)
def test_a_trial_that_is_not_finite_counts_as_too_long(method, start) -> None:
    """x - log x has no value left of 0."""
    x = np.array([start, 2.0])

    def fn(p):
        with np.errstate(all="ignore"):
            return (p[0] - np.log(p[0])).sum(), [1 - 1 / p[0]]

    found = ss.optim.minimize(fn, [x], method)
    assert np.abs(x - 1).max() < 2e-3
    assert found.loss == (x - np.log(x)).sum()


def test_none_counts_as_a_zero_gradient() -> None:
    a, b = np.array([3.0]), np.array([5.0])
    ss.optim.minimize(lambda p: (float(p["a"][0] ** 2), {"a": 2 * p["a"], "b": None}), {"a": a, "b": b})
    assert abs(a[0]) < 1e-6
    assert b[0] == 5.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("when", [1, 2, 3])
def test_a_function_that_raises_leaves_the_parameters_as_they_were(method, when) -> None:
    p, calls = params(np.float32), []
    before = {name: x.copy() for name, x in p.items()}

    def fn(given):
        calls.append(flat(given))
        if len(calls) == when:
            raise ZeroDivisionError
        return least_squares(given)

    with pytest.raises(ZeroDivisionError):
        ss.optim.minimize(fn, p, method)
    assert when == 1 or (calls[-1] != calls[0]).any()
    for name, x in p.items():
        assert_same_bits(x, before[name])


W = [np.ones(3)]
SHARED = np.ones(5)
READ_ONLY = np.ones(3)
READ_ONLY.flags.writeable = False


def quadratic(p: Any) -> tuple[float, list[np.ndarray]]:
    return float((p[0] ** 2).sum()), [2 * p[0]]


BAD = [
    (lambda: ss.optim.minimize(quadratic, W, "CG"), ValueError, "method must be one of Newton-CG, BFGS, L-BFGS-B, tru"),
    (lambda: ss.optim.minimize(None, W), TypeError, "minimize: fn must be a function, got NoneType"),
    (lambda: ss.optim.minimize(quadratic, W, callback=1), TypeError, "minimize: callback must be a function, got int"),
    (lambda: ss.optim.minimize(quadratic, W, hessp=hessp), ValueError, "must go with Newton-CG or trust-ncg, got meth"),
    (lambda: ss.optim.minimize(quadratic, []), ValueError, "minimize: params must hold at least one array"),
    (lambda: ss.optim.minimize(quadratic, W[0]), TypeError, "minimize: params must be a mapping, a sequence of arrays"),
    (lambda: ss.optim.minimize(quadratic, [READ_ONLY]), ValueError, "minimize: params['0'] must be writable"),
    (lambda: ss.optim.minimize(quadratic, [SHARED[:3], SHARED[2:]]), ValueError, "must not share elements"),
    (lambda: ss.optim.minimize(quadratic, [np.ones(3, int)]), TypeError, "minimize: params['0'] must be float32, floa"),
    (lambda: ss.optim.minimize(quadratic, [{"params": W, "lr": 1.0}]), ValueError, "one group without hyperparameter"),
    (lambda: ss.optim.minimize(lambda p: p, W), TypeError, "minimize: fn must return (loss, grads), got list"),
    (lambda: ss.optim.minimize(lambda p: ("1", p), W), TypeError, "minimize: loss must be a number, got '1'"),
    (lambda: ss.optim.minimize(lambda _: (1.0, [np.ones(4)]), W), ValueError, "grads['0'] must have shape (3,), got ("),
    (lambda: ss.optim.minimize(lambda _: (1.0, [np.ones(3, int)]), W), TypeError, "grads['0'] must be floating-point"),
    (lambda: ss.optim.minimize(lambda _: (1.0, {"w": 1}), W), ValueError, "missing ['0'], extra ['w']"),
    (
        lambda: ss.optim.minimize(lambda p: (math.nan, p), W),
        ss.NonFiniteError,
        "minimize: loss must be finite, got nan",
    ),
    (lambda: ss.optim.minimize(lambda p: (1.0, [p[0] * np.inf]), W), ss.NonFiniteError, "grads must be finite at the"),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments_are_named_and_nothing_is_written(call, kind, message) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert (W[0] == 1).all()
    assert (SHARED == 1).all()
