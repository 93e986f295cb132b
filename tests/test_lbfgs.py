"""L-BFGS: arithmetic of the oracle's bits, no more evaluations than PyTorch's needs, all or nothing."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from battery import SHAPE, THREADS, layouts, reduced_data
from helpers import assert_same_bits, different, run_python, values
from reference_storage import BFLOAT16, DTYPES, compute_type, decode, encode, wide
from reference_sums import fixed_sum
from stepsmith import _core

GOLDEN = Path(__file__).parent / "golden"
START = np.load(GOLDEN / "layers.npz")["lbfgs-rosenbrock10/x0"]
LOSSES = np.load(GOLDEN / "layers.npz")["lbfgs-rosenbrock10/f"]
CASE = next(row for row in json.loads((GOLDEN / "layers.json").read_text()) if row["op"] == "lbfgs")
SIZES = (0, 1, 127, 128, 129, 4095, 4097, 98305)


def dot(a, b) -> float:
    return _core.dot("test", [str(k) for k in range(len(a))], a, b)


def dot_oracle(a, b) -> float:
    total = 0.0
    for x, y in zip(a, b):
        total = total + fixed_sum(wide(x) * wide(y))
    return total


def twin(array: np.ndarray) -> np.ndarray:
    """Other numbers of the same kind."""
    return np.roll(array.reshape(-1), 7).reshape(array.shape)


# The core's arithmetic.


@pytest.mark.parametrize("dtype", DTYPES)
def test_dot_equals_the_oracle_at_any_thread_count(dtype) -> None:
    for n in SIZES:
        a = reduced_data(dtype, n)
        b = twin(a)
        want = dot_oracle([a], [b])
        assert n < 127 or want != 0.0
        for count in THREADS:
            with ss.threads(count):
                assert dot([a], [b]).hex() == want.hex(), (n, count)
    with ss.threads(3):
        dot([a], [b])
        assert _core.info()["last_threads"] == 3


def test_dot_equals_the_oracle_at_every_level(level) -> None:
    code = """
import numpy as np
from battery import reduced_data
from stepsmith import _core
print(_core.info()["isa"])
for dtype in ("f32", "f64", "bf16"):
    for n in (129, 4097, 70001):
        a = reduced_data(dtype, n)
        print(_core.dot("test", ["x"], [a], [np.roll(a, 7)]).hex())
