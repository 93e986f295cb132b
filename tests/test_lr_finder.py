"""The learning rate range test: its curve, its suggestion, and that it leaves no trace."""

import json
import sys

import numpy as np
import pytest

import stepsmith as ss
from stepsmith.train import Callback, DynamicLossScale, FunctionModel, LRFinder, LRMonitor, Trainer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 6)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] ** 2 > 0.7).astype(np.int64)


def build(kind: type = ss.optim.Adam, lr: object = 0.01, callbacks: tuple = (), **options) -> Trainer:
    model = ss.nn.Sequential(
        ss.nn.BatchNorm(6), ss.nn.Linear(6, 16), ss.nn.ReLU(), ss.nn.Dropout(0.2), ss.nn.Linear(16, 2)
    )
    optimizer = kind(model.parameters(), lr=lr, **options)
    scale = DynamicLossScale(interval=3) if options.get("on_nonfinite") == "skip" else 2.0
    return Trainer(model, optimizer=optimizer, seed=3, callbacks=callbacks, loss_scale=scale)


def fit(trainer: Trainer, epochs: int, **settings) -> None:
    trainer.fit((X, Y), (X[:20], Y[:20]), epochs=epochs, batch_size=16, progress=False, **settings)


def flat(tree: object, path: str = "") -> dict[str, object]:
    """Leaves of a state, arrays as their bytes."""
    if isinstance(tree, dict):
        return {key: leaf for name in tree for key, leaf in flat(tree[name], f"{path}/{name}").items()}
    if isinstance(tree, list | tuple):
        return {key: leaf for i, item in enumerate(tree) for key, leaf in flat(item, f"{path}/{i}").items()}
    return {path: (tree.dtype, tree.shape, tree.tobytes()) if isinstance(tree, np.ndarray) else tree}


def state_of(trainer: Trainer) -> dict[str, object]:
    state = flat(trainer.state_dict())
    return {path: leaf for path, leaf in state.items() if not path.startswith("/history/seconds")}


class Counted(Callback):
    """Counts its calls in its state."""

    def __init__(self) -> None:
        self.calls = 0

    def on_fit_begin(self, trainer) -> None:
        self.calls += 1

    def on_step_end(self, trainer, row) -> None:
        self.calls += 1

    def state_dict(self):
        return {"calls": self.calls}


CASES = {
    "momentum": (ss.optim.SGD, {"momentum": 0.9}),
    "ema": (ss.optim.AdamW, {"ema": 0.9, "max_norm": 1.0}),
    "int8": (ss.optim.Adam, {"state_dtype": "int8", "min_8bit_size": 1, "state_rounding": "stochastic"}),
    "schedule": (ss.optim.Adam, {"lr": ss.schedules.CosineAnnealing(0.01, T_max=20)}),
    "plateau": (ss.optim.Adam, {"lr": ss.schedules.ReduceOnPlateau(0.01, patience=0)}),
    "schedule_free": (ss.optim.ScheduleFreeAdamW, {}),
    "skip": (ss.optim.Adam, {"on_nonfinite": "skip"}),
    "zero_grads": (ss.optim.Lion, {"zero_grads": True}),
}


@pytest.mark.parametrize("before", [0, 7])
@pytest.mark.parametrize("case", CASES)
def test_a_fit_after_it_has_the_bits_of_one_without(case, before) -> None:
    """Everything that a run is: parameters, buffers, optimizer, clock, history; mid-epoch too."""
    kind, options = CASES[case]
    outcomes = []
    for searches in (False, True):
        trainer = build(kind, callbacks=(Counted(), LRMonitor()), **options)
        trainer.freeze("1.bias")
        for _ in range(before):
            trainer.fit((X, Y), epochs=trainer.clock.epoch + 1, batch_size=16, progress=False, steps_per_epoch=1)
        if searches:
            state = state_of(trainer)
            finder = trainer.lr_find((X, Y), steps=20, batch_size=16)
            assert len(finder.losses) > 5
            assert state_of(trainer) == state
        fit(trainer, before + 2)
        outcomes.append(state_of(trainer) | {"/lr": json.dumps(str(trainer.optimizer.groups[0]))})
    assert [path for path in outcomes[0] if outcomes[0][path] != outcomes[1][path]] == []


def test_it_leaves_arrays_and_bindings_alone_within_a_running_epoch() -> None:
    outcomes = []
    for searches in (False, True):

        class Searching(Callback):
            def on_step_end(self, trainer, row, searches=searches) -> None:
                if searches and row["step"] in (2, 7):
                    trainer.lr_find((X, Y), steps=5, batch_size=16)

        trainer = build(ss.optim.SGD, momentum=0.9, callbacks=(Searching(),))
        fit(trainer, 2)
        outcomes.append(state_of(trainer))
    assert [path for path in outcomes[0] if outcomes[0][path] != outcomes[1][path]] == []


