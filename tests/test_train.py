"""The trainer: determinism, clocks, metrics, callbacks, progress, errors."""

import io
import sys

import numpy as np
import pytest

import stepsmith as ss
from stepsmith.train import Callback, Clock, EarlyStopping, FunctionModel, History, Trainer
from stepsmith.train.loader import Loader
from stepsmith.train.sources import Arrays

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 6)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] ** 2 > 0.7).astype(np.int64)
XV, YV = X[:25] + np.float32(0.1), Y[:25]


def build(seed: int = 0, dropout: float = 0.2, lr: object = 1e-2, callbacks: tuple = (), **settings) -> Trainer:
    model = ss.nn.Sequential(ss.nn.Linear(6, 16), ss.nn.ReLU(), ss.nn.Dropout(dropout), ss.nn.Linear(16, 2), seed=seed)
    optimizer = ss.optim.Adam(model.parameters(), lr=lr)
    return Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=seed, callbacks=callbacks, **settings)


def fit(trainer: Trainer, epochs: int, validation: tuple | None = None, **settings) -> History:
    return trainer.fit((X, Y), validation, epochs=epochs, batch_size=16, progress=False, **settings)


def copy(trainer: Trainer) -> dict[str, np.ndarray]:
    return {name: param.copy() for name, param in trainer.model.parameters().items()}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all((a[name] == b[name]).all() for name in a)


class Breaker(Callback):
    """Breaks a run off after some epochs; `fit` must clean up and a later one go on."""

    def __init__(self, epoch: int, error: type[BaseException]) -> None:
        self.epoch, self.error, self.ended = epoch, error, 0

    def on_epoch_end(self, _trainer, row) -> None:
        if row["epoch"] == self.epoch:
            raise self.error

    def on_fit_end(self, _trainer) -> None:
        self.ended += 1


def test_equal_seeds_give_equal_runs_and_training_learns() -> None:
    first, second, other = build(), build(), build(seed=1)
    start = copy(first)
    histories = [fit(trainer, 15, (XV, YV)) for trainer in (first, second, other)]
    assert not same(start, copy(first))
    assert same(copy(first), copy(second))
    assert histories[0].rows == histories[1].rows != histories[2].rows
    assert histories[0]["loss"][-1] < 0.6 * histories[0]["loss"][0]


def test_the_trainer_s_seed_keys_dropout() -> None:
    losses = []
    for seed in (0, 1, 0):
        model = ss.nn.Sequential(ss.nn.Dropout(0.5), ss.nn.Linear(6, 2))
        trainer = Trainer(model, optimizer=ss.optim.SGD(model.parameters(), lr=0.1), seed=seed)
        losses.append(fit(trainer, 1, shuffle=False)["loss"])
    assert losses[0] == losses[2] != losses[1]


def test_epochs_are_the_total_over_fits() -> None:
    straight, parts = build(), build()
    fit(straight, 6)
    fit(parts, 2)
    history = fit(parts, 6)
    assert same(copy(straight), copy(parts))
    assert history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert history["step"] == [5, 10, 15, 20, 25, 30]
    assert len(fit(parts, 3)) == 6
    assert (parts.clock.epoch, parts.clock.step, parts.clock.samples, parts.clock.position) == (6, 30, 420, 0)


def test_a_fit_broken_inside_an_epoch_goes_on_where_it_was() -> None:
    straight, broken = build(), build()
    fit(straight, 4)
    step, seen = broken.optimizer.step, 0

    class Interrupting:
        params = broken.optimizer.params
        bind = broken.optimizer.bind

        def step(self, _grads=None):
            nonlocal seen
            seen += 1
            if seen == 8:
                raise KeyboardInterrupt
            return step()

    broken.optimizer = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        fit(broken, 4)
    assert (broken.clock.epoch, broken.clock.position, broken.clock.step) == (1, 32, 7)
    fit(broken, 4)
    assert same(copy(straight), copy(broken))
    assert straight.history.rows == broken.history.rows


def test_schedule_and_first_group_s_rate_are_recorded() -> None:
    schedule = ss.schedules.CosineAnnealing(1e-2, T_max=20)
    assert fit(build(lr=schedule), 3)["lr"] == pytest.approx([schedule(4), schedule(9), schedule(14)])


def drawn(loader: Loader, epoch: int, position: int = 0) -> list[list[np.ndarray]]:
    micros = loader.epoch(Clock(epoch=epoch, position=position))
    return [[array.copy() for array in micro.batch] for micro in micros]