"""
    isa, *got = run_python(code, environment={"STEPSMITH_ISA": level}).split()
    assert isa == level
    arrays = [reduced_data(dtype, n) for dtype in ("f32", "f64", "bf16") for n in (129, 4097, 70001)]
    assert got == [dot_oracle([a], [twin(a)]).hex() for a in arrays]


@pytest.mark.parametrize("dtype", DTYPES)
def test_dot_does_not_depend_on_the_layout(dtype) -> None:
    a = reduced_data(dtype, math.prod(SHAPE)).reshape(SHAPE)
    b = twin(a)
    want = dot_oracle([a], [b])
    for x in layouts(a).values():
        for y in layouts(b).values():
            assert dot([x], [y]) == want
    row = np.broadcast_to(a[0, 0], SHAPE)
    assert dot([a], [row]) == dot_oracle([a], [row])


def test_dot_of_several_arrays_and_dtypes() -> None:
    rng = np.random.default_rng(3)
    a = [values(rng, shape, dtype) for shape, dtype in zip([(67, 3), (), (0, 4), (5000,)], DTYPES.values())]
    b = [values(rng, x.shape, dtype) for x, dtype in zip(a, reversed(DTYPES.values()))]
    assert dot(a, b) == dot_oracle(a, b) != 0.0
    assert dot([], []) == 0.0
    # The products of float32 elements are exact: neither rounds to float32 first.
    x = np.array([1 + 2.0**-12, 1.0], np.float32)
    assert dot([x], [np.array([1 + 2.0**-12, -1.0], np.float32)]) == 2.0**-11 + 2.0**-24


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operation", ["axpy", "assign"])
def test_multiples_equal_the_oracle(dtype, operation) -> None:
    rng = np.random.default_rng(7)
    compute = compute_type(DTYPES[dtype])
    for other in DTYPES.values():
        a, x = values(rng, SHAPE, DTYPES[dtype]), values(rng, SHAPE, other)
        with np.errstate(over="ignore"):
            product = decode(x, compute) * compute(-0.3)
            want = encode(decode(a, compute) + product if operation == "axpy" else product, a.dtype)
        assert different(want, a).size > 1000
        for k, (name, y) in enumerate(layouts(x).items()):
            out = list(layouts(a).values())[-1 - k]
            with ss.threads(THREADS[k % 4]):
                getattr(_core, operation)("test", ["a"], [out], -0.3, [y])
            assert_same_bits(out, want, name)


READ_ONLY = np.ones(3)
READ_ONLY.flags.writeable = False
BASE = np.ones(6)
WRONG = [
    (lambda: _core.dot("f", ["a"], [np.ones(3)], [np.ones(4)]), ValueError, "f: a must have shape (3,), got (4,)"),
    (lambda: _core.dot("f", ["a"], [np.ones(3)], []), ValueError, "f: arrays must have 1 entries, got 0"),
    (lambda: _core.dot("f", ["a"], [np.ones(3)], [[1.0]]), TypeError, "f: a must be a NumPy array"),
    (lambda: _core.axpy("f", ["a"], [np.ones(3)], 1.0, [np.ones((3, 1))]), ValueError, "shape (3,), got (3, 1)"),
    (lambda: _core.axpy("f", ["a"], [READ_ONLY], 1.0, [np.ones(3)]), ValueError, "f: a must be writable"),
    (lambda: _core.assign("f", ["a"], [BASE[:3]], 1.0, [BASE[2:5]]), ValueError, "a and a must not share elements"),
    (lambda: _core.assign("f", ["a"], [np.ones(3)], 1.0, [np.ones(3, int)]), TypeError, "f: a must be float32"),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG, ids=range(len(WRONG)))
def test_what_does_not_fit_is_refused(call, kind, message) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
    assert (BASE == 1).all()


# Problems.


class Rosenbrock:
    """Of all elements in C order, arrays one after another."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self.arrays, self.losses = arrays, []

    def __call__(self) -> tuple[float, list[np.ndarray]]:
        x = np.concatenate([array.astype(np.float64).reshape(-1) for array in self.arrays])
        a, b = x[1:] - x[:-1] ** 2, 1 - x[:-1]
        self.losses.append(float((100 * a**2 + b**2).sum()))
        grad = np.zeros_like(x)
        grad[:-1] += -400 * x[:-1] * a - 2 * b
        grad[1:] += 200 * a
        ends = np.cumsum([array.size for array in self.arrays])[:-1]
        return self.losses[-1], [g.reshape(x.shape) for g, x in zip(np.split(grad, ends), self.arrays)]

    def evaluations_to(self, loss: float) -> int:
        return next(i + 1 for i, x in enumerate(self.losses) if x <= loss)


TIGHT = {"tolerance_change": 1e-14, "tolerance_grad": 1e-12}
WOLFE = {"line_search_fn": "strong_wolfe", **TIGHT}


def test_rosenbrock_takes_as_few_evaluations_as_golden() -> None:
    x = START.copy()
    closure = Rosenbrock([x])
    optimizer = ss.optim.LBFGS([x], history_size=CASE["history_size"], max_iter=CASE["max_iter"], **WOLFE)
    info = optimizer.step(closure)
    assert closure.losses[0] == pytest.approx(LOSSES[0], rel=1e-12)
    assert CASE["evaluations_to_1e_10"] == 69
    assert closure.evaluations_to(1e-10) <= 90
    assert np.abs(x - 1).max() < 1e-5
    assert info.evaluations == len(closure.losses) == optimizer.state_dict()["memory"]["evaluations"]
    assert info.loss == min(closure.losses) == Rosenbrock([x])()[0]
    assert info.grad_max == np.abs(Rosenbrock([x])()[1][0]).max()
    assert info.reason == "tolerance_change"


def test_several_arrays_and_types_are_one_vector() -> None:
    strided = np.zeros((4, 2), np.float32)[::2]
    params = {"a": START[:3].copy(), "scalar": np.array(START[3]), "b": strided, "empty": np.zeros((0, 2))}
    strided[...] = START[4:8].reshape(2, 2)
    params["c"] = START[8:].copy()
    closure = Rosenbrock(list(params.values()))
    optimizer = ss.optim.LBFGS(params, max_iter=500, history_size=10, **WOLFE)

    def by_name():
        loss, grads = closure()
        return loss, dict(zip(params, grads))

    optimizer.step(by_name)
    assert closure.evaluations_to(1e-10) <= 90