def test_losses_are_those_of_steps_with_these_rates() -> None:
    """Against a fit with the same rates in a schedule; a group of its own keeps its ratio."""
    trainer = build(ss.optim.SGD)
    finder = trainer.lr_find((X, Y), 1e-3, 1.0, 12, 16, smoothing=0.0, stop_factor=100.0)
    np.testing.assert_allclose(finder.lrs, np.geomspace(1e-3, 1.0, 12), rtol=1e-15)
    losses = []

    class Losses(Callback):
        def on_step_end(self, trainer, row) -> None:
            losses.append(row["loss"])

    class Rates(ss.schedules.Schedule, name="rates_of_test"):
        def value(self, step: int) -> float:
            return float(finder.lrs[min(step, 11)])

    fit(build(ss.optim.SGD, lr=Rates(), callbacks=(Losses(),)), 3)
    ss.schedules.REGISTRY.pop("rates_of_test")
    assert finder.losses.tolist() == losses[:12]
    assert (finder.smoothed == finder.losses).all()


def test_groups_keep_their_ratios(monkeypatch) -> None:
    seen = []
    step = ss.optim.SGD.step
    monkeypatch.setattr(ss.optim.SGD, "step", lambda *a, **k: seen.append(step(*a, **k)) or seen[-1])
    model = ss.nn.Linear(6, 2)
    decaying = ss.schedules.Step(0.4, step_size=1, gamma=0.5)
    groups = [
        {"params": {"weight": model.params["weight"]}, "lr": decaying},
        {"params": {"bias": model.params["bias"]}},
    ]
    trainer = Trainer(model, optimizer=ss.optim.SGD(groups, lr=0.05))
    trainer.fit((X, Y), epochs=1, batch_size=35, progress=False)
    seen.clear()
    trainer.lr_find((X, Y), 1e-3, 1e-1, 5)
    assert [info.lr for info in seen] == [(lr, lr * (0.05 / 0.1)) for lr in np.geomspace(1e-3, 1e-1, 5)]


def test_what_is_frozen_stays_so_in_it() -> None:
    model = ss.nn.Linear(6, 2)
    trainer = Trainer(model, optimizer=ss.optim.SGD(model.parameters(), lr=0.1))
    data, settings = (X, Y), {"start": 0.1, "steps": 5, "batch_size": 70}
    assert len(set(trainer.lr_find(data, **settings).losses.tolist())) == 5
    trainer.freeze("*")
    np.testing.assert_allclose(np.ptp(trainer.lr_find(data, **settings).losses), 0, atol=1e-6)


def test_smoothing_is_the_moving_average_without_its_bias() -> None:
    finder = build().lr_find((X, Y), 1e-4, 1e-1, 15, smoothing=0.8)
    average, want = 0.0, []
    for i, loss in enumerate(finder.losses):
        average = 0.8 * average + 0.2 * loss
        want.append(average / (1 - 0.8 ** (i + 1)))
    np.testing.assert_allclose(finder.smoothed, want, rtol=1e-12)


@pytest.mark.parametrize(("target", "ending"), [(2.0, "factor"), (1e10, "overflow")])
def test_it_ends_early_when_the_loss_explodes(target, ending) -> None:
    model = ss.nn.Linear(6, 1)
    trainer = Trainer(model, "mse", optimizer=ss.optim.SGD(model.parameters(), lr=0.1))
    data = (X, np.full((70, 1), target, np.float32))
    finder = trainer.lr_find(data, end=1e4, stop_factor=4.0 if ending == "factor" else 1e300)
    assert 0 < len(finder.lrs) == len(finder.losses) == len(finder.smoothed) < 100
    assert np.isfinite(finder.losses).all()
    if ending == "factor":
        assert finder.smoothed[-1] > 4.0 * finder.smoothed.min() > finder.smoothed[-2]
        assert 1e-3 < finder.suggestion < 1.0


def test_a_loss_below_zero_does_not_end_it_early() -> None:
    w = np.array([3.0])
    model = FunctionModel({"w": w}, lambda p, _: (float((p["w"] ** 2).sum()) - 5.0, {"w": 2 * p["w"]}))
    finder = Trainer(model, optimizer=ss.optim.SGD({"w": w}, lr=0.1)).lr_find((np.zeros((4, 1)),), 1e-3, 0.3, 30)
    assert len(finder.losses) == 30
    assert finder.losses[-1] < 0 < finder.losses[0]
    assert w == 3.0


