"""What the trainer promises beside its results: each of these goes red when one line of it is taken away."""

import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import stepsmith as ss
from stepsmith.train import SWA, Checkpoint, DynamicLossScale, FunctionCallback, Trainer
from stepsmith.train.accumulator import Accumulator
from stepsmith.train.sources import Arrays, split
from test_train import XV, YV, X, Y, build, build_normalized, copy, everything, fit, same

WIDE = X.astype(np.float64), Y


def at_step(step: int, call: Callable[[Trainer], Any]) -> FunctionCallback:
    return FunctionCallback(on_step_end=lambda trainer, row: call(trainer) if row["step"] == step else None)


def broken(_trainer: Trainer) -> None:
    raise KeyboardInterrupt


# Going on after an error


def test_an_iterator_goes_on_after_an_error_however_many_batches_were_drawn_ahead() -> None:
    """A window that breaks off, a full queue, and what waits before it: none is lost."""
    drawn = 0

    def stream() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal drawn
        for i in range(0, 10**6, 7):
            drawn += 1
            yield X[i % 50 : i % 50 + 10], Y[i % 50 : i % 50 + 10]

    def settled(_grads=None):
        """All that can be drawn is drawn before the error."""
        before = -1
        while before != drawn:
            before = drawn
            time.sleep(0.05)
        raise KeyboardInterrupt

    options = {"steps_per_epoch": 3, "accumulate": 3, "prefetch": 4, "progress": False}
    straight, stopped, batches = build(), build(), stream()
    straight.fit(stream(), epochs=3, **options)
    stopped.fit(batches, epochs=1, **options)
    step, stopped.optimizer.step = stopped.optimizer.step, settled
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(batches, epochs=3, **options)
    stopped.optimizer.step = step
    assert stopped.clock.drawn == 9
    stopped.fit(batches, epochs=3, **options)
    assert same(copy(straight), copy(stopped))


def state_at(step: int, data: Any, **options: Any) -> dict[str, Any]:
    """The state of a run that broke off after this step."""
    trainer = build(callbacks=(at_step(step, broken),))
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(data, epochs=3, batch_size=16, progress=False, **options)
    return trainer.state_dict()


class Batches:
    """Data that begin anew in each epoch."""

    def __init__(self, size: int, stop: int = 70) -> None:
        self.size, self.stop = size, stop

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return ((X[i : i + self.size], Y[i : i + self.size]) for i in range(0, self.stop, self.size))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ((X, Y), (X[:40], Y[:40]), r"data must be longer than the 48 samples already done of it"),
        (Batches(16), Batches(16, stop=32), r"data must be longer than the 48 samples already done of it"),
        (Batches(16), Batches(20), r"data must yield the batches of before, got one that ends at 60, not 48"),
        (iter(Batches(16)), iter(Batches(16, stop=32)), r"data must yield the 3 batches already done, got 2"),
    ],
    ids=["arrays", "short iterable", "other batches", "short iterator"],
)
def test_data_that_do_not_fit_a_resumed_run_are_named(before, after, message) -> None:
    resumed = build(callbacks=(at_step(-1, broken),))
    resumed.load_state_dict(state_at(3, before))
    weights = copy(resumed)
    with pytest.raises(ValueError, match="Trainer: " + message):
        resumed.fit(after, epochs=3, batch_size=16, progress=False)
    assert same(weights, copy(resumed))
    assert resumed.clock.step == 3


class Killer(FunctionCallback):
    """Breaks off after a step, once it was saved."""

    comes_last = True

    def __init__(self, step: int) -> None:
        super().__init__(on_step_end=lambda trainer, row: broken(trainer) if row["step"] == step else None)