def test_shuffle_is_a_function_of_seed_and_epoch() -> None:
    source = Arrays((X, Y))
    orders = [source.order(3, epoch).tolist() for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[1]) == list(range(70))
    assert source.order(4, 0).tolist() != orders[0]
    loader = Loader(source, 16, seed=3)
    got = drawn(loader, 1)
    assert [len(batch[0]) for batch in got] == [16, 16, 16, 16, 6]
    assert (np.concatenate([batch[0] for batch in got]) == X[orders[1]]).all()
    assert (np.concatenate([batch[1] for batch in got]) == Y[orders[1]]).all()
    assert (np.concatenate([batch[1] for batch in drawn(loader, 1, 32)]) == Y[orders[1]][32:]).all()


def test_without_shuffle_batches_are_views_in_order() -> None:
    loader = Loader(Arrays((X, Y)), 32, shuffle=False)
    batches = [micro.batch for micro in loader.epoch(Clock(epoch=5))]
    assert all(np.shares_memory(batch[0], X) for batch in batches)
    assert (np.concatenate([batch[1] for batch in batches]) == Y).all()


def test_metrics_are_means_over_samples_not_batches() -> None:
    trainer = build(dropout=0.0, lr=0.0)
    history = fit(trainer, 1, (X, Y))
    logits = trainer.predict(X, batch_size=7)
    loss, _ = ss.nn.cross_entropy(logits, Y)
    for got in (history["loss"][0], history["val_loss"][0], trainer.evaluate((X, Y), batch_size=33)["loss"]):
        assert got == pytest.approx(loss, rel=1e-5)
    assert trainer.evaluate((X, Y), batch_size=33)["accuracy"] == (logits.argmax(axis=1) == Y).mean()


def test_predict_returns_an_array_of_its_own() -> None:
    trainer = build()
    first = trainer.predict(X)
    kept = first.copy()
    trainer.predict(XV)
    assert (first == kept).all()
    assert first.shape == (70, 2)


def test_frozen_parameters_stay() -> None:
    model = ss.nn.Sequential(ss.nn.Linear(6, 8), ss.nn.Tanh(), ss.nn.Linear(8, 2))
    head = {name: param for name, param in model.parameters().items() if name.startswith("2.")}
    trainer = Trainer(model, optimizer=ss.optim.SGD(head, lr=0.1))
    before = copy(trainer)
    fit(trainer, 2)
    after = copy(trainer)
    assert [name for name in before if (before[name] != after[name]).any()] == ["2.weight", "2.bias"]


def quadratic(params, batch):
    error = params["w"] - batch[0].mean(axis=0)
    return float(error @ error), {"w": 2 * error}


def test_function_model_trains_on_any_batch() -> None:
    params = {"w": np.zeros(6)}
    model = FunctionModel(params, quadratic, predict=lambda p, inputs: inputs @ p["w"])
    trainer = Trainer(model, optimizer=ss.optim.SGD(model.parameters(), lr=0.1))
    data = (X.astype(np.float64),)
    trainer.fit(data, data, epochs=30, batch_size=70, progress=False)
    np.testing.assert_allclose(params["w"], data[0].mean(axis=0), atol=1e-2)
    assert trainer.predict(data[0]).shape == (70,)
    assert set(trainer.evaluate(data)) == {"loss"}


def test_mse_and_a_function_as_loss_agree() -> None:
    def twice_mse(output, target):
        difference = output - target
        return 2 * float((difference**2).mean()), 4 * difference / difference.size

    losses, target = [], X[:, :2].copy()
    for loss in ("mse", twice_mse, ss.nn.MeanSquaredError()):
        model = ss.nn.Sequential(ss.nn.Linear(6, 2))
        trainer = Trainer(model, loss=loss, optimizer=ss.optim.SGD(model.parameters(), lr=0.0))
        losses.append(trainer.fit((X, target), epochs=1, progress=False)["loss"][0])
    assert losses == pytest.approx([losses[0], 2 * losses[0], losses[0]], rel=1e-5)