def test_a_loss_that_is_never_finite_gives_an_empty_curve() -> None:
    w = np.ones(1)
    model = FunctionModel({"w": w}, lambda p, _: (float("nan"), {"w": p["w"]}))
    finder = Trainer(model, optimizer=ss.optim.SGD({"w": w}, lr=0.1)).lr_find((np.zeros((4, 1)),))
    assert (len(finder.lrs), len(finder.losses), finder.suggestion) == (0, 0, None)


def test_the_suggestion_is_where_the_curve_falls_most_before_its_minimum() -> None:
    lrs = np.geomspace(1e-5, 1e-1, 41)
    falls = np.zeros(41)
    falls[20:31], falls[24:28], falls[34] = 0.01, [0.2, 0.5, 0.5, 0.2], -8.0
    # Deeper, but after the minimum; the first tenth has the deepest.
    falls[36], falls[37], falls[1] = 7.0, -7.0, 9.0
    curve = 20.0 - np.cumsum(falls)
    assert curve[4:].argmin() + 4 == 30
    assert LRFinder(lrs, curve, curve).suggestion == lrs[25]
    rising = np.linspace(1.0, 2.0, 41)
    assert LRFinder(lrs, rising, rising).suggestion is None


@pytest.mark.parametrize("data", [(X, Y), list(zip(X, Y)), [(X[:35], Y[:35]), (X[35:], Y[35:])].__iter__])
def test_it_takes_what_fit_takes_but_plain_iterators(data) -> None:
    class Batches:
        def __iter__(self):
            return data()

    finder = build().lr_find(Batches() if callable(data) else data, steps=11)
    assert len(finder.losses) == 11


def test_further_arguments_reach_the_fit() -> None:
    plain = build().lr_find((X, Y), steps=6)
    halves = build().lr_find((X, Y), steps=6, batch_size=16, accumulate=2)
    weighted = build().lr_find((X, Y), steps=6, class_weight={1: 9.0})
    noisy = build().lr_find((X, Y), steps=6, augment=lambda batch, _rng: [batch[0] + np.float32(1), *batch[1:]])
    assert halves.losses[0] != plain.losses[0]
    assert len({run.losses[0] for run in (plain, weighted, noisy)}) == 3


def test_the_plot_shows_both_curves(tmp_path, monkeypatch) -> None:
    finder = build().lr_find((X, Y), 1e-4, 1.0, steps=30)
    axes = finder.plot(tmp_path / "curve.png").axes[0]
    assert (tmp_path / "curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert axes.get_xscale() == "log"
    assert (axes.lines[1].get_ydata() == finder.smoothed).all()
    assert axes.lines[2].get_xdata()[0] == finder.suggestion
    LRFinder(*(np.zeros(0),) * 3).plot(tmp_path / "empty.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"LRFinder.plot .*stepsmith\[plot\]"):
        finder.plot()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"start": 0.0}, ValueError, r"Trainer.lr_find: start must be finite and more than 0, got 0.0"),
        ({"start": 1.0, "end": 1.0}, ValueError, r"Trainer.lr_find: end must be finite and more than 1, got 1.0"),
        ({"steps": 1}, ValueError, r"Trainer.lr_find: steps must be at least 2, got 1"),
        ({"steps": 2.0}, TypeError, r"Trainer.lr_find: steps must be an integer, got 2.0"),
        ({"smoothing": 1.0}, ValueError, r"Trainer.lr_find: smoothing must be in \[0, 1\), got 1.0"),
        ({"stop_factor": 1.0}, ValueError, r"Trainer.lr_find: stop_factor must be finite and more than 1, got 1.0"),
        ({"batch_size": 0}, ValueError, r"Trainer: batch_size must be at least 1, got 0"),
        ({"data": iter([(X, Y)])}, TypeError, r"Trainer.lr_find: data must be something that can be read again"),
        ({"data": (X, Y[:3])}, ValueError, r"arrays of data must have one length"),
    ],
)
def test_bad_arguments_are_named(settings, error, message) -> None:
    with pytest.raises(error, match=message):
        build().lr_find(**{"data": (X, Y), **settings})


def test_an_optimizer_without_steps_of_its_own_is_refused() -> None:
    model = ss.nn.Linear(6, 2)
    trainer = Trainer(model, optimizer=ss.optim.LBFGS(model.parameters()))
    with pytest.raises(TypeError, match=r"lr_find: optimizer must be one that can be cloned, got LBFGS"):
        trainer.lr_find((X, Y))