def test_a_stop_within_an_epoch_is_not_forgotten_by_a_resumed_run(tmp_path: Path) -> None:
    def run(folder: Path, last: int) -> Trainer:
        saving = Checkpoint(tmp_path / folder, every_steps=1)
        return build(callbacks=(at_step(7, Trainer.stop), saving, Killer(last)))

    straight, killed = run(tmp_path / "a", -1), run(tmp_path / "b", 8)
    fit(straight, 9)
    with pytest.raises(KeyboardInterrupt):
        fit(killed, 9)
    resumed = Trainer.resume(tmp_path / "b", run(tmp_path / "b", -1))
    assert resumed.clock.step == 8
    fit(resumed, 9)
    assert (len(straight.history), resumed.history.rows) == (2, straight.history.rows)
    assert same(copy(straight), copy(resumed))
    fit(resumed, 9)
    assert len(resumed.history) == 9, "a stop is for one fit"


def full_batch(callbacks: tuple = (), loss: Any = None, dropout: float = 0.0) -> Trainer:
    layers = ss.nn.BatchNorm(6, dtype=np.float64), ss.nn.Linear(6, 2, dtype=np.float64), ss.nn.Dropout(dropout)
    model = ss.nn.Sequential(*layers)
    return Trainer(model, loss, optimizer=ss.optim.LBFGS(model.parameters(), max_iter=3), callbacks=callbacks)


def test_a_full_batch_step_is_not_taken_again_after_a_checkpoint_before_its_epoch_s_end(tmp_path: Path) -> None:
    """The checkpoints are written after a step and before its epoch is closed."""
    saving = {"every_steps": 1, "every_epochs": None, "keep": None}
    straight = full_batch((Checkpoint(tmp_path / "a", **saving),))
    straight.fit(WIDE, epochs=4, progress=False)
    found = sorted((tmp_path / "a").iterdir())
    assert len(found) == 4
    for path in found:
        resumed = Trainer.resume(path, full_batch((Checkpoint(tmp_path / "b", **saving),)))
        assert resumed.clock.position == 70
        resumed.fit(WIDE, epochs=4, progress=False)
        assert resumed.clock.step == 4
        assert resumed.history.rows == straight.history.rows
        assert same(everything(straight), everything(resumed))


def test_a_full_batch_step_that_fails_leaves_the_buffers_as_they_were() -> None:
    trainer = full_batch()
    trainer.fit(WIDE, progress=False)
    before, step, moved = everything(trainer), trainer.optimizer.step, []

    def failing(closure):
        closure()
        moved.append(not same(before, everything(trainer)))
        raise RuntimeError("in the step")

    trainer.optimizer.step = failing
    with pytest.raises(RuntimeError, match="in the step"):
        trainer.fit(WIDE, epochs=2, progress=False)
    assert moved == [True]
    assert same(before, everything(trainer))
    trainer.optimizer.step = step
    trainer.fit(WIDE, epochs=2, progress=False)
    straight = full_batch()
    straight.fit(WIDE, epochs=2, progress=False)
    assert same(everything(straight), everything(trainer))


def test_statistics_are_unfrozen_in_a_resumed_run_as_in_a_straight_one() -> None:
    trainers = [build_normalized(), build_normalized(), build_normalized()]
    straight, resumed, still = trainers
    for trainer in (straight, resumed):
        trainer.freeze("0.*", statistics=True)
        fit(trainer, 1)
    state, resumed = resumed.state_dict(), build_normalized()
    for trainer in (resumed, still):
        trainer.load_state_dict(state)
    fit(still, 2)
    assert still.model.buffers()["0.num_batches_tracked"] == 0, "frozen after the resume too"
    for trainer in (straight, resumed):
        trainer.unfreeze("0.*")
        fit(trainer, 3)
        assert trainer.frozen == set()
        assert trainer.model.buffers()["0.num_batches_tracked"] == 10
    assert same(everything(straight), everything(resumed))


# Steps