def test_nonfinite_loss_stops_before_the_update() -> None:
    bad = X.copy()
    bad[69, 3] = np.inf
    trainer = build(dropout=0.0)
    with pytest.raises(ss.NonFiniteError, match=r"Trainer: loss must be finite, got (nan|inf) at step 5, epoch 1"):
        trainer.fit((bad, Y), epochs=1, batch_size=16, progress=False, shuffle=False)
    assert trainer.clock.step == 4
    assert all(np.isfinite(param).all() for param in trainer.model.parameters().values())


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, RuntimeError])
def test_early_stopping_restores_the_best_however_it_ends(error) -> None:
    class Seen(Callback):
        def __init__(self) -> None:
            self.params: list[dict[str, np.ndarray]] = []

        def on_epoch_end(self, trainer, _row) -> None:
            self.params.append(copy(trainer))

    seen, stopping = Seen(), EarlyStopping(patience=3)
    trainer = build(lr=0.2, callbacks=(seen, stopping, Breaker(4 if error else -1, error or RuntimeError)))
    if error:
        with pytest.raises(error):
            fit(trainer, 60, (XV, YV))
    else:
        fit(trainer, 60, (XV, YV))
        assert len(trainer.history) == stopping.best_epoch + 3 < 60
    losses = trainer.history["val_loss"]
    assert stopping.best == min(losses)
    assert stopping.best_epoch == losses.index(min(losses)) + 1 < len(losses)
    assert same(copy(trainer), seen.params[stopping.best_epoch - 1])
    assert not same(copy(trainer), seen.params[-1])


def build_normalized(callbacks: tuple = (), **options) -> Trainer:
    """A model with buffers."""
    model = ss.nn.Sequential(ss.nn.BatchNorm(6), ss.nn.Linear(6, 16), ss.nn.ReLU(), ss.nn.Linear(16, 2))
    return Trainer(model, optimizer=ss.optim.Adam(model.parameters(), lr=0.01, **options), callbacks=callbacks)


def everything(trainer: Trainer) -> dict[str, np.ndarray]:
    return copy(trainer) | {name: array.copy() for name, array in trainer.model.buffers().items()}


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_early_stopping_restores_buffers_with_the_parameters(error) -> None:
    class Seen(Callback):
        def __init__(self) -> None:
            self.arrays: list[dict[str, np.ndarray]] = []

        def on_epoch_end(self, trainer, _row) -> None:
            self.arrays.append(everything(trainer))

    seen, stopping = Seen(), EarlyStopping(patience=3, mode="max")
    trainer = build_normalized(callbacks=(seen, stopping, Breaker(3 if error else -1, error or RuntimeError)))
    if error:
        with pytest.raises(error):
            fit(trainer, 60, (XV, YV))
    else:
        fit(trainer, 60, (XV, YV))
    best, last = seen.arrays[stopping.best_epoch - 1], seen.arrays[-1]
    assert same(everything(trainer), best)
    assert all((best[name] != last[name]).any() for name in trainer.model.buffers())
    assert trainer.model.buffers()["0.num_batches_tracked"] == 5 * stopping.best_epoch
    assert trainer.evaluate((XV, YV))["loss"] == stopping.best


def test_an_update_that_breaks_off_leaves_the_buffers_as_they_were() -> None:
    """So that the fit that goes on does not count a batch twice."""
    straight, broken = build_normalized(), build_normalized()
    fit(straight, 3)
    step, seen = broken.optimizer.step, 0

    def breaking(grads=None):
        nonlocal seen
        seen += 1
        if seen == 8:
            raise KeyboardInterrupt
        return step(grads)

    broken.optimizer.step = breaking
    with pytest.raises(KeyboardInterrupt):
        fit(broken, 3)
    assert broken.model.buffers()["0.num_batches_tracked"] == 7
    fit(broken, 3)
    assert same(everything(straight), everything(broken))


def test_a_nonfinite_batch_does_not_spoil_the_buffers() -> None:
    trainer = build_normalized()
    bad = X.copy()
    bad[69, 3] = np.inf
    with pytest.raises(ss.NonFiniteError, match="at step 5, epoch 1"):
        trainer.fit((bad, Y), epochs=1, batch_size=16, progress=False, shuffle=False)
    assert all(np.isfinite(array).all() for array in everything(trainer).values())
    assert trainer.model.buffers()["0.num_batches_tracked"] == 4


def test_a_skipped_update_leaves_the_buffers_as_they_were() -> None:
    trainer = build_normalized(on_nonfinite="skip")
    step, before = trainer.optimizer.step, everything(trainer)

    def spoiled(grads=None):
        trainer.model.gradients()["1.bias"][0] = np.nan
        return step(grads)

    trainer.optimizer.step = spoiled
    fit(trainer, 1)
    assert trainer.clock.step == 5
    assert same(before, everything(trainer))


