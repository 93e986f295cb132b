"""Models that are no modules, optimizers over parts of arrays, callbacks that reach into the trainer."""

import numpy as np
import pytest

import stepsmith as ss
from stepsmith.train import SWA, Callback, FunctionModel
from test_train import XV, YV, X, Y, build, copy, fit, same

DATA = (X.astype(np.float64),)


def partly(missing):
    """The gradient of b is None for batches that `missing` names."""

    def loss_and_grads(params, batch):
        error = params["a"] - batch[0].mean(axis=0)
        has_b = not missing(batch)
        return float(error @ error), {"a": 2 * error, "b": np.ones(3) if has_b else None}

    params = {"a": np.zeros(6), "b": np.zeros(3)}
    return FunctionModel(params, loss_and_grads), params


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_gradient_that_is_none_skips_its_tensor(accumulate: int) -> None:
    model, params = partly(lambda _batch: True)
    trainer = ss.Trainer(model, optimizer=ss.optim.AdamW(params, lr=0.1))
    trainer.fit(DATA, epochs=2, batch_size=35 // accumulate, accumulate=accumulate, progress=False)
    assert params["a"].all()
    assert not params["b"].any()
    steps = trainer.optimizer.state_dict()["steps"]
    assert steps == {"a": trainer.clock.step, "b": 0}


def test_none_in_some_parts_of_a_window_counts_as_nothing_there_and_in_all_as_none() -> None:
    seen = 0

    def missing(_batch) -> bool:
        nonlocal seen
        seen += 1
        return seen in (1, 3, 4)

    model, params = partly(missing)
    trainer = ss.Trainer(model, optimizer=ss.optim.SGD(params, lr=1.0))
    trainer.fit(DATA, epochs=1, batch_size=35, accumulate=2, progress=False)
    assert params["b"].tolist() == [-0.5] * 3, "half of the samples have the gradient"
    trainer.fit(DATA, epochs=2, batch_size=35, accumulate=2, progress=False)
    assert params["b"].tolist() == [-0.5] * 3
    assert trainer.optimizer.state_dict()["steps"] == {"a": 2, "b": 1}


def test_none_counts_as_zeros_for_lbfgs_and_a_missing_name_is_an_error() -> None:
    model, params = partly(lambda _batch: True)
    trainer = ss.Trainer(model, optimizer=ss.optim.LBFGS(params))
    trainer.fit(DATA, epochs=1, batch_size=20, progress=False)
    np.testing.assert_allclose(params["a"], DATA[0].mean(axis=0), atol=1e-6)
    assert not params["b"].any()
    lacking = FunctionModel(params, lambda p, _batch: (1.0, {"a": p["a"], "c": p["b"]}))
    for accumulate in (1, 2):
        trainer = ss.Trainer(lacking, optimizer=ss.optim.SGD(params, lr=0.1))
        with pytest.raises(ValueError, match=r"gradients must have all of \['a', 'b'\], got none for \['b'\]"):
            trainer.fit(DATA, accumulate=accumulate, progress=False)


class Counting:
    """A model whose training passes move a buffer."""

    def __init__(self) -> None:
        self.w, self.passes = np.zeros(6), np.zeros(1)

    def parameters(self):
        return {"w": self.w}

    def buffers(self):
        return {"passes": self.passes}

    def loss_and_grads(self, batch):
        self.passes += 1
        error = self.w - batch[0].mean(axis=0)
        return float(error @ error), {"w": 2 * error}


def test_an_evaluation_trains_nothing_of_a_model_of_one_s_own() -> None:
    model = Counting()
    trainer = ss.Trainer(model, optimizer=ss.optim.SGD(model.parameters(), lr=0.1))
    trainer.fit(DATA, DATA, epochs=2, batch_size=35, progress=False)
    assert model.passes == 4
    trainer.evaluate(DATA)
    assert model.passes == 4


def test_an_optimizer_over_a_neighbouring_view_is_refused() -> None:
    both = np.zeros((4, 8))
    model = FunctionModel({"w": both[:, :4]}, lambda _p, _batch: (0.0, {"w": np.zeros((4, 4))}))
    ss.Trainer(model, optimizer=ss.optim.SGD({"w": both[:, :4]}, lr=0.1))
    for other in (both[:, 4:], both[:, :4].copy(), both[:, :2]):
        with pytest.raises(ValueError, match="optimizer must hold the model's own arrays, got another array as 'w'"):
            ss.Trainer(model, optimizer=ss.optim.SGD({"w": other}, lr=0.1))


def test_a_callback_may_roll_the_run_back() -> None:
    class RollBack(Callback):
        def __init__(self) -> None:
            self.saved = None

        def on_epoch_end(self, trainer, _row) -> None:
            if trainer.clock.epoch == 1 and self.saved is None:
                self.saved = trainer.state_dict()
            elif trainer.clock.epoch == 3 and self.saved:
                saved, self.saved = self.saved, {}
                trainer.load_state_dict(saved)

    trainer, straight = build(callbacks=(RollBack(),)), build()
    fit(trainer, 4, (XV, YV))
    fit(straight, 4, (XV, YV))
    assert trainer.history.rows == straight.history.rows
    assert same(copy(trainer), copy(straight))


def test_a_fit_leaves_no_gradients_bound() -> None:
    trainer = build()
    fit(trainer, 1)
    with pytest.raises(RuntimeError, match=r"step\(\) needs gradients"):
        trainer.optimizer.step()


def test_an_averaged_model_is_of_the_weights_that_are_named() -> None:
    trainer = build(callbacks=(SWA(start=1),))
    fit(trainer, 3)
    for _ in range(2):
        live, swa = trainer.averaged_model("live"), trainer.averaged_model("swa")
        assert same(live.parameters(), copy(trainer))
        assert same(trainer.averaged_model().parameters(), copy(trainer))
        assert same(swa.parameters(), dict(trainer.callbacks[0].average()))
        trainer.evaluate((X, Y), weights="swa")


def test_a_clone_s_schedule_is_its_own() -> None:
    schedule = ss.schedules.ReduceOnPlateau(0.1, patience=0, factor=0.5)
    optimizer = ss.optim.SGD({"w": np.zeros(2)}, lr=schedule)
    twin = optimizer.clone({"w": np.zeros(2)})
    for _ in range(3):
        twin.groups[0]["lr"].update(1.0)
    assert (schedule(0), twin.groups[0]["lr"](0)) == (0.1, 0.025)


def test_constraints_are_refused_where_steps_do_not_come_back() -> None:
    model = ss.nn.Sequential(ss.nn.Linear(6, 2))
    for regularizer in (ss.nn.MaxNorm(0.1), ss.nn.L2(0.1, decoupled=True)):
        with pytest.raises(ValueError, match=r"regularizers must be penalties beside LBFGS.*, got \w+ that acts after"):
            ss.Trainer(model, optimizer=ss.optim.LBFGS(model.parameters()), regularizers=[regularizer])
    ss.Trainer(model, optimizer=ss.optim.LBFGS(model.parameters()), regularizers=[ss.nn.L2(0.1)])


def test_the_direction_of_a_column_is_known_or_must_be_said() -> None:
    for monitor, mode in (("val_recall", "max"), ("val_acc", "max"), ("val_rmse", "min"), ("loss", "min")):
        assert ss.train.EarlyStopping(1, monitor=monitor).mode == mode
    with pytest.raises(ValueError, match=r"mode must be 'min' or 'max' for 'val_iou', which nobody knows"):
        ss.train.EarlyStopping(1, monitor="val_iou")
    assert ss.train.EarlyStopping(1, monitor="val_iou", mode="max").mode == "max"
