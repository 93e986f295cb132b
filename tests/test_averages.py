"""Averaged weights are evaluated in a copy: the optimizer's moving average, SWA, schedule-free averages."""

import numpy as np
import pytest

import stepsmith as ss
from stepsmith.train import SWA, Callback, FunctionModel
from test_train import XV, YV, X, Y, build, copy, fit, quadratic, same


def trainer_of(optimizer: object, callbacks: tuple = (), **settings) -> ss.Trainer:
    model = ss.nn.Sequential(ss.nn.Linear(6, 16), ss.nn.BatchNorm(16), ss.nn.ReLU(), ss.nn.Linear(16, 2))
    return ss.Trainer(model, optimizer=optimizer(model.parameters(), **settings), callbacks=callbacks)


def by_hand(trainer: ss.Trainer, weights: dict[str, np.ndarray]) -> dict[str, float]:
    """The evaluation of a network that is built anew with these weights."""
    other = trainer_of(ss.optim.SGD)
    for name, array in {**trainer.model.buffers(), **weights}.items():
        {**other.model.parameters(), **other.model.buffers()}[name][...] = array
    return other.evaluate((XV, YV))


class Watch(Callback):
    """The live weights' bytes at each call, and the arrays' addresses."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def on_epoch_end(self, trainer, _row) -> None:
        self.seen.append(b"".join(array.tobytes() for array in trainer.model.parameters().values()))


def test_the_moving_average_is_evaluated_and_the_live_weights_stay() -> None:
    watch, plain = Watch(), Watch()
    trainer = trainer_of(ss.optim.AdamW, (watch,), ema=0.8, lr=0.05)
    fit(trainer, 3, (XV, YV), validation_weights="ema")
    fit(trainer_of(ss.optim.AdamW, (plain,), lr=0.05), 3, (XV, YV))
    assert watch.seen == plain.seen, "an evaluation between epochs changes no bit of training"
    before = copy(trainer)
    ema = {name: row["ema"] for name, row in trainer.optimizer.state.items()}
    want = by_hand(trainer, ema)
    assert trainer.evaluate((XV, YV), weights="ema") == want
    assert want["loss"] == trainer.history["val_loss"][-1]
    assert want["loss"] != trainer.evaluate((XV, YV))["loss"]
    assert (trainer.predict(XV, weights="ema") != trainer.predict(XV)).any()
    assert same(before, copy(trainer))


def test_swa_is_the_mean_of_the_epochs_ends() -> None:
    class Seen(Callback):
        def __init__(self) -> None:
            self.params: list[dict[str, np.ndarray]] = []

        def on_epoch_end(self, trainer, _row) -> None:
            self.params.append(copy(trainer))

    seen, swa = Seen(), SWA(start=3, every=2)
    trainer = trainer_of(ss.optim.SGD, (seen, swa), lr=0.1)
    with pytest.raises(RuntimeError, match="SWA: an average needs an epoch from 3 on, got none yet"):
        trainer.evaluate((XV, YV), weights="swa")
    fit(trainer, 8)
    assert swa.count == 3
    for name, mean in swa.average().items():
        want = np.mean([seen.params[epoch - 1][name].astype(np.float64) for epoch in (3, 5, 7)], axis=0)
        np.testing.assert_allclose(mean, want, atol=1e-6)
    assert trainer.evaluate((XV, YV), weights="swa") == by_hand(trainer, dict(swa.average()))


def test_statistics_are_measured_anew_for_averaged_weights() -> None:
    trainer = trainer_of(ss.optim.SGD, (SWA(start=1),), lr=0.1)
    fit(trainer, 3)
    live = {name: array.copy() for name, array in trainer.model.buffers().items()}
    model = trainer.averaged_model("swa", (X, Y), batch_size=35)
    hidden = X @ model.parameters()["0.weight"].T + model.parameters()["0.bias"]
    want = (hidden[:35].mean(axis=0) + hidden[35:].mean(axis=0)) / 2
    np.testing.assert_allclose(model.buffers()["1.running_mean"], want, atol=1e-5)
    assert model.buffers()["1.num_batches_tracked"] == 2
    assert model.modules[1].momentum == trainer.model.modules[1].momentum == 0.1
    assert all((trainer.model.buffers()[name] == array).all() for name, array in live.items())
    kept = trainer.averaged_model("swa")
    assert all((kept.buffers()[name] == array).all() for name, array in live.items())
    assert not np.shares_memory(kept.parameters()["0.weight"], model.parameters()["0.weight"])


def test_a_schedule_free_optimizer_is_evaluated_at_its_average() -> None:
    trainer = trainer_of(ss.optim.ScheduleFreeAdamW, lr=0.05)
    fit(trainer, 4, (XV, YV))
    before, got = copy(trainer), trainer.evaluate((XV, YV))
    assert got["loss"] == trainer.history["val_loss"][-1]
    assert trainer.optimizer.training
    assert same(before, copy(trainer))
    assert trainer.evaluate((XV, YV), weights="live")["loss"] != got["loss"]
    averaged = trainer.optimizer.averaged()
    trainer.optimizer.eval()
    assert same(averaged, copy(trainer)), "the bits of eval()"
    assert trainer.evaluate((XV, YV)) == trainer.evaluate((XV, YV), weights="live") == got
    assert same(trainer.optimizer.averaged(), copy(trainer))


def test_a_fit_brings_a_schedule_free_optimizer_back_to_training() -> None:
    trainer = trainer_of(ss.optim.ScheduleFreeAdamW, lr=0.05)
    fit(trainer, 1)
    trainer.optimizer.eval()
    fit(trainer, 2)
    assert trainer.optimizer.training
    assert trainer.clock.step == 10


def test_averages_of_a_function_model() -> None:
    data = (X.astype(np.float64),)
    model = FunctionModel({"w": np.zeros(6)}, quadratic, predict=lambda p, inputs: inputs @ p["w"])
    trainer = ss.Trainer(model, optimizer=ss.optim.SGD(model.parameters(), lr=0.3, ema=0.5))
    trainer.fit(data, data, epochs=2, progress=False, validation_weights="ema")
    ema, live = trainer.optimizer.state["w"]["ema"], model.parameters()["w"]
    assert (ema != live).any()
    assert (trainer.predict(data[0], weights="ema") == data[0] @ ema).all()
    assert (trainer.predict(data[0]) == data[0] @ live).all()


class Stubborn:
    """A model that hands out the same arrays whatever is done to it."""

    def __init__(self) -> None:
        self.w = np.zeros(6)

    def parameters(self):
        return {"w": self.w}

    def loss_and_grads(self, batch):
        return quadratic(self.parameters(), batch)


class Shared(Stubborn):
    def __deepcopy__(self, memo):
        return self


class Refusing(Stubborn):
    def __deepcopy__(self, memo):
        raise RuntimeError("not me")


@pytest.mark.parametrize(("kind", "message"), [(Shared, "got 'w' shared with the copy"), (Refusing, "got Refusing")])
def test_models_that_cannot_be_copied_are_named(kind, message) -> None:
    model = kind()
    trainer = ss.Trainer(model, optimizer=ss.optim.SGD(model.parameters(), lr=0.1, ema=0.9))
    with pytest.raises(TypeError, match=rf"model must be one that copy.deepcopy can copy, {message}"):
        trainer.evaluate((X.astype(np.float64),), weights="ema")


def test_unknown_weights_are_named() -> None:
    with pytest.raises(ValueError, match=r"weights must be one of live, got 'ema'"):
        build().evaluate((X, Y), weights="ema")
