"""Optimizers that see all data in each step: L-BFGS and SciPy's methods through the trainer."""

import numpy as np
import pytest

import stepsmith as ss
from stepsmith.train import Checkpoint
from test_train import XV, YV, X, Y, copy, same


def build(make, dropout: float = 0.0, callbacks: tuple = (), **options) -> ss.Trainer:
    model = ss.nn.Sequential(
        ss.nn.Linear(6, 12, dtype=np.float64),
        ss.nn.Tanh(),
        ss.nn.Dropout(dropout),
        ss.nn.Linear(12, 2, dtype=np.float64),
    )
    return ss.Trainer(model, optimizer=make(model.parameters()), seed=2, callbacks=callbacks, **options)


def lbfgs(params) -> ss.optim.LBFGS:
    return ss.optim.LBFGS(params, max_iter=5, line_search_fn="strong_wolfe")


def scipy(params) -> ss.optim.ScipyMinimizer:
    return ss.optim.ScipyMinimizer(params, "BFGS", options={"maxiter": 5})


DATA = X.astype(np.float64), Y


def fit(trainer: ss.Trainer, epochs: int, batch_size: int = 70) -> ss.train.History:
    held = XV.astype(np.float64), YV
    return trainer.fit(DATA, held, epochs=epochs, batch_size=batch_size, progress=False)


@pytest.mark.parametrize("make", [lbfgs, scipy])
def test_an_epoch_is_a_step_on_all_data(make) -> None:
    trainer = build(make)
    history = fit(trainer, 6)
    assert history["step"] == [1, 2, 3, 4, 5, 6]
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    start = build(make)
    assert history["loss"][0] == pytest.approx(start.evaluate(DATA)["loss"], rel=1e-12)
    assert "lr" not in history.columns


@pytest.mark.parametrize("make", [lbfgs, scipy])
def test_the_batch_size_bounds_memory_and_changes_nothing(make) -> None:
    """Sums over parts of 9 differ from one sum by rounding alone; dropout's mask is the step's."""
    whole, parts = build(make, 0.3), build(make, 0.3)
    losses = [fit(whole, 3)["loss"], fit(parts, 3, batch_size=9)["loss"]]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    assert parts.clock.samples == 3 * 70


def test_lbfgs_in_a_trainer_is_lbfgs_by_hand() -> None:
    trainer, other = build(lbfgs), build(lbfgs)
    fit(trainer, 3)
    model, loss = other.model, ss.nn.CrossEntropy()
    for _ in range(3):
        other.optimizer.step(lambda: model.loss_and_grads(DATA, loss))
    for name, array in copy(other).items():
        np.testing.assert_allclose(copy(trainer)[name], array, rtol=1e-7, atol=1e-9)


def test_a_resumed_run_is_bit_equal(tmp_path) -> None:
    straight = build(lbfgs)
    fit(straight, 5)
    for epochs in (1, 2, 4):
        fit(build(lbfgs, callbacks=(Checkpoint(tmp_path / str(epochs)),)), epochs)
        again = ss.Trainer.resume(tmp_path / str(epochs), build(lbfgs, callbacks=(Checkpoint(tmp_path / str(epochs)),)))
        fit(again, 5)
        assert same(copy(straight), copy(again))
        assert straight.history.rows == again.history.rows


def test_frozen_parameters_stay() -> None:
    trainer = build(lbfgs)
    trainer.freeze("0.*")
    before = copy(trainer)
    fit(trainer, 2)
    assert [name for name in before if (copy(trainer)[name] != before[name]).any()] == ["3.weight", "3.bias"]


def test_errors_name_step_and_epoch_and_change_nothing() -> None:
    trainer = build(lbfgs)
    fit(trainer, 1)
    bad = DATA[0].copy()
    bad[3, 2] = np.nan
    before = copy(trainer)
    with pytest.raises(ss.NonFiniteError, match="at step 2, epoch 2"):
        trainer.fit((bad, Y), epochs=2, progress=False)
    assert same(before, copy(trainer))


def test_what_cannot_go_together_is_named() -> None:
    with pytest.raises(TypeError, match=r"data must be arrays or have __getitem__ .*, got list_iterator"):
        build(lbfgs).fit(iter([DATA]), progress=False)
    with pytest.raises(ValueError, match=r"loss_scale must be None for this model or optimizer, got 2.0"):
        build(lbfgs, loss_scale=2.0)
    with pytest.raises(ValueError, match=r"ScipyMinimizer: state_dict must be .*'BFGS'.*, got .*'other'"):
        build(scipy).optimizer.load_state_dict({"version": 1, "optimizer": "scipy", "method": "other"})