def masks(optimizer: Callable[[Any], Any], batch_size: int, accumulate: int = 1) -> list[np.ndarray]:
    """What dropout kept of each sample, for each evaluation of 24 samples."""
    seen: list[np.ndarray] = []

    def loss(output: np.ndarray, _target: np.ndarray) -> tuple[float, np.ndarray]:
        seen.append(output != 0.0)
        return float((output**2).mean()), 2 * output / output.size

    model = ss.nn.Sequential(ss.nn.Linear(6, 8), ss.nn.Dropout(0.5))
    trainer = Trainer(model, loss, optimizer=optimizer(model.parameters()), seed=3)
    trainer.fit((X[:24], Y[:24]), epochs=3, batch_size=batch_size, accumulate=accumulate, progress=False)
    rows = np.concatenate(seen)
    return [rows[i : i + 24] for i in range(0, len(rows), 24)]


def test_a_dropout_mask_is_the_step_s_however_its_batch_is_cut() -> None:
    whole, parts = masks(ss.optim.SGD, 24), masks(ss.optim.SGD, 5, accumulate=5)
    assert len(whole) == len(parts) == 3
    assert all((a == b).all() for a, b in zip(whole, parts, strict=True))
    assert not (whole[0] == whole[1]).all()
    assert not (whole[1] == whole[2]).all()


def test_every_evaluation_within_a_full_batch_step_has_the_mask_of_that_step() -> None:
    whole, parts = (masks(lambda p: ss.optim.LBFGS(p, max_iter=2), size) for size in (24, 7))
    per_step = masks(ss.optim.SGD, 24)
    assert len(whole) == len(parts) > 3
    for found in (whole, parts):
        steps = [next(step for step, mask in enumerate(per_step) if (mask == one).all()) for one in found]
        assert steps == sorted(steps)
        assert set(steps) == {0, 1, 2}


@pytest.mark.parametrize("skips", [False, True])
def test_constraints_come_after_steps_that_are_made_and_no_others(skips: bool) -> None:
    model = ss.nn.Sequential(ss.nn.Linear(6, 2))
    optimizer = ss.optim.SGD(model.parameters(), lr=0.1, on_nonfinite="skip")
    trainer = Trainer(model, optimizer=optimizer, regularizers=[ss.nn.MaxNorm(1e-3), ss.nn.L2(0.1, decoupled=True)])
    before, step = copy(trainer), optimizer.step

    def spoiled(grads=None):
        model.gradients()["0.bias"][0] = np.nan if skips else 0.0
        return step(grads)

    optimizer.step = spoiled
    fit(trainer, 1)
    assert same(before, copy(trainer)) == skips
    norms = np.linalg.norm(model.parameters()["0.weight"], axis=1)
    assert (norms.max() > 1e-2) == skips


# Numbers


def test_sums_of_16_bit_gradients_are_float32() -> None:
    seen: list[np.ndarray] = []
    model = ss.nn.MixedPrecision(ss.nn.Linear(6, 2), "float16")
    keep = FunctionCallback(on_step_end=lambda trainer, _row: seen.extend(trainer.updater.gradients.values()))
    trainer = Trainer(model, optimizer=ss.optim.SGD(model.parameters(), master=True), callbacks=[keep])
    fit(trainer, 1, accumulate=2)
    assert {grad.dtype for grad in seen} == {np.dtype(np.float32)}


def summed(*parts: tuple[float, Any]) -> np.ndarray:
    total = Accumulator()
    for weight, grad in parts:
        total.add({"w": grad}, weight)
    return total.finish()["w"]


def test_sums_of_gradients_overflow_late_and_silently() -> None:
    large = np.full(3, 60000.0, np.float16)
    assert summed((3.0, large), (5.0, large)).tolist() == [60000.0] * 3
    huge = np.array([3e38, 1.0, np.inf], ml_dtypes.bfloat16)
    found = summed((4.0, huge), (4.0, -huge))
    assert found.dtype == np.float32
    assert np.isnan(found).tolist() == [True, False, True], "a sum that overflowed is no small number"