def test_the_layout_does_not_matter_and_gradients_may_be_anything() -> None:
    def run(x: np.ndarray, dress: Any) -> np.ndarray:
        rosenbrock = Rosenbrock([x])

        def closure():
            loss, (grad,) = rosenbrock()
            return np.float64(loss), [dress(grad)]

        ss.optim.LBFGS([x], line_search_fn="strong_wolfe").step(closure)
        return x.copy()

    start = START.reshape(5, 2)
    strided = np.zeros((10, 4))[::2, ::2]
    strided[...] = start
    want = run(start.copy(), lambda grad: grad)
    assert different(want, start).size == 10
    assert_same_bits(run(np.asfortranarray(start), np.asfortranarray), want)
    assert_same_bits(run(strided, lambda grad: np.broadcast_to(grad, (1, 5, 2))[0]), want)
    assert_same_bits(run(start[::-1].copy()[::-1], lambda grad: np.repeat(grad, 2, axis=0)[::2]), want)


def test_threads_do_not_matter() -> None:
    rng = np.random.default_rng(9)
    scale, target = rng.uniform(0.5, 20, 150_001), rng.standard_normal(150_001)
    results = []
    for count in (1, 3):
        x = np.zeros(150_001, np.float32)
        with ss.threads(count):
            ss.optim.LBFGS([x], max_iter=6, line_search_fn="strong_wolfe").step(
                lambda x=x: (float((scale * (x - target) ** 2).sum()), [2 * scale * (x - target)])
            )
            assert _core.info()["last_threads"] == count
        results.append(x)
    assert_same_bits(results[0], results[1])
    assert np.abs(results[0]).max() > 1


def least_squares(rows: int = 60, columns: int = 8):
    rng = np.random.default_rng(11)
    matrix = rng.standard_normal((rows, columns)) * np.geomspace(1, 10, columns)
    return matrix, rng.standard_normal(rows)


def dense_path(matrix, y, lr: float, count: int, history: int) -> list[np.ndarray]:
    """Iterates without a line search: H built as a matrix from H0 = (ys / yy)·I by the BFGS update."""
    w = np.zeros(matrix.shape[1])
    pairs, path = [], []
    step, g_before = w, w
    for k in range(count):
        g = 2 * matrix.T @ (matrix @ w - y)
        h = np.eye(w.size)
        if k:
            s, change = step, g - g_before
            pairs = [*pairs, (s, change)][-history:]
            h *= (s @ change) / (change @ change)
            for s, change in pairs:
                rho = 1 / (s @ change)
                left = np.eye(w.size) - rho * np.outer(s, change)
                h = left @ h @ left.T + rho * np.outer(s, s)
        t = lr * (min(1.0, 1.0 / np.abs(g).sum()) if k == 0 else 1.0)
        step, g_before = -t * (h @ g), g
        w = w + step
        path.append(w)
    return path


@pytest.mark.parametrize("history", [100, 3])
def test_without_a_line_search_the_path_is_that_of_the_dense_matrix(history) -> None:
    matrix, y = least_squares()
    want = dense_path(matrix, y, 0.8, 9, history)
    for max_iter in (1, 3):
        w = np.zeros(8)
        optimizer = ss.optim.LBFGS([w], lr=0.8, max_iter=max_iter, max_eval=99, history_size=history, **TIGHT)
        for k in range(max_iter - 1, 9, max_iter):
            info = optimizer.step(lambda w=w: (((matrix @ w - y) ** 2).sum(), [2 * matrix.T @ (matrix @ w - y)]))
            assert (info.iterations, info.evaluations, info.reason) == (max_iter, max_iter, "max_iter")
            np.testing.assert_allclose(w, want[k], rtol=1e-9, atol=1e-9 * np.abs(want[k]).max())
    assert np.abs(want[-1] - want[-2]).max() > 1e-6


def test_least_squares_reach_the_closed_form() -> None:
    matrix, y = least_squares()
    want = np.linalg.lstsq(matrix, y)[0]
    for dtype, tolerance in ((np.float64, 1e-6), (np.float32, 1e-4)):
        w = np.zeros(8, dtype)
        optimizer = ss.optim.LBFGS({"w": w}, max_iter=100, line_search_fn="strong_wolfe")
        for _ in range(3):
            optimizer.step(lambda w=w: (((matrix @ w - y) ** 2).sum(), {"w": 2 * matrix.T @ (matrix @ w - y)}))
        assert np.abs(w - want).max() < tolerance


