"""Mixed precision: 16-bit parameters and gradients against the same computation by hand, loss scales, training."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from sklearn.datasets import load_digits

import stepsmith as ss
from helpers import assert_same_bits
from stepsmith import nn

Array = np.ndarray[Any, Any]
DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
BATCH = np.random.default_rng(0).normal(size=(9, 7)).astype(np.float32), np.arange(9) % 3


def make(seed: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(7, 11), nn.BatchNorm(11), nn.Tanh(), nn.WeightNorm(nn.Linear(11, 5)), nn.Linear(5, 3), seed=seed
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 4096.0])
def test_it_is_the_computation_by_hand(dtype: str, scale: float) -> None:
    mixed, plain = nn.MixedPrecision(make(), dtype), make()
    assert list(mixed.parameters()) == list(plain.parameters()) == list(mixed.gradients())
    for _ in range(3):
        for name, param in mixed.parameters().items():
            assert param.dtype == mixed.gradients()[name].dtype == DTYPES[dtype]
            param[...] = param + np.float32(0.01)
            plain.parameters()[name][...] = param
        loss, grads = mixed.loss_and_grads(BATCH, loss_scale=scale)
        want, want_grads = plain.loss_and_grads(BATCH, loss_scale=scale)
        assert loss == want
        for name, grad in grads.items():
            assert grad is mixed.gradients()[name]
            assert_same_bits(grad, ss.cast(want_grads[name], DTYPES[dtype]))
            # A bias before a batch norm has none.
            assert grad.any() or name == "0.bias"
    assert list(mixed.buffers()) == list(plain.buffers())
    for name, buffer in plain.buffers().items():
        assert_same_bits(mixed.buffers()[name], buffer)
    assert_same_bits(mixed(BATCH[0]), plain(BATCH[0]))


def test_parameters_are_drawn_in_float32_and_rounded_once() -> None:
    plain = make()
    mixed = nn.MixedPrecision(make(), "float16")
    for name, param in plain.parameters().items():
        assert_same_bits(mixed.parameters()[name], param.astype(np.float16))
        assert mixed.parameters()[name] is mixed.parameters()[name]
    trained = make()
    trained.parameters()["0.weight"][...] = 0.3
    assert (nn.MixedPrecision(trained).parameters()["0.weight"] == ml_dtypes.bfloat16(0.3)).all()


def test_a_loss_scale_multiplies_gradients_alone() -> None:
    model = nn.Sequential(nn.Linear(7, 3, dtype=np.float64))
    batch = BATCH[0].astype(np.float64), BATCH[1]
    loss, grads = model.loss_and_grads(batch)
    kept = {name: grad.copy() for name, grad in grads.items()}
    again, scaled = model.loss_and_grads(batch, loss_scale=1024.0)
    assert again == loss
    for name, grad in kept.items():
        assert_same_bits(scaled[name], grad * 1024.0)


def test_what_a_loss_returns_is_not_scaled_in_place() -> None:
    fixed = np.ones((9, 3), np.float32)
    fixed.flags.writeable = False

    class Fixed(nn.Loss):
        def check(self, output: Array, target: Array) -> None:
            pass

        def __call__(self, output: Array, target: Array, sample_weight: Array | None = None) -> tuple[float, Array]:
            return 0.0, fixed

    _, grads = nn.Sequential(nn.Linear(7, 3)).loss_and_grads(BATCH, Fixed(), loss_scale=2.0)
    assert (grads["0.bias"] == 18).all()


def test_small_gradients_need_a_loss_scale_in_float16() -> None:
    batch = BATCH[0] * np.float32(1e-9), BATCH[1]
    model = nn.MixedPrecision(nn.Sequential(nn.Linear(7, 3, bias=False)), "float16")
    assert not model.loss_and_grads(batch)[1]["0.weight"].any()
    assert model.loss_and_grads(batch, loss_scale=2.0**20)[1]["0.weight"].all()


def test_overflow_is_infinite_and_skipped_without_a_warning() -> None:
    model = nn.MixedPrecision(nn.Sequential(nn.Linear(7, 3)), "float16")
    optimizer = ss.optim.AdamW(model.parameters(), lr=0.1, master=True, on_nonfinite="skip")
    before = {name: param.copy() for name, param in model.parameters().items()}
    _, grads = model.loss_and_grads(BATCH, loss_scale=2.0**24)
    assert np.isinf(grads["0.weight"]).any()
    assert optimizer.step(grads, grad_scale=2.0**24).skipped
    for name, param in model.parameters().items():
        assert_same_bits(param, before[name])
    _, grads = model.loss_and_grads(BATCH, loss_scale=2.0**8)
    assert not optimizer.step(grads, grad_scale=2.0**8).skipped
    assert any((param != before[name]).any() for name, param in model.parameters().items())


def accuracy(mixed: str | None) -> float:
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    model: nn.Module = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10), seed=1)
    if mixed is not None:
        model = nn.MixedPrecision(model, mixed)
    optimizer = ss.optim.AdamW(model.parameters(), lr=1e-2, master=mixed is not None)
    scale = 1.0 if mixed is None else 1024.0
    for epoch in range(10):
        order = np.random.default_rng(epoch).permutation(1400)
        for start in range(0, 1400, 50):
            rows = order[start : start + 50]
            optimizer.step(model.loss_and_grads((X[rows], y[rows]), loss_scale=scale)[1], grad_scale=scale)
    return float((model(X[1400:]).argmax(axis=1) == y[1400:]).mean())


def test_digits_are_learned_as_well_as_in_float32() -> None:
    want = accuracy(None)
    assert want > 0.9
    for dtype in DTYPES:
        assert accuracy(dtype) == pytest.approx(want, abs=0.015)


def test_a_deep_copy_is_a_model_of_its_own() -> None:
    model = nn.MixedPrecision(make())
    loss, grads = model.loss_and_grads(BATCH)
    kept = {name: grad.copy() for name, grad in grads.items()}
    twin = deepcopy(model)
    assert twin(BATCH[0]).tobytes() == model(BATCH[0]).tobytes()
    for param in twin.parameters().values():
        param[...] = param * param.dtype.type(2)
    assert (twin(BATCH[0]) != model(BATCH[0])).any()
    assert twin.loss_and_grads(BATCH)[0] != loss
    for name, grad in model.gradients().items():
        assert_same_bits(grad, kept[name])


def test_a_dropout_mask_is_that_of_the_wrapper_s_counter() -> None:
    build = lambda: nn.Sequential(nn.Linear(7, 5), nn.Dropout(0.5), seed=1)  # noqa: E731
    plain, mixed = build(), nn.MixedPrecision(build())
    plain.gradients()
    mixed.counter.step = plain.counter.step = 7
    assert ((plain(BATCH[0], True) == 0) == (mixed(BATCH[0], True) == 0)).all()


def test_a_summary_counts_16_bit_bytes() -> None:
    plain, mixed = make().summary((7,)), nn.MixedPrecision(make()).summary((7,))
    assert [row.name for row in mixed.rows] == [row.name for row in plain.rows]
    assert mixed.total.nbytes * 2 == plain.total.nbytes
    assert mixed.total.flops == plain.total.flops


def test_an_update_reads_its_input_gradient() -> None:
    model = nn.MixedPrecision(nn.Sequential(nn.Linear(7, 3)))
    y = model(BATCH[0], True)
    dx = model.backward(np.ones_like(y))
    weight = model.parameters()["0.weight"].astype(np.float32)
    np.testing.assert_allclose(dx, np.ones((9, 3), np.float32) @ weight, rtol=1e-6)


def test_one_that_was_used_goes_into_no_other_model_either() -> None:
    """The outer model's float32 parameters would be overwritten at each pass: nothing would be learned."""
    mixed = nn.MixedPrecision(nn.Linear(7, 3))
    mixed.loss_and_grads(BATCH)
    with pytest.raises(ValueError, match="MixedPrecision: must be the outermost module"):
        nn.Sequential(mixed).loss_and_grads(BATCH)
    assert nn.MixedPrecision(nn.Sequential())(BATCH[0]) is BATCH[0]


LAYER = nn.Linear(7, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.MixedPrecision("model"), TypeError, "MixedPrecision: model must be a Module, got str"),
        (lambda: nn.MixedPrecision(LAYER, "float32"), TypeError, "dtype must be bfloat16 or float16, got 'float32'"),
        (lambda: nn.MixedPrecision(LAYER, "half16"), TypeError, "dtype must be bfloat16 or float16, got 'half16'"),
        (
            lambda: nn.MixedPrecision(nn.Sequential(nn.Linear(7, 3, dtype=np.float64))),
            TypeError,
            "MixedPrecision: parameters must be float32, got float64 for '0.weight'",
        ),
        (
            lambda: nn.Sequential(nn.MixedPrecision(nn.Linear(7, 3)))(BATCH[0]),
            ValueError,
            "MixedPrecision: must be the outermost module",
        ),
        (lambda: LAYER.loss_and_grads(BATCH, loss_scale=0.0), ValueError, "loss_scale must be finite and more than 0"),
        (lambda: LAYER.loss_and_grads(BATCH, loss_scale="1"), TypeError, "loss_scale must be a number, got '1'"),
    ],
)
def test_bad_input_is_named(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