def test_early_stopping_stays_stopped_until_reset() -> None:
    stopping = EarlyStopping(patience=1, min_delta=100.0, restore_best=False)
    trainer = build(callbacks=(stopping,))
    assert len(fit(trainer, 9, (XV, YV))) == 2
    assert len(fit(trainer, 9, (XV, YV))) == 2
    stopping.reset()
    assert len(fit(trainer, 9, (XV, YV))) == 4


def test_early_stopping_modes_and_nan() -> None:
    high, low = EarlyStopping(2, monitor="val_accuracy"), EarlyStopping(2, monitor="loss", min_delta=0.1)
    trainer = build()
    for value in (0.5, 0.6, float("nan"), 0.6):
        high.on_epoch_end(trainer, {"val_accuracy": value})
    assert (high.mode, high.best, high.stopped) == ("max", 0.6, True)
    for value in (0.5, 0.45, 0.39):
        low.on_epoch_end(trainer, {"loss": value})
    assert (low.mode, low.best, low.waited) == ("min", 0.39, 0)


def test_every_callback_s_end_is_called_once_after_an_error() -> None:
    first, second = Breaker(1, RuntimeError), Breaker(-1, RuntimeError)
    with pytest.raises(RuntimeError):
        fit(build(callbacks=(first, second)), 3)
    assert (first.ended, second.ended) == (1, 1)