def test_logistic_regression_reaches_scipy_s_minimum() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(13)
    x = rng.standard_normal((200, 6))
    label = np.where(x @ rng.standard_normal(6) + rng.standard_normal(200) > 0, 1.0, -1.0)

    def loss_and_grad(w):
        margin = label * (x @ w)
        return np.logaddexp(0, -margin).mean() + 0.01 * w @ w, -(label / (1 + np.exp(margin))) @ x / 200 + 0.02 * w

    want = optimize.minimize(loss_and_grad, np.zeros(6), jac=True, method="BFGS", options={"gtol": 1e-9})
    w = np.zeros(6)

    def closure():
        loss, grad = loss_and_grad(w)
        return loss, [grad]

    info = ss.optim.LBFGS([w], max_iter=100, line_search_fn="strong_wolfe", **TIGHT).step(closure)
    assert np.abs(w - want.x).max() < 1e-6
    assert info.loss == pytest.approx(want.fun, abs=1e-12)


def test_none_counts_as_a_zero_gradient() -> None:
    a, b = np.array([3.0]), np.array([5.0])
    ss.optim.LBFGS({"a": a, "b": b}).step(lambda: (float(a[0] ** 2), {"a": 2 * a, "b": None}))
    assert abs(a[0]) < 1e-6
    assert b[0] == 5.0


# Why it ends.


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"max_iter": 4}, "max_iter"),
        ({"max_iter": 400, "max_eval": 7}, "max_eval"),
        ({"max_iter": 400, "tolerance_grad": 5.0}, "tolerance_grad"),
        ({"max_iter": 400, "tolerance_change": 1e-3}, "tolerance_change"),
    ],
)
def test_it_ends_for_the_reason_that_it_says(settings, reason) -> None:
    x = START.copy()
    closure = Rosenbrock([x])
    info = ss.optim.LBFGS([x], line_search_fn="strong_wolfe", **settings).step(closure)
    assert info.reason == reason
    assert info.evaluations == len(closure.losses)
    if "max_eval" in settings:
        assert 7 <= info.evaluations < 7 + 25
    if "tolerance_grad" in settings:
        assert info.grad_max <= 5.0
    assert info.iterations == 4 or reason != "max_iter"


def test_a_flat_start_needs_one_evaluation() -> None:
    x = np.ones(10)
    info = ss.optim.LBFGS([x]).step(Rosenbrock([x]))
    assert info == ss.optim.LBFGSInfo(0.0, 1, 0, 0.0, "tolerance_grad")
    assert (x == 1).all()


@pytest.mark.parametrize("start", [30.0, 3.0, 1e-3])
def test_a_trial_that_is_not_finite_counts_as_too_long(start) -> None:
    """x - log x has no value left of 0, where long steps lead."""
    x = np.array([start, 2.0])
    seen = []

    def closure():
        with np.errstate(invalid="ignore", divide="ignore"):
            seen.append(float((x - np.log(x)).sum()))
            return seen[-1], [1 - 1 / x]

    ss.optim.LBFGS([x], lr=40.0, max_iter=60, line_search_fn="strong_wolfe").step(closure)
    assert not np.isfinite(seen).all()
    assert np.abs(x - 1).max() < 1e-4


def test_no_lower_point_leaves_the_parameters_where_they_were() -> None:
    x = np.array([1.0, 2.0])
    calls = []

    def closure():
        calls.append(x.copy())
        return (1.0 if len(calls) == 1 else math.inf), [np.ones(2)]

    info = ss.optim.LBFGS([x], line_search_fn="strong_wolfe").step(closure)
    assert (info.reason, info.loss, info.evaluations) == ("line_search", 1.0, len(calls))
    assert 5 < len(calls) < 30
    assert x.tolist() == [1.0, 2.0]


# All or nothing.


def snapshot(optimizer) -> str:
    state_dict = optimizer.state_dict()
    arrays = {k: {s: x.tolist() for s, x in row.items()} for k, row in state_dict.pop("state").items()}
    return json.dumps([state_dict, arrays], allow_nan=False)


def started(**settings):
    x = START.astype(np.float32)
    closure = Rosenbrock([x])
    optimizer = ss.optim.LBFGS([x], max_iter=5, history_size=3, **settings)
    for _ in range(2):
        optimizer.step(closure)
    return x, closure, optimizer


