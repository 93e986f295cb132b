"""Cross entropy against the oracle bit for bit, the golden vectors, PyTorch and float64 NumPy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import LAYOUTS, assert_same_bits, laid_out
from reference_softmax import CrossEntropy
from reference_storage import DTYPES, compute_type, encode
from stepsmith import nn

Array = np.ndarray[Any, Any]
SHAPES = [(1, 1), (3, 2), (7, 10), (9, 63), (17, 130), (5, 511), (4, 513), (3, 4097), (2, 70_001), (300, 10)]
REDUCTIONS = ["mean", "sum", "none"]
GOLDEN = Path(__file__).parent / "golden"


def make(shape: tuple[int, int], dtype: np.dtype[Any] | type, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """Logits, labels, probabilities and weights."""
    rng, compute = np.random.default_rng(seed), compute_type(np.dtype(dtype))
    x = (rng.standard_normal(shape) * 4).astype(np.float32).astype(dtype)
    labels = rng.integers(0, shape[1], shape[0])
    q = rng.random(shape)
    q = (q / q.sum(axis=1, keepdims=True)).astype(compute)
    weight = np.where(rng.random(shape[1]) < 0.2, 0.0, rng.random(shape[1]) + 0.1)
    return x, labels, q, weight.astype(compute)


def check(x: Array, target: Array, weight: Array | None, smoothing: float, reduction: str) -> None:
    given = {"label_smoothing": smoothing, "reduction": reduction}
    total, losses, want = CrossEntropy(weight, smoothing, reduction=reduction)(x, target)
    loss, dx = nn.cross_entropy(x, target, weight, **given)
    alone, nothing = nn.cross_entropy(x, target, weight, grad=False, **given)
    assert nothing is None
    if reduction == "none":
        assert_same_bits(loss, losses.astype(compute_type(x.dtype)), "losses")
        assert_same_bits(alone, loss, "losses alone")
    else:
        assert_same_bits(np.array([loss, alone]), np.array([total, total]), "loss")
    assert_same_bits(dx, want, "gradient")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_rows_equal_the_oracle(kind: str, shape: tuple[int, int], dtype: str) -> None:
    x, labels, q, weight = make(shape, DTYPES[dtype])
    labels[1::3] = -100
    # The last of several segments has the largest logit and a label.
    x[0, -1], labels[0] = 20, shape[1] - 1
    target = labels if kind == "labels" else q
    for k, (w, smoothing) in enumerate([(None, 0.0), (weight, 0.1), (None, 0.1), (weight, 0.0)]):
        check(x, target, w, smoothing, REDUCTIONS[(k + shape[0]) % 3])


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_16_bit_gradients_are_those_of_float32_rounded_once(dtype: str) -> None:
    x, labels, _, weight = make((9, 130), DTYPES[dtype])
    loss, dx = nn.cross_entropy(x, labels, weight)
    single, want = nn.cross_entropy(x.astype(np.float32), labels, weight)
    assert loss == single
    assert_same_bits(dx, encode(want, DTYPES[dtype]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-6)])
@pytest.mark.parametrize(("case", "smoothing"), [("loss-cross_entropy", 0.0), ("loss-cross_entropy-smooth", 0.1)])
def test_golden(case: str, smoothing: float, dtype: type, tolerance: float) -> None:
    with np.load(GOLDEN / "layers.npz") as arrays:
        x, target, y, dy, want = (arrays[f"{case}/{key}"] for key in ("in0", "target", "y", "dy", "d0"))
    loss, dx = nn.cross_entropy(x.astype(dtype), target, label_smoothing=smoothing)
    assert abs(loss - y) <= tolerance * abs(y)
    assert dx.dtype == dtype
    np.testing.assert_allclose(dx * dy, want, rtol=0, atol=tolerance * np.abs(want).max())


def plain(
    x: Array, q: Array, weight: Array, smoothing: float, counted: Array, divisor: float
) -> tuple[Array, float, Array]:
    """Losses, their sum over the divisor and its gradient in plain float64."""
    shifted = x - x.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    wq = (q * (1 - smoothing) + smoothing / x.shape[1]) * weight * counted[:, None]
    losses = -(wq * log_p).sum(axis=1)
    return losses, losses.sum() / divisor, (np.exp(log_p) * wq.sum(axis=1, keepdims=True) - wq) / divisor


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.sampled_from(REDUCTIONS), st.booleans(), st.booleans()
)
def test_any_options_agree_with_numpy(
    rows: int, length: int, smoothing: float, reduction: str, weighted: bool, has_labels: bool
) -> None:
    x, labels, q, weight = make((rows, length), np.float64, rows + 41 * length)
    weight = weight + 0.1
    labels[1::3] = -100
    counted = labels != -100 if has_labels else np.ones(rows, bool)
    q = np.eye(length)[np.where(labels == -100, 0, labels)] if has_labels else q
    w = weight if weighted else np.ones(length)
    divisor = 1.0 if reduction != "mean" else float((w[labels[counted]]).sum() if has_labels else rows)
    losses, total, want = plain(x, q, w, smoothing, counted, divisor)
    target = labels if has_labels else q
    given = {"label_smoothing": smoothing, "reduction": reduction}
    loss, dx = nn.cross_entropy(x, target, weight if weighted else None, **given)
    np.testing.assert_allclose(loss, losses if reduction == "none" else total, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(dx, want, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(37, 130), (50, 10)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_matter(layout: str, shape: tuple[int, int]) -> None:
    x, labels, q, weight = make(shape, np.float32)
    for target in (labels, q):
        want = nn.cross_entropy(x, target, weight, label_smoothing=0.1)
        out = laid_out(np.zeros_like(x), layout)
        loss, dx = nn.cross_entropy(
            laid_out(x, layout), laid_out(target, layout), laid_out(weight, layout), label_smoothing=0.1, out=out
        )
        assert dx is out
        assert loss == want[0]
        assert_same_bits(dx, want[1])


@pytest.mark.parametrize("axis", [0, 1, 2, -3])
def test_classes_may_be_any_axis(axis: int) -> None:
    rng = np.random.default_rng(0)
    x, q = rng.standard_normal((4, 5, 6)), rng.random((4, 5, 6))
    flat, flat_q = (np.moveaxis(a, axis, -1).reshape(-1, x.shape[axis]) for a in (x, q))
    labels = rng.integers(0, x.shape[axis], np.moveaxis(x, axis, -1).shape[:-1])
    for target, plain_target in ((labels, labels.reshape(-1)), (q, flat_q)):
        want, gradient = nn.cross_entropy(flat, plain_target, reduction="none")
        losses, dx = nn.cross_entropy(x, target, axis=axis, reduction="none")
        assert_same_bits(losses, want.reshape(labels.shape))
        assert_same_bits(np.moveaxis(dx, axis, -1), gradient.reshape(np.moveaxis(x, axis, -1).shape))


def test_a_single_row_needs_no_axis_of_samples() -> None:
    loss, dx = nn.cross_entropy(np.zeros(4), np.array(2), axis=0, reduction="none")
    assert (loss.shape, dx.tolist()) == ((), [0.25, 0.25, -0.75, 0.25])


@pytest.mark.parametrize("shape", [(9, 10), (9, 700), (1, 66_000)], ids=str)
def test_gradient_in_the_place_of_an_input(shape: tuple[int, int]) -> None:
    x, labels, q, _ = make(shape, np.float32)
    loss, want = nn.cross_entropy(x, labels)
    over = x.copy()
    assert nn.cross_entropy(over, labels, out=over)[0] == loss
    assert_same_bits(over, want)
    shifted = np.empty((shape[0] + 1, shape[1]), np.float32)
    shifted[1:] = x
    assert nn.cross_entropy(shifted[1:], labels, out=shifted[:-1])[0] == loss
    assert_same_bits(shifted[:-1], want)
    loss, want = nn.cross_entropy(x, q)
    over = q.copy()
    assert nn.cross_entropy(x, over, out=over)[0] == loss
    assert_same_bits(over, want)


def test_labels_in_the_memory_of_the_gradient_are_read_first() -> None:
    x, labels, _, _ = make((8, 4), np.float64)
    memory = np.zeros((8, 4))
    shared = memory.reshape(-1).view(np.int64)[:8]
    shared[:] = labels
    loss, want = nn.cross_entropy(x, labels)
    assert nn.cross_entropy(x, shared, out=memory)[0] == loss
    assert_same_bits(memory, want)


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">i2", "<u2", "<i4", ">i4", ">u4", "<i8", ">i8", "<u8", ">u8"])
def test_labels_of_any_integer_dtype_agree(dtype: str) -> None:
    x, labels, _, _ = make((20, 10), np.float32)
    labels[3] = 9
    want = nn.cross_entropy(x, labels, ignore_index=9)
    got = nn.cross_entropy(x, labels.astype(dtype), ignore_index=9)
    assert got[0] == want[0]
    assert_same_bits(got[1], want[1])
    assert not got[1][3].any()
    wrong = labels.astype(dtype)
    wrong[7] = 10
    with pytest.raises(ValueError, match=r"cross_entropy: labels must be in \[0, 10\), got 10 at index 7"):
        nn.cross_entropy(x, wrong)


def test_an_unsigned_label_is_never_a_negative_one() -> None:
    labels = np.array([0, 2**64 - 100], np.uint64)
    with pytest.raises(ValueError, match=r"labels must be in \[0, 3\), got 18446744073709551516 at index 1"):
        nn.cross_entropy(np.zeros((2, 3)), labels)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_rows_that_are_all_ignored(reduction: str, smoothing: float) -> None:
    x, _, _, weight = make((20, 10), np.float32)
    labels = np.full(20, 7)
    loss, dx = nn.cross_entropy(x, labels, weight, label_smoothing=smoothing, ignore_index=7, reduction=reduction)
    assert np.isnan(loss) if reduction == "mean" else not np.any(loss)
    assert_same_bits(dx, np.zeros_like(x))


@pytest.mark.parametrize("length", [3, 10, 600, 70_000])
def test_nan_and_inf_stay_in_their_row(length: int) -> None:
    x, labels, _, _ = make((9, length), np.float32)
    labels[4] = -100
    clean, want = nn.cross_entropy(x, labels, reduction="none")
    for value, place in ((np.nan, 0), (np.inf, length - 1), (np.nan, length // 2)):
        wrong = x.copy()
        wrong[2, place] = wrong[4, place] = value
        losses, dx = nn.cross_entropy(wrong, labels, reduction="none")
        assert np.isnan(losses[2])
        assert losses[4] == 0, "an ignored row has no loss"
        assert np.isnan(dx[[2, 4]]).all()
        assert_same_bits(np.delete(losses, [2, 4]), np.delete(clean, [2, 4]))
        assert_same_bits(np.delete(dx, [2, 4], 0), np.delete(want, [2, 4], 0))


def test_huge_and_very_negative_logits() -> None:
    x = np.array([[1e30, -1e30], [-1e30, 1e30], [-3e38, 3e38], [-5e3, -5e3]], np.float32)
    losses, dx = nn.cross_entropy(x, np.array([0, 0, 1, 1]), reduction="none")
    np.testing.assert_allclose(losses, [0.0, 2e30, 0.0, np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(dx, [[0, 0], [-1, 1], [0, 0], [0.5, -0.5]], rtol=1e-6)
    loss, dx = nn.cross_entropy(np.array([[-np.inf, 0.0]]), np.array([0]))
    assert loss == np.inf
    assert dx.tolist() == [[-1.0, 1.0]]


def test_no_rows_and_one_class() -> None:
    none = np.zeros(0, int)
    assert nn.cross_entropy(np.zeros((0, 3)), none, reduction="sum")[0] == 0.0
    losses, dx = nn.cross_entropy(np.zeros((0, 3)), none, reduction="none")
    assert (losses.shape, dx.shape) == ((0,), (0, 3))
    with pytest.raises(ValueError, match="cross_entropy: the batch must not be empty"):
        nn.cross_entropy(np.zeros((0, 3)), none)
    loss, dx = nn.cross_entropy(np.full((5, 1), 3.0), np.zeros(5, int))
    assert loss == 0.0
    assert not dx.any()


X, Y = np.zeros((2, 3)), np.array([0, 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda out: nn.cross_entropy([[1.0]], Y, out=out), TypeError, "logits must be a NumPy array"),
        (lambda out: nn.cross_entropy(X, [0, 1], out=out), TypeError, "labels must be a NumPy array"),
        (lambda out: nn.cross_entropy(X, Y > 0, out=out), TypeError, "labels must be integers, got bool"),
        (lambda out: nn.cross_entropy(X, np.array([0, 3]), out=out), ValueError, r"in \[0, 3\), got 3 at index 1"),
        (lambda out: nn.cross_entropy(X, np.array([0, -1]), out=out), ValueError, r"in \[0, 3\), got -1 at index 1"),
        (lambda out: nn.cross_entropy(X, Y[:1], out=out), ValueError, "as many samples"),
        (lambda out: nn.cross_entropy(X, Y[:1], out=out, reduction="sum"), ValueError, "as many samples"),
        (lambda out: nn.cross_entropy(X, X[:1], out=out), ValueError, "as many samples"),
        (lambda out: nn.cross_entropy(X, X[:, :2], out=out), ValueError, r"labels must have shape \(samples, 3\)"),
        (lambda out: nn.cross_entropy(X, X.astype("f4"), out=out), TypeError, "probabilities of dtype float64"),
        (lambda out: nn.cross_entropy(X, X, ignore_index=0, out=out), ValueError, "ignore_index must be negative"),
        (lambda out: nn.cross_entropy(X, Y, X[0, :2], out=out), ValueError, r"weight must have shape \(3,\)"),
        (lambda out: nn.cross_entropy(X, Y, X[0].astype("f4"), out=out), TypeError, "weight must have dtype float64"),
        (lambda out: nn.cross_entropy(X, Y, axis=2, out=out), ValueError, "axis must be at most 1, got 2"),
        (lambda out: nn.cross_entropy(X[0], Y[0], out=out), TypeError, "labels must be a NumPy array"),
        (lambda out: nn.cross_entropy(X[0], Y, out=out), ValueError, r"logits must have shape \(samples, classes\)"),
        (
            lambda out: nn.cross_entropy(X, Y, label_smoothing=1.5, out=out),
            ValueError,
            r"label_smoothing must be in \[",
        ),
        (lambda out: nn.cross_entropy(X, Y, reduction="all", out=out), ValueError, "reduction must be one of mean, "),
        (lambda out: nn.cross_entropy(X, Y, ignore_index=1.0, out=out), TypeError, "ignore_index must be an integer"),
        (lambda out: nn.cross_entropy(X, Y, grad=False, out=out), ValueError, "out must be None with grad=False"),
        (lambda out: nn.cross_entropy(X, Y, grad=1, out=out), TypeError, "grad must be True or False"),
        (lambda out: nn.cross_entropy(X[:1], Y[:1], out=out), ValueError, r"out must have shape \(1, 3\)"),
        (lambda out: nn.cross_entropy(X.astype("f4"), Y, out=out), TypeError, "out must have dtype float32"),
        (lambda _: nn.cross_entropy(X[:, :0], Y), ValueError, "must not be empty"),
        (lambda _: nn.cross_entropy(X[:, :0], Y, reduction="sum"), ValueError, "at least one class"),
        (lambda _: nn.cross_entropy(X.astype(int), Y), TypeError, "logits must be float32, float64, bfloat16"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_written(
    call: Callable[[Array], Any], error: type[Exception], message: str
) -> None:
    out = np.full((2, 3), 7.0)
    with pytest.raises(error, match=f"cross_entropy: .*{message}"):
        call(out)
    assert (out == 7.0).all()


def test_the_class_is_the_function_with_buffers_of_its_own() -> None:
    x, labels, q, weight = make((40, 10), np.float32)
    labels[5] = 3
    loss = nn.CrossEntropy(weight, label_smoothing=0.2, ignore_index=3)
    value, dx = loss(x, labels)
    want, gradient = nn.cross_entropy(x, labels, weight, label_smoothing=0.2, ignore_index=3)
    assert value == want
    assert_same_bits(dx, gradient)
    assert loss(x, labels)[1] is dx
    counted = labels != 3
    sums = loss.sums(x, labels)
    assert sums["loss"] == pytest.approx((value * weight[labels[counted]].sum(), weight[labels[counted]].sum()))
    assert sums["accuracy"] == ((x.argmax(axis=1) == labels)[counted].sum(), counted.sum())
    both = nn.CrossEntropy()
    assert both(x, q)[0] == nn.cross_entropy(x, q)[0]
    assert both.sums(x, q)["accuracy"] == ((x.argmax(axis=1) == q.argmax(axis=1)).sum(), 40)
    with pytest.raises(ValueError, match=r"CrossEntropy: label_smoothing must be in \[0, 1\], got 2"):
        nn.CrossEntropy(label_smoothing=2)


def test_accuracy_counts_neither_ignored_nor_more_than_the_samples() -> None:
    x = np.moveaxis(np.eye(3)[np.array([[0, 1], [2, 2]])], -1, 1)
    labels = np.array([[0, 0], [2, -100]])
    assert nn.CrossEntropy().sums(x, labels)["accuracy"] == (2, 3)
    assert nn.CrossEntropy().sums(x, np.full((2, 2), -100)) == {"loss": (0, 0), "accuracy": (0, 0)}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
def test_torch_agrees(reduction: str, smoothing: float) -> None:
    torch = pytest.importorskip("torch")
    x, labels, q, weight = make((12, 7), np.float64)
    labels[::4] = -100
    odd = x.copy()
    odd[0, 1], odd[1, 0], odd[2, :], odd[4, 3] = np.nan, -np.inf, -np.inf, -np.inf
    cases = [(x, labels), (x, q), (odd, labels), (odd, q), (x, np.full(12, -100)), (np.stack([x, -x], -1), None)]
    for logits, target in cases:
        for w in (None, weight, np.zeros(7)):
            y = np.stack([labels, labels[::-1]], -1) if target is None else target
            tensor = torch.tensor(logits, requires_grad=True)
            want = torch.nn.functional.cross_entropy(
                tensor,
                torch.tensor(y),
                None if w is None else torch.tensor(w),
                label_smoothing=smoothing,
                reduction=reduction,
            )
            want.sum().backward()
            loss, dx = nn.cross_entropy(logits, y, w, label_smoothing=smoothing, reduction=reduction)
            np.testing.assert_allclose(loss, want.detach().numpy(), rtol=1e-12, atol=1e-13)
            np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=0, atol=1e-13)