def output_of(progress, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> str:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    build().fit((X, Y), (XV, YV), epochs=3, batch_size=16, progress=progress)
    return stream.getvalue()


def test_progress_without_a_terminal_is_one_line_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = output_of(True, monkeypatch, terminal=False)
    assert [line.split()[:2] for line in lines.splitlines()] == [["epoch", f"{i}/3"] for i in (1, 2, 3)]
    assert "val_accuracy" in lines
    assert lines.replace("\n", "").isprintable()
    assert output_of("bar", monkeypatch, terminal=False) == output_of(False, monkeypatch, terminal=True) == ""


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = output_of(True, monkeypatch, terminal=True)
    assert "\r" in bar
    assert "210/210" in bar
    assert "epoch 3/3" in bar


def test_history_is_a_table_with_columns(tmp_path) -> None:
    history = History()
    history.append({"epoch": 1, "loss": 0.5}, seconds=2.0)
    history.append({"epoch": 2, "loss": 0.25, "val_loss": 3e-5})
    assert history.columns == ["epoch", "loss", "val_loss"]
    assert np.isnan(history["val_loss"][0])
    assert str(history).splitlines()[2].split() == ["2", "0.2500", "3.00e-05"]
    history.append({"epoch": 3, "penalty": 0.1, "accuracy": 0.5, "lr": 0.1, "loss_scale": 2.0})
    figure = history.plot(tmp_path / "curves.png")
    curves = [[line.get_label() for line in axes.lines] for axes in figure.axes]
    assert curves == [["loss", "val_loss", "penalty"], ["accuracy"]]
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(KeyError, match="f1"):
        history["f1"]
    single = History()
    single.append({"epoch": 1, "loss": 0.5})
    assert single.plot().axes[0].lines[0].get_marker() == "."
    with pytest.raises(ValueError, match="at least one epoch"):
        History().plot()


def test_plot_without_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"stepsmith\[plot\]"):
        History().plot()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t.fit((X, Y[:5])), ValueError, r"arrays of data must have one length, got \[70, 5\]"),
        (lambda t: t.fit((X[:0], Y[:0])), ValueError, r"data must not be empty"),
        (lambda t: t.fit(()), ValueError, r"data must not be empty"),
        (lambda t: t.fit((X,)), ValueError, r"data must be \(inputs, targets\) or .*, got 1 arrays"),
        (lambda t: t.fit(X), TypeError, r"data must be a tuple of arrays such as \(X, y\), got one array"),
        (lambda t: t.fit((X, Y.tolist())), TypeError, r"data\[1\] must be a NumPy array, got list"),
        (lambda t: t.fit((X, Y), (XV, YV[:3])), ValueError, r"arrays of validation must have one length"),
        (lambda t: t.fit((X, Y), (XV, YV + 1)), ValueError, r"labels must be in \[0, 2\), got 2"),
        (lambda t: t.fit((X, Y - 1)), ValueError, r"labels must be in \[0, 2\), got -1"),
        (lambda t: t.fit((X, Y * 1.0)), TypeError, r"labels must be integers, got float64"),
        (lambda t: t.fit((X * 1j, Y)), TypeError, r"input must be float32 as the parameters, got complex64"),
        (lambda t: t.fit((X.astype(np.float64), Y)), TypeError, r"input must be float32.*, got float64"),
        (lambda t: t.fit((X[:, :3], Y)), ValueError, r"input must have shape \(samples, ..., 6\), got \(2, 3\)"),
        (lambda t: t.fit((X, Y), batch_size=0), ValueError, r"batch_size must be at least 1, got 0"),
        (lambda t: t.fit((X, Y), batch_size=1.5), TypeError, r"batch_size must be an integer, got 1.5"),
        (lambda t: t.fit((X, Y), epochs=-1), ValueError, r"epochs must be at least 0, got -1"),
        (lambda t: t.fit((X, Y), progress="loud"), ValueError, r"progress must be True, False or 'bar', got 'loud'"),
        (lambda t: t.evaluate((X, Y), batch_size=0), ValueError, r"batch_size must be at least 1, got 0"),
        (lambda t: t.predict(X[:0]), ValueError, r"inputs must not be empty"),
        (lambda t: t.predict(X.tolist()), TypeError, r"inputs must be a NumPy array, got list"),
    ],
)
def test_bad_arguments_are_named_and_nothing_moves(call, error, message) -> None:
    trainer = build()
    before = copy(trainer)
    with pytest.raises(error, match=message):
        call(trainer)
    assert same(before, copy(trainer))
    assert trainer.clock.step == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, o: Trainer(m, loss="l7", optimizer=o), ValueError, r"loss must be one of .* got 'l7'"),
        (lambda m, o: Trainer(m, loss=3, optimizer=o), TypeError, r"loss must be a name or a function, got int"),
        (lambda m, o: Trainer(m, optimizer=o, seed=-1), ValueError, r"seed must be at least 0, got -1"),
        (lambda m, o: Trainer(m, optimizer=o, seed=2**64), ValueError, r"seed must be at most"),
        (lambda m, o: Trainer(m, optimizer=o, seed=0.5), TypeError, r"seed must be an integer, got 0.5"),
        (lambda _, o: Trainer(object(), optimizer=o), TypeError, r"model must have parameters\(\)"),
        (lambda _, o: Trainer(ss.nn.Linear(6, 2), optimizer=o), ValueError, r"optimizer must hold the model's own"),
        (lambda _, o: Trainer(ss.nn.ReLU(), optimizer=o), ValueError, r"optimizer must hold parameters of \[\]"),
        (lambda _, o: Trainer(FunctionModel({}, quadratic), "mse", optimizer=o), ValueError, r"loss must be None"),
        (lambda *_: EarlyStopping(patience=0), ValueError, r"EarlyStopping: patience must be at least 1, got 0"),
        (lambda *_: EarlyStopping(1, min_delta=-1.0), ValueError, r"min_delta must be finite and at least 0, got -1.0"),
        (lambda *_: EarlyStopping(1, mode="up"), ValueError, r"mode must be .* got 'up'"),
        (lambda *_: fit(build(callbacks=(EarlyStopping(1),)), 1), ValueError, r"needs fit\(validation=...\)"),
        (
            lambda *_: fit(build(callbacks=(EarlyStopping(1, monitor="f1"),)), 1),
            ValueError,
            r"monitor must be one of",
        ),
    ],
)
def test_bad_construction_is_named(call, error, message) -> None:
    model = ss.nn.Linear(6, 2)
    with pytest.raises(error, match=message):
        call(model, ss.optim.SGD(model.parameters(), lr=0.1))


def test_predict_without_a_predictor_is_an_error() -> None:
    model = FunctionModel({"w": np.zeros(6)}, quadratic)
    with pytest.raises(TypeError, match=r"predict needs a model that has it, got FunctionModel"):
        Trainer(model, optimizer=ss.optim.SGD(model.parameters(), lr=0.1)).predict(X)


def test_parameters_that_the_optimizer_does_not_hold_stay_in_a_function_model_too() -> None:
    params = {"w": np.ones(3), "b": np.ones(3)}
    model = FunctionModel(params, lambda p, _: (float((p["w"] + p["b"]).sum()), {"w": np.ones(3), "b": np.ones(3)}))
    trainer = Trainer(model, optimizer=ss.optim.SGD({"w": params["w"]}, lr=0.5))
    trainer.fit((np.zeros((4, 1)),), epochs=1, batch_size=4, progress=False)
    assert (params["w"] == 0.5).all()
    assert (params["b"] == 1).all()
