"""Steps from several micro-batches equal steps from one large batch; loss scales; penalties; data without weight."""

import math

import numpy as np
import pytest

import stepsmith as ss
from stepsmith.nn.regularization import Regularizer
from stepsmith.train import DynamicLossScale
from test_train import X, Y, build, copy, same

LARGE = 24


def trained(parts: int, loss: object = "cross_entropy", data: tuple = (X, Y), epochs: int = 3, **options) -> ss.Trainer:
    model = ss.nn.Sequential(
        ss.nn.Dropout(0.1), ss.nn.Linear(6, 16), ss.nn.ReLU(), ss.nn.Dropout(0.4), ss.nn.Linear(16, 2)
    )
    optimizer = ss.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    trainer = ss.Trainer(model, loss, optimizer=optimizer, seed=4, **options)
    trainer.fit(data, epochs=epochs, batch_size=LARGE // parts, accumulate=parts, progress=False)
    return trainer


def close(a: ss.Trainer, b: ss.Trainer, start: ss.Trainer) -> None:
    """Equal within 1e-6, which is far less than what training did."""
    for name, got in copy(a).items():
        want, moved = copy(b)[name], np.abs(copy(b)[name] - copy(start)[name]).max()
        assert moved > 1e-3
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6 * max(1.0, np.abs(want).max()))


@pytest.mark.parametrize("parts", [2, 3, 4, 8])
def test_micro_batches_equal_the_whole_batch(parts: int) -> None:
    """70 samples make two steps of 24 and one of 22, whose parts are uneven; dropout masks are the same."""
    whole, cut = trained(1), trained(parts)
    close(cut, whole, trained(1, epochs=0))
    assert cut.clock.step == whole.clock.step == 9
    np.testing.assert_allclose(cut.history["loss"], whole.history["loss"], rtol=1e-6)


WEIGHT = np.array([0.5, 3.0], np.float32)
IGNORED = np.where(np.arange(70) % 3 == 0, -100, Y)
SAMPLE_WEIGHT = np.linspace(0.0, 2.0, 70)


@pytest.mark.parametrize(
    ("loss", "data"),
    [
        (ss.nn.CrossEntropy(WEIGHT), (X, Y)),
        (ss.nn.CrossEntropy(WEIGHT), (X, IGNORED)),
        (ss.nn.CrossEntropy(label_smoothing=0.1), (X, Y, SAMPLE_WEIGHT)),
        ("mse", (X, X[:, :2].copy())),
        ("multi_margin", (X, Y)),
    ],
    ids=["class weights", "ignored labels", "sample weights", "mse", "hinge"],
)
def test_parts_count_by_what_their_means_divide_by(loss, data) -> None:
    whole, cut = trained(1, loss, data), trained(4, loss, data)
    close(cut, whole, trained(1, loss, data, epochs=0))
    np.testing.assert_allclose(cut.history["loss"], whole.history["loss"], rtol=1e-6)


def test_a_part_in_which_nothing_counts_adds_nothing() -> None:
    labels = Y.copy()
    trainer = trained(1, epochs=0)
    order = ss.train.sources.Arrays((X,)).order(trainer.seed, 0)
    labels[order[:6]] = -100
    whole, cut = trained(1, data=(X, labels), epochs=1), trained(4, data=(X, labels), epochs=1)
    close(cut, whole, trainer)


def test_a_step_in_which_nothing_counts_is_an_error() -> None:
    for parts in (1, 4):
        with pytest.raises(ss.NonFiniteError, match=r"loss must be finite, got nan at step 1, epoch 1"):
            trained(parts, data=(X, np.full(70, -100)))


def test_the_epoch_s_loss_is_the_mean_over_what_counts() -> None:
    model = ss.nn.Sequential(ss.nn.Linear(6, 2))
    loss = ss.nn.CrossEntropy(WEIGHT)
    trainer = ss.Trainer(model, loss, optimizer=ss.optim.SGD(model.parameters(), lr=0.0))
    trainer.fit((X, IGNORED), (X, IGNORED), batch_size=9, epochs=1, progress=False)
    want, _ = loss(trainer.predict(X), IGNORED)
    assert trainer.history[0]["loss"] == pytest.approx(want, rel=1e-6)
    assert trainer.history[0]["val_loss"] == pytest.approx(want, rel=1e-6)