@pytest.mark.parametrize("when", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
def test_a_closure_that_raises_leaves_everything_as_it_was(when, kind) -> None:
    x, closure, optimizer = started(line_search_fn="strong_wolfe")
    before, kept = x.copy(), snapshot(optimizer)
    calls = []

    def failing():
        calls.append(x.copy())
        if len(calls) == when:
            raise kind
        return closure()

    with pytest.raises(kind):
        optimizer.step(failing)
    assert when == 1 or different(calls[-1], before).size > 0
    assert_same_bits(x, before)
    assert snapshot(optimizer) == kept
    info = optimizer.step(closure)
    assert info.iterations > 0
    assert snapshot(optimizer) != kept


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("when", [1, 3])
@pytest.mark.parametrize("what", ["loss", "grad"])
def test_what_is_not_finite_is_an_error_unless_a_line_search_can_step_back(search, when, what) -> None:
    x, closure, optimizer = started(line_search_fn=search, lr=1.0 if search else 1e-3)
    before, kept = x.copy(), snapshot(optimizer)
    calls = []

    def spoilt():
        loss, grads = closure()
        calls.append(loss)
        if len(calls) == when and what == "loss":
            loss = math.nan
        if len(calls) == when and what == "grad":
            grads[0][3] = np.inf
        return loss, grads

    if search and when > 1:
        info = optimizer.step(spoilt)
        assert np.isfinite(info.loss)
        return
    message = (
        "loss must be finite, got nan" if what == "loss" else r"grads\['0'\] must be finite, got inf at index \[3\]"
    )
    with pytest.raises(ss.NonFiniteError, match=rf"^LBFGS: {message}$"):
        optimizer.step(spoilt)
    assert len(calls) == when
    assert_same_bits(x, before)
    assert snapshot(optimizer) == kept


def test_parameters_must_stay_as_they_were_bound() -> None:
    x = np.ones(4)
    optimizer = ss.optim.LBFGS({"x": x})
    x.shape = (2, 2)
    with pytest.raises(ValueError, match=r"^LBFGS: params\['x'\] must stay as it was bound, got another shape$"):
        optimizer.step(lambda: (1.0, [np.ones((2, 2))]))
    x.shape = (4,)

    def closing():
        x.flags.writeable = False
        return 1.0, [np.ones(4)]

    with pytest.raises(ValueError, match="must stay as it was bound, got another flags"):
        optimizer.step(closing)
    assert (x == 1).all()


def test_one_step_at_a_time() -> None:
    x = np.ones(3)
    optimizer = ss.optim.LBFGS([x])
    for nested in (lambda: optimizer.step(None), optimizer.state_dict, lambda: optimizer.step(lambda: (0.0, [x]))):
        with pytest.raises((RuntimeError, TypeError), match=r"one step at a time|closure must be a function"):
            optimizer.step(lambda nested=nested: (nested(), [x])[0])
    assert (x == 1).all()


# State dictionaries.


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_resumed_run_equals_a_straight_one(search, dtype) -> None:
    settings = {"max_iter": 3, "history_size": 4, "line_search_fn": search, "lr": 1.0 if search else 0.3}

    def build(start, **others):
        params = {"a": start[:6].reshape(3, 2).copy(order="F"), "b": start[6:].copy()}
        optimizer = ss.optim.LBFGS(params, **{**settings, **others})
        return params, Rosenbrock(list(params.values())), optimizer

    for k in range(5):
        params, closure, optimizer = build(START.astype(dtype))
        first, first_closure, stopped = build(START.astype(dtype))
        infos = [optimizer.step(closure) for _ in range(6)]
        for _ in range(k):
            stopped.step(first_closure)
        state_dict = stopped.state_dict()
        arrays = state_dict.pop("state")
        loaded = {**json.loads(json.dumps(state_dict, allow_nan=False)), "state": arrays}
        resumed, resumed_closure, again = build(START.astype(dtype), max_iter=1, history_size=77, lr=0.1)
        again.step(resumed_closure)
        for name, x in first.items():
            resumed[name][...] = x
        again.load_state_dict(loaded)
        for row in arrays.values():
            for array in row.values():
                array[...] = np.nan
        assert [again.step(resumed_closure) for _ in range(6 - k)] == infos[k:]
        for name, x in params.items():
            assert different(x, first[name]).size > 0
            assert_same_bits(resumed[name], x)
        assert snapshot(again) == snapshot(optimizer)


def test_the_dictionary_has_the_documented_form() -> None:
    x = START.astype(np.float32)
    optimizer = ss.optim.LBFGS({"x": x}, history_size=2, max_iter=7)
    fresh = optimizer.state_dict()
    assert fresh["state"] == {"x": {}}
    optimizer.step(Rosenbrock([x]))
    got = optimizer.state_dict()
    assert list(got) == ["version", "optimizer", "groups", "steps", "state", "memory"]
    assert (got["version"], got["optimizer"], got["steps"]) == (1, "lbfgs", {"x": 7})
    assert {slot: (a.shape, a.dtype.name) for slot, a in got["state"]["x"].items()} == {
        "direction": ((10,), "float32"),
        "grad": ((10,), "float32"),
        "s": ((2, 10), "float32"),
        "y": ((2, 10), "float32"),
    }
    assert got["groups"] == [
        {
            "params": ["x"],
            "step": 7,
            "lr": 1.0,
            "max_iter": 7,
            "max_eval": None,
            "tolerance_grad": 1e-7,
            "tolerance_change": 1e-9,
            "history_size": 2,
            "line_search_fn": None,
        }
    ]
    assert sorted(got["memory"]) == ["evaluations", "h0", "iterations", "rho", "t"]
    s, y = got["state"]["x"]["s"], got["state"]["x"]["y"]
    assert got["memory"]["rho"] == [1 / dot_oracle([s[i]], [y[i]]) for i in range(2)]
    optimizer.load_state_dict(fresh)
    assert snapshot(optimizer) == snapshot(ss.optim.LBFGS({"x": x}, history_size=2, max_iter=7))


def change(*path, to):
    def apply(state_dict):
        for key in path[:-1]:
            state_dict = state_dict[key]
        state_dict[path[-1]] = to

    return apply


MISFITS = [
    (change("extra", to=1), "keys: missing [], extra ['extra']"),
    (change("version", to=2), "version must be 1, got 2"),
    (change("optimizer", to="adam"), "optimizer must be 'lbfgs', got 'adam'"),
    (change("groups", to=[]), "groups must be a list of 1 mapping, got []"),
    (change("groups", 0, "params", to=["y"]), "groups[0]['params'] must be ['0'], got ['y']"),
    (change("groups", 0, "lr", to=-1.0), "LBFGS: lr must be finite and more than 0, got -1.0"),
    (change("groups", 0, "momentum", to=0.9), "groups[0]: missing [], extra ['momentum']"),
    (change("groups", 0, "history_size", to=1), "memory['rho'] must have at most history_size entries, got 3"),
    (change("groups", 0, "step", to=1), "groups[0]['step'] must be 10, got 1"),
    (change("steps", "0", to=1), "steps must be {'0': 10}, got {'0': 1}"),
    (change("memory", to=None), "memory must be a mapping, got NoneType"),
    (change("memory", "t", to="1"), "memory: t must be a finite number, got '1'"),
    (change("memory", "rho", to=[math.nan]), "memory: rho[0] must be a finite number, got nan"),
    (change("memory", "iterations", to=-1), "memory['iterations'] must be an integer of at least 0"),
    (change("state", to=None), "state must be a mapping, got NoneType"),
    (change("state", "0", "s", to=np.zeros((2, 10), np.float32)), "state['0']['s'] must be float32 of shape (3, 10)"),
    (change("state", "0", "grad", to=np.zeros(10)), "state['0']['grad'] must be float32 of shape (10,), got float64"),
    (change("state", "0", "grad", to=[0.0]), "state['0']['grad'] must be a NumPy array, got list"),
    (change("state", "0", "v", to=np.zeros(10)), "state['0']: missing [], extra ['v']"),
    (change("state", "0", to=None), "state['0'] must be a mapping, got NoneType"),
]


@pytest.mark.parametrize(("apply", "message"), MISFITS, ids=range(len(MISFITS)))
def test_a_mismatch_is_named_and_changes_nothing(apply, message) -> None:
    _, _, optimizer = started(line_search_fn="strong_wolfe")
    kept, state_dict = snapshot(optimizer), optimizer.state_dict()
    state_dict["groups"][0]["tolerance_grad"] = 0.25
    state_dict["state"]["0"]["direction"][...] = 7
    apply(state_dict)
    with pytest.raises(ValueError, match=r"^LBFGS: state_dict must fit the optimizer: ") as caught:
        optimizer.load_state_dict(state_dict)
    assert message in str(caught.value)
    assert snapshot(optimizer) == kept


# Arguments.

ONE = [np.ones(3)]
ARGUMENTS = [
    (lambda: ss.optim.LBFGS([np.ones(3, BFLOAT16)]), TypeError, "params['0'] must be float32 or float64, got bfloat16"),
    (lambda: ss.optim.LBFGS([np.ones(3, np.float16)]), TypeError, "must be float32 or float64, got float16"),
    (lambda: ss.optim.LBFGS([np.ones(3, ">f8")]), TypeError, "native byte order"),
    (lambda: ss.optim.LBFGS([READ_ONLY]), ValueError, "params['0'] must be writable"),
    (lambda: ss.optim.LBFGS([BASE[:4], BASE[3:]]), ValueError, "params['0'] and params['1'] must not share elements"),
    (lambda: ss.optim.LBFGS([{"params": ONE}, {"params": []}]), ValueError, "must be one group without hyperparame"),
    (lambda: ss.optim.LBFGS([{"params": ONE, "lr": 2.0}]), ValueError, "must be one group without hyperparameters"),
    (lambda: ss.optim.LBFGS(ONE, lr=-1), ValueError, "LBFGS: lr must be finite and more than 0, got -1"),
    (lambda: ss.optim.LBFGS(ONE, lr=ss.schedules.Constant(0.1)), TypeError, "LBFGS: lr must be a number"),
    (lambda: ss.optim.LBFGS(ONE, max_iter=0), ValueError, "LBFGS: max_iter must be at least 1, got 0"),
    (lambda: ss.optim.LBFGS(ONE, max_eval=1.5), TypeError, "LBFGS: max_eval must be an integer, got 1.5"),
    (lambda: ss.optim.LBFGS(ONE, history_size=0), ValueError, "LBFGS: history_size must be at least 1, got 0"),
    (lambda: ss.optim.LBFGS(ONE, line_search_fn="armijo"), ValueError, "must be one of strong_wolfe, got 'armijo'"),
    (lambda: ss.optim.LBFGS(ONE).step(None), TypeError, "LBFGS: closure must be a function, got NoneType"),
    (lambda: ss.optim.LBFGS(ONE).step(lambda: 1.0), TypeError, "closure must return (loss, grads), got float"),
    (lambda: ss.optim.LBFGS(ONE).step(lambda: ("1", ONE)), TypeError, "LBFGS: loss must be a number, got '1'"),
    (lambda: ss.optim.LBFGS(ONE).step(lambda: (ONE[0], ONE)), TypeError, "LBFGS: loss must be a number, got array"),
    (lambda: ss.optim.LBFGS(ONE).step(lambda: (1.0, [])), ValueError, "LBFGS: grads must be 1 arrays (0), got 0"),
    (lambda: ss.optim.LBFGS(ONE).step(lambda: (1.0, {"w": 1})), ValueError, "missing ['0'], extra ['w']"),
    (lambda: ss.optim.LBFGS(ONE).step(lambda: (1.0, [np.ones(4)])), ValueError, "['0'] must have shape (3,), got (4,)"),
    (lambda: ss.optim.LBFGS(ONE).step(lambda: (1.0, [np.ones(3, int)])), TypeError, "grads['0'] must be float32, flo"),
    (lambda: ss.optim.LBFGS(ONE).load_state_dict([]), TypeError, "LBFGS: state_dict must be a mapping, got list"),
]


@pytest.mark.parametrize(("call", "kind", "message"), ARGUMENTS, ids=range(len(ARGUMENTS)))
def test_bad_arguments_are_named(call, kind, message) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert ONE[0].tolist() == [1.0, 1.0, 1.0]


def test_hyperparameters_can_be_set_and_are_checked() -> None:
    optimizer = ss.optim.LBFGS(ONE)
    optimizer.groups[0]["max_iter"] = 3
    assert optimizer.groups[0]["max_iter"] == 3
    with pytest.raises(ValueError, match=r"^LBFGS: tolerance_grad must be finite and at least 0, got -1$"):
        optimizer.groups[0]["tolerance_grad"] = -1
    with pytest.raises(ValueError, match="hyperparameters must be among lr, max_iter"):
        optimizer.groups[0]["momentum"] = 1
    assert ss.optim.REGISTRY["lbfgs"] is ss.optim.LBFGS