def test_the_average_of_a_16_bit_model_is_float32() -> None:
    model, seen = ss.nn.MixedPrecision(ss.nn.Linear(6, 2)), []
    swa = SWA(start=1)
    look = FunctionCallback(on_epoch_end=lambda trainer, _row: seen.append(copy(trainer)))
    optimizer = ss.optim.SGD(model.parameters(), lr=0.5, master=True)
    trainer = Trainer(model, optimizer=optimizer, callbacks=[look, swa])
    fit(trainer, 7)
    for name, mean in swa.average().items():
        assert mean.dtype == np.float32
        want = np.mean([params[name].astype(np.float64) for params in seen], axis=0)
        np.testing.assert_allclose(mean, want, rtol=1e-6, atol=1e-7)
    assert trainer.evaluate((X, Y), weights="swa")["loss"] > 0.0


def test_a_dynamic_scale_does_not_grow_beyond_float32() -> None:
    scale = DynamicLossScale(scale=2.0**124, interval=2)
    scales = [scale.scale for _ in range(12) if not scale.update(False)]
    assert [np.log2(found) for found in scales] == [124, 125, 125, 126, *[126] * 8]
    assert np.isfinite(np.float32(scale.scale))


def test_balanced_weights_count_the_training_part_alone() -> None:
    rows = [part.rows for part in split(Arrays((X, Y)), 0.3, 0)]
    train = np.bincount(Y[rows[0]])
    every = np.bincount(Y)
    of_train, of_every = (dict(enumerate(n.sum() / (2 * n))) for n in (train, every))
    balanced, by_hand, other = (fitted(build(), class_weight=weights) for weights in ("balanced", of_train, of_every))
    assert same(balanced, by_hand)
    assert not same(balanced, other)


def fitted(trainer: Trainer, **options: Any) -> dict[str, np.ndarray]:
    fit(trainer, 2, 0.3, **options)
    return copy(trainer)


def test_an_average_that_there_is_not_yet_stands_back_for_the_live_weights() -> None:
    live, averaged = build(callbacks=(SWA(start=3),)), build(callbacks=(SWA(start=3),))
    fit(live, 5, (XV, YV))
    fit(averaged, 5, (XV, YV), validation_weights="swa")
    want, got = live.history["val_loss"], averaged.history["val_loss"]
    assert got[:2] == want[:2]
    assert got[3] != want[3]
    assert got[4] != want[4]


# The machine


def blas_threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_the_blas_has_its_number_of_threads_during_a_fit_alone() -> None:
    seen: list[list[int]] = []

    def look(batch, _rng):
        seen.append(blas_threads())
        return batch

    with threadpool_limits(3, "blas"):
        outside = blas_threads()
        if not outside or set(outside) == {2}:
            pytest.skip("no BLAS whose threads can be chosen")
        look_too = FunctionCallback(on_step_end=lambda _trainer, _row: seen.append(blas_threads()))
        trainer = build(blas_threads=2, callbacks=(look_too,))
        fit(trainer, 1)
        trainer.lr_find((X, Y), steps=2, augment=look)
        assert len(seen) == 7
        assert seen == [[2] * len(outside)] * 7
        assert blas_threads() == outside


@pytest.mark.skipif(os.name == "nt", reason="folders are not synced there")
def test_all_of_a_checkpoint_is_synced_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files and its folder before the rename, the folder around it after that."""
    synced: list[tuple[int, int, bool]] = []
    fsync, runs = os.fsync, tmp_path / "runs"

    def spy(descriptor: int) -> None:
        is_there = runs.is_dir() and any(path.name.startswith("step-") for path in runs.iterdir())
        fact = os.fstat(descriptor)
        entries = len(os.listdir(descriptor)) if stat.S_ISDIR(fact.st_mode) else 0
        synced.append((fact.st_ino, entries, is_there))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    path = Path(build().save(runs))
    files = list(path.iterdir())
    assert len(files) == 4
    for file in files:
        assert (file.stat().st_ino, 0, False) in synced, file.name
    assert (path.stat().st_ino, 4, False) in synced, "the folder once all of them are in it"
    assert (runs.stat().st_ino, 1, True) in synced