class Constant(Regularizer):
    """Adds a gradient of ones, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[dict[str, float]] = []

    def before_step(self, params, grads, scale: float = 1.0) -> float:
        for grad in grads.values():
            if grad is not None:
                np.add(grad, scale, out=grad)
        return 2.5

    def after_step(self, params, lr) -> None:
        self.rates.append(dict(lr))


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("scale", [None, 64.0])
def test_penalties_are_added_once_a_step_and_constraints_see_the_rate(parts: int, scale: float | None) -> None:
    penalty, plain = Constant(), trained(parts, epochs=0)
    with_penalty = trained(parts, epochs=1, regularizers=[penalty], loss_scale=scale)
    assert with_penalty.history["penalty"] == [2.5]
    assert len(penalty.rates) == 3
    assert penalty.rates[0] == dict.fromkeys(plain.model.parameters(), 0.2)
    bias, without = copy(with_penalty)["1.bias"], copy(trained(parts, epochs=1))["1.bias"]
    # Momentum 0.9 and rate 0.2: three gradients of 1 move a parameter by 0.2·(1 + 1.9 + 2.71), more or less.
    np.testing.assert_allclose(without - bias, 0.2 * 5.61, atol=0.3)


def test_a_frozen_parameter_has_no_gradient_and_no_penalty() -> None:
    for parts in (1, 3):
        trainer = trained(parts, epochs=0, regularizers=[Constant()])
        trainer.freeze("1.*")
        before = copy(trainer)
        trainer.fit((X, Y), epochs=2, batch_size=8, accumulate=parts, progress=False)
        moved = [name for name, array in copy(trainer).items() if (array != before[name]).any()]
        assert moved == ["4.weight", "4.bias"]
        assert trainer.regularizers[0].rates[-1] == {"4.weight": 0.2, "4.bias": 0.2}
        trainer.unfreeze("1.bias")
        trainer.fit((X, Y), epochs=3, batch_size=8, accumulate=parts, progress=False)
        moved = [name for name, array in copy(trainer).items() if (array != before[name]).any()]
        assert moved == ["1.bias", "4.weight", "4.bias"]
        with pytest.raises(ValueError, match=r"Trainer.freeze: pattern must match one of .*, got '9.\*'"):
            trainer.freeze("9.*")


@pytest.mark.parametrize("parts", [1, 4])
def test_a_loss_scale_changes_nothing_but_the_range(parts: int) -> None:
    plain, scaled = trained(parts), trained(parts, loss_scale=2.0**10)
    assert same(copy(plain), copy(scaled)), "a power of two is exact"
    assert scaled.history["loss_scale"] == [1024.0] * 3
    assert plain.history["loss"] == scaled.history["loss"]


def scaled(on_nonfinite: str, scale: DynamicLossScale) -> ss.Trainer:
    model = ss.nn.Sequential(ss.nn.Linear(6, 2))
    optimizer = ss.optim.SGD(model.parameters(), lr=0.1, on_nonfinite=on_nonfinite)
    return ss.Trainer(model, optimizer=optimizer, loss_scale=scale)


def test_a_dynamic_scale_falls_at_an_overflow_and_grows_after_good_steps() -> None:
    # float32 gradients of some 0.1 overflow above 2**130.
    trainer = scaled("skip", DynamicLossScale(scale=2.0**127, growth=2.0, interval=4))
    trainer._loss = None
    step, scales = trainer.optimizer.step, []

    def overflowing(grads=None, grad_scale=1.0):
        scales.append(grad_scale)
        if grad_scale > 2.0**125:
            trainer.model.gradients()["0.bias"][0] = np.inf
        return step(grads, grad_scale)

    trainer.optimizer.step = overflowing
    trainer.fit((X, Y), epochs=2, batch_size=10, progress=False)
    exponents = [math.log2(scale) for scale in scales]
    assert exponents == [127, 126, 125, 125, 125, 125, 126, 125, 125, 125, 125, 126, 125, 125]
    assert trainer.clock.step == 14
    assert trainer.optimizer.state_dict()["groups"][0]["step"] == 10, "skipped steps are no steps of the optimizer"


def test_a_gradient_that_is_not_finite_at_the_lowest_scale_is_an_error() -> None:
    trainer = scaled("skip", DynamicLossScale(scale=4.0))
    step = trainer.optimizer.step

    def spoiled(grads=None, grad_scale=1.0):
        trainer.model.gradients()["0.bias"][1] = np.nan
        return step(grads, grad_scale)

    trainer.optimizer.step = spoiled
    before = copy(trainer)
    with pytest.raises(ss.NonFiniteError, match=r"got one that is not in '0.bias' at loss scale 1 at step 3, epoch 1"):
        trainer.fit((X, Y), epochs=2, batch_size=10, progress=False)
    assert same(before, copy(trainer))


def test_the_optimizer_s_error_gets_step_and_epoch() -> None:
    trainer = build(dropout=0.0)
    step = trainer.optimizer.step

    def spoiled(grads=None):
        if trainer.clock.step == 6:
            trainer.model.gradients()["3.weight"][1, 2] = -np.inf
        return step(grads)

    trainer.optimizer.step = spoiled
    with pytest.raises(ss.NonFiniteError, match=r"3\.weight.*-inf.* at step 7, epoch 2"):
        trainer.fit((X, Y), epochs=2, batch_size=16, progress=False)
    assert trainer.clock.step == 6


@pytest.mark.parametrize(
    ("scale", "error", "message"),
    [
        ("static", ValueError, r"loss_scale must be None, 'dynamic', a number or a LossScale, got 'static'"),
        (0.0, ValueError, r"loss_scale must be finite and more than 0, got 0.0"),
        ([2.0], TypeError, r"loss_scale must be a number, got \[2.0\]"),
        ("dynamic", ValueError, r"loss_scale must be a constant beside on_nonfinite='raise', got a DynamicLossScale"),
    ],
)
def test_bad_loss_scales_are_named(scale, error, message) -> None:
    with pytest.raises(error, match=message):
        build(loss_scale=scale)
