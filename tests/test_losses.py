"""Losses: golden rows, PyTorch, weights of samples, micro-batches, accuracies, extreme and bad input."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stepsmith as ss
from helpers import assert_same_bits
from stepsmith import nn

Array = np.ndarray[Any, Any]
GOLDEN = Path(__file__).parent / "golden"
ROWS = {
    "loss-cross_entropy": nn.CrossEntropy,
    "loss-cross_entropy-smooth": lambda: nn.CrossEntropy(label_smoothing=0.1),
    "loss-hinge": nn.MultiMargin,
    "loss-bce_logits": nn.BCEWithLogits,
    "loss-mse": nn.MeanSquaredError,
    "loss-l1": nn.MeanAbsoluteError,
    "loss-huber": nn.Huber,
    "loss-smooth_l1": nn.SmoothL1,
    "loss-distillation": lambda: nn.Distillation(temperature=4.0, alpha=0.7),
}
WEIGHT = np.array([0.5, 1.0, 0.0, 2.0, 0.25])


def numbers(rng: np.random.Generator, rows: int) -> Array:
    return rng.normal(size=(rows, 5)) * 2


def labels(rng: np.random.Generator, rows: int) -> Array:
    return rng.integers(0, 5, rows)


def some_ignored(rng: np.random.Generator, rows: int) -> Array:
    return np.where(rng.random(rows) < 0.4, -100, labels(rng, rows))


def probabilities(rng: np.random.Generator, rows: int) -> Array:
    q = rng.random((rows, 5))
    return q / q.sum(axis=1, keepdims=True)


def pair(rng: np.random.Generator, rows: int) -> tuple[Array, Array]:
    return labels(rng, rows), numbers(rng, rows)


# Each loss with settings, and what draws targets.
CASES: dict[str, tuple[Callable[[], nn.Loss], Callable[..., Any]]] = {
    "mse": (nn.MeanSquaredError, numbers),
    "l1": (nn.MeanAbsoluteError, numbers),
    "huber": (lambda: nn.Huber(0.7), numbers),
    "smooth_l1": (lambda: nn.SmoothL1(0.7), numbers),
    "smooth_l1-0": (lambda: nn.SmoothL1(0.0), numbers),
    "bce": (lambda: nn.BCEWithLogits(WEIGHT), lambda rng, rows: rng.random((rows, 5))),
    "cross_entropy": (nn.CrossEntropy, labels),
    "cross_entropy-ignored": (lambda: nn.CrossEntropy(label_smoothing=0.2), some_ignored),
    "cross_entropy-weight": (lambda: nn.CrossEntropy(WEIGHT), some_ignored),
    # With smoothing a label of weight 0 has a loss, though its part of the divisor is 0.
    "cross_entropy-smooth": (lambda: nn.CrossEntropy(WEIGHT + 0.1, 0.1), some_ignored),
    "cross_entropy-probabilities": (lambda: nn.CrossEntropy(WEIGHT, 0.1), probabilities),
    "multi_margin": (lambda: nn.MultiMargin(0.5), labels),
    "multi_margin-squared": (lambda: nn.MultiMargin(p=2, divide=False), labels),
    "distillation": (lambda: nn.Distillation(3.0, 0.4), pair),
}
# Their class weights are such.
OF_FLOAT64 = ("bce", "cross_entropy-weight", "cross_entropy-smooth", "cross_entropy-probabilities")


def part(target: Any, rows: slice) -> Any:
    return tuple(array[rows] for array in target) if isinstance(target, tuple) else target[rows]


def in_dtype(target: Any, dtype: Any) -> Any:
    if isinstance(target, tuple):
        return tuple(in_dtype(array, dtype) for array in target)
    return target.astype(dtype) if target.dtype.kind == "f" else target


def test_every_loss_has_a_case_and_a_name() -> None:
    assert {type(build()) for build, _ in CASES.values()} == set(nn.LOSSES.values())
    names = ["bce_with_logits", "cross_entropy", "distillation", "huber", "l1", "mse", "multi_margin", "smooth_l1"]
    assert sorted(nn.LOSSES) == names
    assert all(isinstance(loss(), nn.Loss) for loss in nn.LOSSES.values())


def test_every_golden_loss_is_here() -> None:
    cases = [row["case"] for row in json.loads((GOLDEN / "layers.json").read_text())]
    assert {case for case in cases if case.startswith("loss-")} == set(ROWS)


@pytest.mark.parametrize("case", ROWS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 2e-6)])
def test_golden(case: str, dtype: type, tolerance: float) -> None:
    with np.load(GOLDEN / "layers.npz") as arrays:
        x, y, dy, want = (arrays[f"{case}/{key}"] for key in ("in0", "y", "dy", "d0"))
        target = arrays[f"{case}/target"]
        if case == "loss-distillation":
            target = target, arrays[f"{case}/teacher"]
    loss, dx = ROWS[case]()(x.astype(dtype), in_dtype(target, dtype))
    assert loss == pytest.approx(float(y), rel=tolerance)
    assert dx.dtype == dtype
    np.testing.assert_allclose(dx * dy, want, rtol=0, atol=tolerance * np.abs(want).max())


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_parts_weighted_by_their_divisors_are_the_whole(name: str, data: st.DataObject) -> None:
    build, draw = CASES[name]
    rows, seed = data.draw(st.integers(1, 30)), data.draw(st.integers(0, 1000))
    dtype = np.float64 if name in OF_FLOAT64 else data.draw(st.sampled_from([np.float64, np.float32]))
    rng = np.random.default_rng(seed)
    x, target = numbers(rng, rows).astype(dtype), in_dtype(draw(rng, rows), dtype)
    weight = np.where(rng.random(rows) < 0.3, 0.0, rng.random(rows)) if data.draw(st.booleans()) else None
    cuts = sorted(data.draw(st.sets(st.integers(1, max(rows - 1, 1)), max_size=5)) - {rows})
    loss, whole = build(), build()
    mean, grad = whole(x, target, weight)
    divisor = whole.divisor(np.broadcast_to(np.zeros((), dtype), x.shape), target, weight)
    total, divisors, grads = 0.0, 0.0, []
    for start, stop in zip([0, *cuts], [*cuts, rows], strict=True):
        piece = slice(start, stop)
        w = None if weight is None else weight[piece]
        value, dx = loss(x[piece], part(target, piece), w)
        own = loss.divisor(x[piece], part(target, piece), w)
        assert np.isnan(value) == (own == 0)
        total, divisors = total + (value * own if own else 0.0), divisors + own
        grads.append(dx * own)
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert divisors == pytest.approx(divisor, rel=1e-12)
    if divisor == 0.0:
        assert np.isnan(mean)
        assert not grad.any()
        return
    assert total / divisors == pytest.approx(mean, rel=tolerance, abs=tolerance)
    np.testing.assert_allclose(np.concatenate(grads) / divisors, grad, rtol=0, atol=tolerance)
    assert whole.sums(x, target, weight)["loss"] == pytest.approx((mean * divisor, divisor), rel=tolerance)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_equal_differences(name: str, weighted: bool) -> None:
    build, draw = CASES[name]
    rng, loss = np.random.default_rng(1), build()
    x, target, weight = numbers(rng, 6), draw(rng, 6), rng.random(6) if weighted else None

    def fn(inputs: dict[str, Array]) -> tuple[float, dict[str, Array]]:
        value, grad = loss(inputs["x"], target, weight)
        return value, {"x": grad}

    assert ss.gradcheck(fn, {"x": x}).compared == x.size


@pytest.mark.parametrize("name", CASES)
def test_weights_are_as_if_samples_came_as_often(name: str) -> None:
    """Whole numbers as weights: the same as samples that are repeated, those of weight 0 left out."""
    build, draw = CASES[name]
    rng, counts = np.random.default_rng(3), np.array([2, 0, 1, 3, 1, 0, 1])
    x, target = numbers(rng, 7), draw(rng, 7)
    again = np.repeat(np.arange(7), counts)
    loss = build()
    mean, grad = loss(x, target, counts.astype(np.float64))
    grad, sums = grad.copy(), loss.sums(x, target, counts.astype(np.float64))
    repeated = x[again], part(target, again)
    assert sums == {key: pytest.approx(found) for key, found in loss.sums(*repeated).items()}
    want, want_grad = loss(*repeated)
    assert mean == pytest.approx(want, rel=1e-13)
    summed = np.zeros_like(x)
    np.add.at(summed, again, want_grad)
    assert np.abs(grad).max() > 0
    np.testing.assert_allclose(grad, summed, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("weight", [None, np.zeros(0)])
def test_an_empty_batch_has_no_mean(name: str, weight: Array | None) -> None:
    build, draw = CASES[name]
    rng = np.random.default_rng(0)
    x, target, loss = numbers(rng, 0), draw(rng, 0), build()
    loss.check(x, target)
    for call in (loss, loss.sums):
        with pytest.raises(ValueError, match=f"{loss.name}: the batch must not be empty"):
            call(x, target, weight)
    assert loss.divisor(x, target, weight) == 0.0


@pytest.mark.parametrize("name", CASES)
def test_nothing_counts(name: str) -> None:
    build, draw = CASES[name]
    rng = np.random.default_rng(0)
    x, target, loss = numbers(rng, 4), draw(rng, 4), build()
    mean, grad = loss(x, target, np.zeros(4))
    assert np.isnan(mean)
    assert_same_bits(grad, np.zeros_like(x))
    assert loss.divisor(x, target, np.zeros(4)) == 0
    assert set(loss.sums(x, target, np.zeros(4)).values()) == {(0.0, 0.0)}


def test_labels_that_do_not_count() -> None:
    x = numbers(np.random.default_rng(0), 3)
    for loss, target in (
        (nn.CrossEntropy(), np.full(3, -100)),
        (nn.CrossEntropy(WEIGHT), np.full(3, 2)),
        (nn.CrossEntropy(WEIGHT, 0.1), np.array([2, -100, 2])),
    ):
        mean, grad = loss(x, target)
        assert np.isnan(mean)
        assert_same_bits(grad, np.zeros_like(x))
        assert loss.sums(x, target)["loss"] == (0.0, 0.0)


def test_float32_weights_and_float64_weights_agree() -> None:
    rng = np.random.default_rng(0)
    weight = rng.random(6).astype(np.float32).astype(np.float64)
    for name in ("mse", "cross_entropy", "distillation", "multi_margin"):
        build, draw = CASES[name]
        x, target = numbers(rng, 6).astype(np.float32), in_dtype(draw(rng, 6), np.float32)
        value, grad = build()(x, target, weight)
        other, want = build()(x, target, weight.astype(np.float32))
        assert value == pytest.approx(other, rel=1e-6)
        np.testing.assert_allclose(grad, want, rtol=0, atol=1e-7)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_large_batch_of_float32_keeps_its_digits(weighted: bool) -> None:
    """As float64 has it: a sum of a million numbers in float32 is off by 7e-5."""
    x, y = np.full((1001, 1003), 1e-3, np.float32), np.zeros((1001, 1003), np.float32)
    weight = np.linspace(0.5, 1.5, 1001) if weighted else None
    for name in ("mse", "l1", "huber", "smooth_l1", "smooth_l1-0"):
        value, _ = CASES[name][0]()(x, y, weight)
        want, _ = CASES[name][0]()(x.astype(np.float64), y.astype(np.float64), weight)
        assert value == pytest.approx(want, rel=6e-6), name


@pytest.mark.parametrize("factor", [1e-300, 1e-60, 1e-39, 1e39, 1e300])
def test_weights_of_any_size_are_parts_of_their_sum(factor: float) -> None:
    """A mean of float32 does not change where float64 weights leave its range."""
    rng, weight = np.random.default_rng(0), np.array([1.0, 0.25, 0.0, 3.0, 2.0, 1.5])
    for name in sorted(CASES.keys() - set(OF_FLOAT64)):
        build, draw = CASES[name]
        x, target = numbers(rng, 6).astype(np.float32), in_dtype(draw(rng, 6), np.float32)
        value, grad = build()(x, target, weight * factor)
        want, want_grad = build()(x, target, weight)
        assert value == pytest.approx(want, rel=1e-6), name
        np.testing.assert_allclose(grad, want_grad, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_16_bit_logits(dtype: type) -> None:
    """Cross entropy and distillation compute in float32 and round the gradient."""
    rng, weight = np.random.default_rng(0), np.array([1.0, 0.5, 0.0, 2.0])
    for name in ("cross_entropy", "cross_entropy-ignored", "distillation"):
        build, draw = CASES[name]
        x, target = numbers(rng, 4).astype(dtype), in_dtype(draw(rng, 4), dtype)
        single = (target[0], target[1].astype(np.float32)) if name == "distillation" else target
        for w in (None, weight):
            value, grad = build()(x, target, w)
            want, of_single = build()(x.astype(np.float32), single, w)
            assert value == pytest.approx(want, rel=1e-6)
            assert grad.dtype == dtype
            eps = float(ml_dtypes.finfo(dtype).eps)
            np.testing.assert_allclose(grad.astype(np.float32), of_single, rtol=2 * eps, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_classes_on_the_last_axis(weight: Array | None, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 3, 5)), np.where(rng.random((4, 3)) < 0.3, -100, rng.integers(0, 5, (4, 3)))
    w = rng.random(4) if weighted else None
    last, middle = nn.CrossEntropy(weight, 0.1, axis=-1), nn.CrossEntropy(weight, 0.1)
    flat = nn.CrossEntropy(weight, 0.1)
    value, grad = last(x, y, w)
    other, other_grad = middle(np.moveaxis(x, -1, 1), y, w)
    want, want_grad = flat(x.reshape(-1, 5), y.reshape(-1), None if w is None else np.repeat(w, 3))
    assert value == pytest.approx(want, rel=1e-13) == other
    np.testing.assert_allclose(grad.reshape(-1, 5), want_grad, rtol=0, atol=1e-15)
    assert_same_bits(np.moveaxis(other_grad, 1, -1), grad)
    args = x.reshape(-1, 5), y.reshape(-1), None if w is None else np.repeat(w, 3)
    assert last.sums(x, y, w) == {key: pytest.approx(found) for key, found in flat.sums(*args).items()}
    last.check(x, y)
    two = nn.CrossEntropy(axis=-1)(x[:, 0], np.abs(y[:, 0]) % 5)[0]
    assert two == nn.CrossEntropy()(x[:, 0], np.abs(y[:, 0]) % 5)[0]


def test_bce_at_extremes() -> None:
    x, t = np.array([[1000.0, -1000.0, 1000.0, -1000.0, 30.0, -30.0]]), np.array([[1.0, 0.0, 0.0, 1.0, 1.0, 0.0]])
    for dtype in (np.float32, np.float64):
        loss, grad = nn.BCEWithLogits()(x.astype(dtype), t.astype(dtype))
        assert loss == pytest.approx(2000 / 6, rel=1e-7)
        np.testing.assert_allclose(grad * 6, [[0, 0, 1, -1, 0, 0]], rtol=0, atol=1e-12)
    tiny = nn.BCEWithLogits()(x[:, 4:], t[:, 4:])[0]
    assert tiny == pytest.approx(np.log1p(np.exp(-30.0)), rel=1e-12)
    assert nn.BCEWithLogits(3.0)(x[:, 4:5], t[:, 4:5])[0] == pytest.approx(3 * np.log1p(np.exp(-30.0)), rel=1e-12)
    value, grad = nn.BCEWithLogits()(np.array([[np.inf, np.nan]]), np.array([[0.0, 0.0]]))
    assert np.isnan(value)
    assert grad[0, 0] == 0.5


def test_accuracies() -> None:
    x, t = np.array([[1.0, -1.0], [0.0, 2.0]]), np.array([[1.0, 0.0], [1.0, 0.2]])
    assert nn.BCEWithLogits().sums(x, t)["accuracy"] == (2.0, 4.0)
    assert nn.BCEWithLogits().sums(x, t, np.array([0.5, 3.0]))["accuracy"] == (1.0, 7.0)
    y = np.array([0, 0])
    for loss, target in ((nn.MultiMargin(), y), (nn.CrossEntropy(), y), (nn.Distillation(), (y, x))):
        assert loss.sums(x, target)["accuracy"] == (1.0, 2.0)
        assert loss.sums(x, target, np.array([0.5, 3.0]))["accuracy"] == (0.5, 3.5)
    assert set(nn.Distillation(alpha=1.0).sums(x, (None, x))) == {"loss"}
    assert set(nn.MeanSquaredError().sums(x, t)) == {"loss"}


def test_infinite_outputs_are_no_warnings() -> None:
    x = np.array([[np.inf, 0.0], [1.0, np.nan], [-np.inf, np.inf]])
    finite = np.ones((3, 2))
    for name, target in (("l1", finite), ("huber", finite), ("bce", finite), ("multi_margin", np.array([0, 1, 0]))):
        for weight in (None, np.array([0.0, 1.0, 2.0])):
            loss = nn.BCEWithLogits() if name == "bce" else CASES[name][0]()
            value, _ = loss(x, target, weight)
            assert np.isnan(value), (name, weight)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_class_that_the_teacher_rules_out(dtype: type) -> None:
    """Its part of the divergence is 0: as if it were very unlikely."""
    x = numbers(np.random.default_rng(0), 3).astype(dtype)
    masked, unlikely = x[::-1].copy(), x[::-1].copy()
    masked[:2, 1], unlikely[:2, 1] = -np.inf, -1e4
    for temperature in (0.5, 4.0):
        loss, grad = nn.Distillation(temperature, 1.0)(x, (None, masked))
        want, want_grad = nn.Distillation(temperature, 1.0)(x, (None, unlikely))
        assert loss == pytest.approx(want, rel=1e-6 if dtype == np.float32 else 1e-13)
        assert_same_bits(grad, want_grad)
    masked[0] = -np.inf
    assert np.isnan(nn.Distillation()(x, (np.arange(3), masked))[0])


def test_a_step_of_a_loss_allocates_nothing_of_the_arrays_size() -> None:
    rng = np.random.default_rng(0)
    for name in ("mse", "l1", "huber", "bce", "cross_entropy", "multi_margin", "distillation"):
        loss = nn.BCEWithLogits(0.5) if name == "bce" else CASES[name][0]()
        x = rng.normal(size=(300, 500))
        target = {"cross_entropy": labels, "multi_margin": labels}.get(name, lambda rng, rows: rng.random((rows, 500)))
        y = (labels(rng, 300), rng.random((300, 500))) if name == "distillation" else target(rng, 300)
        loss(x, y)
        tracemalloc.start()
        loss(x, y)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 128 * 1024, (name, peak)


def of_torch(torch: Any, name: str) -> Any:
    weight, F = torch.tensor(WEIGHT), torch.nn.functional
    return {
        "mse": F.mse_loss,
        "l1": F.l1_loss,
        "huber": lambda x, t: F.huber_loss(x, t, delta=0.7),
        "smooth_l1": lambda x, t: F.smooth_l1_loss(x, t, beta=0.7),
        "smooth_l1-0": lambda x, t: F.smooth_l1_loss(x, t, beta=0.0),
        "bce": lambda x, t: F.binary_cross_entropy_with_logits(x, t, pos_weight=weight),
        "cross_entropy": F.cross_entropy,
        "cross_entropy-ignored": lambda x, t: F.cross_entropy(x, t, label_smoothing=0.2),
        "cross_entropy-weight": lambda x, t: F.cross_entropy(x, t, weight),
        "cross_entropy-smooth": lambda x, t: F.cross_entropy(x, t, weight + 0.1, label_smoothing=0.1),
        "cross_entropy-probabilities": lambda x, t: F.cross_entropy(x, t, weight, label_smoothing=0.1),
        "multi_margin": lambda x, t: F.multi_margin_loss(x, t, margin=0.5),
        "multi_margin-squared": lambda x, t: 5 * F.multi_margin_loss(x, t, p=2),
    }.get(name)


@pytest.mark.parametrize("name", CASES)
def test_torch_agrees(name: str) -> None:
    torch = pytest.importorskip("torch")
    function = of_torch(torch, name)
    if function is None:
        pytest.skip("PyTorch has no such loss")
    build, draw = CASES[name]
    rng = np.random.default_rng(5)
    x, target = numbers(rng, 33), draw(rng, 33)
    tensor = torch.tensor(x, requires_grad=True)
    want = function(tensor, torch.tensor(target))
    want.backward()
    loss, grad = build()(x, target)
    assert loss == pytest.approx(want.item(), rel=1e-12)
    np.testing.assert_allclose(grad, tensor.grad.numpy(), rtol=0, atol=1e-14)


X, T, Y = np.zeros((2, 3)), np.zeros((2, 3)), np.array([0, 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.MeanAbsoluteError()(X, T.tolist()), TypeError, "l1: target must be a NumPy array"),
        (lambda: nn.MeanAbsoluteError()(X, T.astype("f4")), TypeError, "l1: target must be float64 as the output"),
        (lambda: nn.MeanSquaredError()(X.astype(int), T.astype(int)), TypeError, "mse: output must be float32 or"),
        (lambda: nn.MeanSquaredError()(X, T[:, :2]), ValueError, r"mse: target must have shape \(samples, 3\)"),
        (lambda: nn.MeanSquaredError()(X[:, :1], T[:, 0]), ValueError, r"mse: target must have shape \(samples, 1\)"),
        (lambda: nn.Huber()(X, T[:1]), ValueError, "huber: output and target must have as many samples"),
        (lambda: nn.Huber()(X[:0], T[:0]), ValueError, "huber: the batch must not be empty"),
        (lambda: nn.Huber(0.0), ValueError, "Huber: delta must be finite and more than 0, got 0.0"),
        (lambda: nn.SmoothL1(-1), ValueError, "SmoothL1: beta must be finite and at least 0, got -1"),
        (lambda: nn.BCEWithLogits(-1.0), ValueError, "BCEWithLogits: pos_weight must be finite and at least 0"),
        (lambda: nn.BCEWithLogits(-X[0] - 1), ValueError, "BCEWithLogits: pos_weight must be finite and at least 0"),
        (lambda: nn.BCEWithLogits("1"), TypeError, "BCEWithLogits: pos_weight must be a number, got '1'"),
        (lambda: nn.BCEWithLogits(X[0, :2])(X, T), ValueError, r"BCEWithLogits: pos_weight must have shape \(3,\)"),
        (lambda: nn.BCEWithLogits(X[0].astype("f4"))(X, T), TypeError, "pos_weight must have dtype float64"),
        (
            lambda: nn.BCEWithLogits().check(X, T - 1),
            ValueError,
            r"logits: target must be in \[0, 1\], got -1",
        ),
        (lambda: nn.BCEWithLogits().check(X, T + np.nan), ValueError, r"target must be in \[0, 1\], got nan"),
        (lambda: nn.BCEWithLogits()(X, Y), TypeError, "bce_with_logits: target must be float64 as the output"),
        (lambda: nn.CrossEntropy(axis=0), ValueError, "CrossEntropy: axis must be 1 or -1, got 0"),
        (lambda: nn.CrossEntropy(axis=-1)(X, X[0]), TypeError, "cross_entropy: labels must be integers"),
        (lambda: nn.CrossEntropy()(X, [0, 1]), TypeError, "cross_entropy: labels must be a NumPy array"),
        (lambda: nn.CrossEntropy().divisor(X, [0, 1]), TypeError, "cross_entropy: labels must be a NumPy array"),
        (lambda: nn.CrossEntropy().check(X, [0, 1]), TypeError, "cross_entropy: labels must be a NumPy array"),
        (lambda: nn.MultiMargin(p=3), ValueError, "MultiMargin: p must be at most 2, got 3"),
        (lambda: nn.MultiMargin(np.inf), ValueError, "MultiMargin: margin must be finite, got inf"),
        (lambda: nn.MultiMargin(divide=1), TypeError, "MultiMargin: divide must be True or False, got 1"),
        (lambda: nn.MultiMargin()(X, T), TypeError, "multi_margin: labels must be integers, got float64"),
        (lambda: nn.MultiMargin()(X, Y + 2), ValueError, r"labels must be in \[0, 3\), got 3 at index 1"),
        (lambda: nn.MultiMargin()(X, Y[:1]), ValueError, "multi_margin: output and target must have as many samples"),
        (lambda: nn.MultiMargin()(X[:, :, None], Y), ValueError, r"output must have shape \(samples, classes\)"),
        (lambda: nn.MultiMargin()(X, np.array([0, -100])), ValueError, r"labels must be in \[0, 3\), got -100"),
        (lambda: nn.Distillation(0.0), ValueError, "Distillation: temperature must be finite and more than 0"),
        (lambda: nn.Distillation(alpha=1.5), ValueError, r"Distillation: alpha must be in \[0, 1\], got 1.5"),
        (lambda: nn.Distillation()(X, Y), TypeError, r"target must be \(labels, teacher_logits\), got ndarray"),
        (lambda: nn.Distillation()(X, (Y,)), TypeError, r"target must be \(labels, teacher_logits\), got 1 arrays"),
        (lambda: nn.Distillation()(X, (None, X)), TypeError, "distillation: labels must be a NumPy array"),
        (lambda: nn.Distillation()(X, (T, X)), TypeError, "distillation: labels must be integers, got float64"),
        (lambda: nn.Distillation()(X, (Y[:1], X)), ValueError, "labels and teacher_logits must have as many samples"),
        (lambda: nn.Distillation()(X, (Y, X[:, :2])), ValueError, r"teacher_logits must have shape \(samples, 3\)"),
        (lambda: nn.Distillation()(X, (Y, X.astype("f4"))), TypeError, "teacher_logits must be float64 as the output"),
        (lambda: nn.Distillation()(X, (Y - 100, X)), ValueError, r"labels must be in \[0, 3\), got -100"),
    ],
)
def test_bad_input_is_named(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        ([1.0, 1.0], TypeError, "sample_weight must be a NumPy array"),
        (np.ones(2, int), TypeError, "sample_weight must have dtype float64, got int64"),
        (np.ones(2, np.float32), TypeError, "sample_weight must have dtype float64, got float32"),
        (np.ones(3), ValueError, r"sample_weight must have shape \(2,\), got \(3,\)"),
        (np.ones((2, 1)), ValueError, r"sample_weight must have shape \(2,\), got \(2, 1\)"),
        (np.array([1.0, -0.5]), ValueError, "sample_weight must be finite and at least 0, got -0.5 at index 1"),
        (np.array([np.nan, 1.0]), ValueError, "sample_weight must be finite and at least 0, got nan at index 0"),
        (np.array([1.0, np.inf]), ValueError, "sample_weight must be finite and at least 0, got inf at index 1"),
    ],
)
def test_bad_weights_are_named(name: str, weight: Any, error: type[Exception], message: str) -> None:
    build, draw = CASES[name]
    rng = np.random.default_rng(0)
    x, target = numbers(rng, 2), draw(rng, 2)
    for call in (build(), build().divisor, build().sums):
        with pytest.raises(error, match=f"{build().name}: {message}"):
            call(x, target, weight)


def test_a_model_takes_weights_with_its_batch() -> None:
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(6, 4)), rng.integers(0, 3, 6), rng.random(6)
    model = nn.Linear(4, 3, rng=0, dtype=np.float64)
    value, grads = model.loss_and_grads((x, y, w))
    want, dz = nn.CrossEntropy()(model(x), y, w)
    assert value == want
    np.testing.assert_allclose(grads["weight"], dz.T @ x, rtol=0, atol=1e-15)
    plain = model.loss_and_grads((x, y))[0]
    assert plain != value
    distilled = model.loss_and_grads((x, y, x[:, :3]), nn.Distillation())[0]
    assert distilled == nn.Distillation()(model(x), (y, x[:, :3]))[0]
