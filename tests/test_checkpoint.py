"""Checkpoints: what is in the folder, what is kept, what is damaged, what does not fit, and kills while saving."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import stepsmith as ss
from helpers import environ
from stepsmith.train import Checkpoint, EarlyStopping, checkpoint
from stepsmith.train.tree import join, separate
from test_train import XV, YV, build, copy, fit, same


def run(folder: Path, epochs: int = 2, **options) -> ss.Trainer:
    trainer = build(callbacks=(Checkpoint(folder, **options),))
    fit(trainer, epochs, (XV, YV))
    return trainer


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def resumed(folder: Path, watch: str | None = None, **options) -> ss.Trainer:
    saving = Checkpoint(folder) if watch is None else Checkpoint(folder, monitor=watch, mode="max")
    return ss.Trainer.resume(folder, build(callbacks=(saving,), **options))


def test_a_checkpoint_is_safetensors_and_json(tmp_path) -> None:
    trainer = run(tmp_path, epochs=1)
    (folder,) = tmp_path.iterdir()
    assert folder.name == "step-000000005-epoch-000001"
    assert names(folder) == ["manifest.json", "model.safetensors", "state.json", "state.safetensors"]
    model = ss.quant.load(folder / "model.safetensors")
    assert list(model) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert same(copy(trainer), model)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["files"]["state.json"]["bytes"] == (folder / "state.json").stat().st_size
    assert len(manifest["files"]) == 3


def test_saving_by_hand_and_resuming_from_one_checkpoint(tmp_path) -> None:
    straight, first = build(), build()
    fit(straight, 4)
    fit(first, 2)
    path = first.save(tmp_path / "runs")
    fit(first, 3)
    first.save(tmp_path / "runs")
    for place, epochs in ((path, 2), (tmp_path / "runs", 3)):
        again = ss.Trainer.resume(place, build(seed=0))
        assert again.clock.epoch == epochs
        fit(again, 4)
        assert same(copy(straight), copy(again))
        assert again.history.rows == straight.history.rows


def watching(folder: Path) -> Checkpoint:
    return Checkpoint(folder, every_steps=2, keep=2, monitor="val_loss")


def test_the_newest_and_the_best_are_kept(tmp_path) -> None:
    trainer = build(lr=0.2, callbacks=(watching(tmp_path),))
    fit(trainer, 15, (XV, YV))
    losses = trainer.history["val_loss"]
    best = losses.index(min(losses)) + 1
    assert best < 14
    saved = trainer.callbacks[0]
    assert saved.best == min(losses)
    assert saved.best_path == tmp_path / f"step-{5 * best:09d}-epoch-{best:06d}"
    newest = ["step-000000074-epoch-000014", "step-000000075-epoch-000015"]
    assert names(tmp_path) == sorted({saved.best_path.name, *newest})
    assert ss.Trainer.resume(saved.best_path, build(callbacks=(watching(tmp_path),))).clock.epoch == best


def test_every_epochs_and_keep_none(tmp_path) -> None:
    run(tmp_path / "a", epochs=5, every_epochs=2, keep=None)
    assert [int(name[-2:]) for name in names(tmp_path / "a")] == [2, 4]
    run(tmp_path / "b", epochs=2, every_epochs=None, every_steps=4, keep=None)
    assert [int(name.split("-")[1]) for name in names(tmp_path / "b")] == [4, 8]


FILES = ("model.safetensors", "state.safetensors", "state.json", "manifest.json")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning(tmp_path, file: str, damage: str) -> None:
    run(tmp_path)
    old, new = sorted(tmp_path.iterdir())
    spoil(new / file, damage)
    with pytest.warns(UserWarning, match=rf"{new.name} must be as it was written.*; taking the one before"):
        trainer = resumed(tmp_path)
    assert trainer.clock.epoch == 1
    assert same(copy(trainer), ss.quant.load(old / "model.safetensors"))
    spoil(old / file, damage)
    with (
        pytest.warns(UserWarning, match="one before"),
        pytest.raises(ValueError, match="folder must hold a good checkpoint"),
    ):
        resumed(tmp_path)
    with pytest.raises(ss.train.DamagedError):
        checkpoint.read(new)


def spoil(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
        return
    if damage == "cut":
        del content[-1]
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_a_flipped_byte_anywhere_is_detected(tmp_path, file: str) -> None:
    run(tmp_path, epochs=1)
    (folder,) = tmp_path.iterdir()
    content = (folder / file).read_bytes()
    for i in range(len(content)):
        (folder / file).write_bytes(content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :])
        with pytest.raises(ss.train.DamagedError):
            checkpoint.read(folder)


def test_damaged_and_abandoned_checkpoints_are_kept_out_of_the_way(tmp_path) -> None:
    run(tmp_path, epochs=2, keep=1)
    trainer = resumed(tmp_path)
    fit(trainer, 3, (XV, YV))
    spoil(tmp_path / "step-000000015-epoch-000003" / "state.json", "flip")
    with pytest.warns(UserWarning, match="taking the one before"):
        again = resumed(tmp_path)
    fit(again, 3, (XV, YV))
    old, new = "step-000000010-epoch-000002", "step-000000015-epoch-000003"
    assert names(tmp_path) == [f"abandoned-{new}", old, new]
    assert resumed(tmp_path).clock.epoch == 3
    # The same from an older one by hand: what was newer is no longer the newest.
    branch = ss.Trainer.resume(tmp_path / old, build(callbacks=(Checkpoint(tmp_path),)))
    branch.callbacks[0].on_fit_begin(branch)
    assert names(tmp_path) == [f"abandoned-{new}", f"abandoned-{new}-1", old]
    assert resumed(tmp_path).clock.epoch == 2


def test_another_run_s_folder_is_refused(tmp_path) -> None:
    run(tmp_path, epochs=2)
    other = build(seed=1, callbacks=(Checkpoint(tmp_path),))
    before = copy(other)
    with pytest.raises(FileExistsError, match=r"folder must be of a new run, got 'step-000000010-.*overwrite=True"):
        fit(other, 1, (XV, YV))
    assert same(before, copy(other))
    assert len(names(tmp_path)) == 2
    replacing = build(callbacks=(Checkpoint(tmp_path, overwrite=True),))
    fit(replacing, 1, (XV, YV))
    assert names(tmp_path) == ["step-000000005-epoch-000001"]
    fit(replacing, 2, (XV, YV))
    assert len(names(tmp_path)) == 2, "a further fit of the same run goes on in its folder"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_checkpoint_that_fails_costs_no_older_one(tmp_path, monkeypatch, error) -> None:
    trainer = build(callbacks=(Checkpoint(tmp_path, keep=1, monitor="val_loss", mode="max"),))
    fit(trainer, 2, (XV, YV))
    before, best = names(tmp_path), trainer.callbacks[0].best_path
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write", raising(error))
        with pytest.raises(error):
            fit(trainer, 3, (XV, YV))
    assert (names(tmp_path), trainer.callbacks[0].best_path) == (before, best)
    with pytest.raises(RuntimeError, match="augment"):
        fit(trainer, 4, (XV, YV), augment=raising(RuntimeError("augment")))
    assert names(tmp_path) == before
    fit(trainer, 4, (XV, YV))
    assert resumed(tmp_path, watch="val_loss").clock.epoch == 4


def raising(error):
    def fail(*_arguments):
        raise error

    return fail


def test_a_path_of_one_checkpoint_is_no_folder_of_them(tmp_path) -> None:
    run(tmp_path, epochs=1)
    (folder,) = tmp_path.iterdir()
    (folder / "manifest.json").write_text("null")
    with pytest.raises(ss.train.DamagedError, match="must be as it was written"):
        resumed(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(ss.train.DamagedError, match="must be as it was written"):
        resumed(folder)


@pytest.mark.parametrize("change", [{"monitor": "val_accuracy"}, {"mode": "max"}])
def test_a_callback_that_looked_at_something_else_is_refused(tmp_path, change) -> None:
    for kind in (EarlyStopping, Checkpoint):
        first = [3] if kind is EarlyStopping else [tmp_path / "a"]
        trainer = build(callbacks=(kind(*first, monitor="val_loss"),))
        fit(trainer, 1, (XV, YV))
        other = build(callbacks=(kind(*first, **{"monitor": "val_loss", **change}),))
        with pytest.raises(ValueError, match=rf"{kind.__name__}: {next(iter(change))} must be as it was"):
            other.load_state_dict(trainer.state_dict())
        assert other.clock.step == 0


def test_two_trainers_from_one_state_share_nothing() -> None:
    def make() -> ss.Trainer:
        return build(callbacks=(EarlyStopping(9), ss.train.SWA(start=1)))

    trainer, first, second = make(), make(), make()
    fit(trainer, 2, (XV, YV))
    state = trainer.state_dict()
    for other in (first, second):
        other.load_state_dict(state)
    fit(first, 5, (XV, YV))
    fit(trainer, 5, (XV, YV))
    fit(second, 5, (XV, YV))
    assert same(dict(second.callbacks[1].average()), dict(trainer.callbacks[1].average()))
    assert second.callbacks[0].best == trainer.callbacks[0].best


def test_shadow_copies_of_one_s_own_are_those_of_the_loaded_parameters() -> None:
    shadows = [{"0.weight": np.zeros((16, 6), np.float16)} for _ in range(2)]

    def make(shadow) -> ss.Trainer:
        model = build().model
        optimizer = ss.optim.Adam(model.parameters(), shadow=shadow)
        return ss.Trainer(model, optimizer=optimizer)

    trainer, other = make(shadows[0]), make(shadows[1])
    fit(trainer, 2)
    other.load_state_dict(trainer.state_dict())
    assert (shadows[1]["0.weight"] == trainer.model.parameters()["0.weight"].astype(np.float16)).all()


def test_leftovers_of_a_killed_run_are_removed_and_never_loaded(tmp_path) -> None:
    run(tmp_path, keep=1)
    (good,) = tmp_path.iterdir()
    (tmp_path / ".tmp-step-000000099-epoch-000009-ab").mkdir()
    (tmp_path / "step-000000005-epoch-000001").mkdir()
    (tmp_path / "notes").mkdir()
    trainer = resumed(tmp_path)
    assert trainer.clock.epoch == 2
    fit(trainer, 2, (XV, YV))
    assert names(tmp_path) == ["notes", good.name]


def test_a_folder_without_checkpoints_starts_anew_and_says_so(tmp_path) -> None:
    with pytest.warns(UserWarning, match=r"no checkpoint in .*: starting from the beginning"):
        assert resumed(tmp_path).clock.step == 0
    with pytest.raises(FileNotFoundError, match=r"folder must exist, got '.*nowhere'"):
        resumed(tmp_path / "nowhere")


def other_network(**_options) -> ss.Trainer:
    model = ss.nn.Sequential(ss.nn.Linear(6, 8), ss.nn.BatchNorm(8), ss.nn.Linear(8, 2))
    return ss.Trainer(model, optimizer=ss.optim.Adam(model.parameters()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_network, r"parameters: missing \['1.weight', '1.bias', '2.weight', '2.bias'\], unknown \['3.weight'"),
        (other_network, r"buffers: missing \['1.running_mean'"),
        (other_network, r"parameters\['0.weight'\] must be float32 of shape \(8, 6\), got float32 of shape \(16, 6\)"),
        (lambda: build(seed=1), r"seed must be 1, got 0"),
        (lambda: build(callbacks=(EarlyStopping(1),)), r"callbacks must be \['EarlyStopping'\], got \[\]"),
        (lambda: build(loss_scale=2.0), r"loss_scale must be LossScale, got None"),
    ],
)
def test_a_checkpoint_of_another_trainer_is_refused(tmp_path, make, message) -> None:
    trainer = build()
    fit(trainer, 1)
    trainer.save(tmp_path)
    other = make()
    before = copy(other)
    with pytest.raises(ValueError, match=message):
        ss.Trainer.resume(tmp_path, other)
    assert same(before, copy(other))
    assert other.clock.step == 0


def test_missing_and_unknown_keys_are_named() -> None:
    state = build().state_dict()
    state["what"] = state.pop("clock")
    with pytest.raises(ValueError, match=r"keys: missing \['clock'\], unknown \['what'\]"):
        build().load_state_dict(state)


def test_an_error_of_a_callback_leaves_the_optimizer_as_it_was() -> None:
    class Picky(ss.train.Callback):
        loads = 0

        def load_state_dict(self, state) -> None:
            self.loads += 1
            if self.loads == 1:
                raise ValueError("Picky: no")

    trainer, other = build(callbacks=(Picky(),)), build(callbacks=(Picky(),))
    fit(trainer, 1)
    with pytest.raises(ValueError, match="Picky: no"):
        other.load_state_dict(trainer.state_dict())
    assert other.callbacks[0].loads == 2, "it gets its own state back"
    assert other.optimizer.state_dict()["groups"][0]["step"] == 0
    assert same(copy(other), copy(build()))


def test_trees_keep_every_kind_of_value() -> None:
    tree = {
        "a/b": np.arange(3),
        "a": {"b": np.zeros(()), "c": [1, 2.5, None, True, "x", float("nan"), -np.inf]},
        "n": np.float64(0.1),
        "empty": np.zeros((0, 3), np.float32),
    }
    document, arrays = separate(tree)
    back = join(json.loads(json.dumps(document, allow_nan=False)), arrays)
    assert back["a/b"] is tree["a/b"]
    assert back["a"]["b"] is tree["a"]["b"]
    assert repr(back["a"]["c"]) == repr(tree["a"]["c"])
    assert back["n"] == 0.1
    for bad, message in (({1: 2}, r"keys of a state must be strings"), ({"x": {2}}, r"must be dicts.*got set at 'x'")):
        with pytest.raises(TypeError, match=message):
            separate(bad)


SAVING = """
import sys, numpy as np, stepsmith as ss
model = ss.nn.Sequential(ss.nn.Linear(300, 400), ss.nn.Linear(400, 10))
callbacks = [ss.train.Checkpoint(sys.argv[1], 1, keep=2)]
trainer = ss.Trainer(model, optimizer=ss.optim.Adam(model.parameters()), callbacks=callbacks)
print("ready", flush=True)
X, y = np.ones((4, 300), np.float32), np.arange(4)
ss.Trainer.resume(sys.argv[1], trainer) if len(sys.argv) > 2 else None
trainer.fit((X, y), epochs=10**6, progress=False)
"""


def killed_while_saving(folder: Path, times: int, rng: np.random.Generator) -> None:
    """Each kill leaves a folder whose newest checkpoint is good and not older than the last one before."""
    newest = 0
    for _ in range(times):
        arguments = [str(folder), "again"] if newest else [str(folder)]
        process = subprocess.Popen([sys.executable, "-c", SAVING, *arguments], stdout=subprocess.PIPE, env=environ({}))
        assert process.stdout.readline() == b"ready\n"
        while newest == 0 and not (folder.is_dir() and len(complete(folder)) > 1):
            time.sleep(0.005)
        time.sleep(rng.uniform(0.02, 0.12))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = [checkpoint.read(path)["clock"]["step"] for path in complete(folder)]
        assert max(found) >= newest > 0 or newest == 0
        assert len(found) <= 4
        newest = max(found)


def complete(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith("step-")]


def test_kills_while_saving_lose_nothing(tmp_path) -> None:
    killed_while_saving(tmp_path / "run", 3, np.random.default_rng(0))


@pytest.mark.slow
def test_a_hundred_kills_while_saving_lose_nothing(tmp_path) -> None:
    killed_while_saving(tmp_path / "run", 100, np.random.default_rng(1))


def test_an_error_while_saving_leaves_what_was_there(tmp_path, monkeypatch) -> None:
    trainer = run(tmp_path, epochs=1)
    before = names(tmp_path)
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="no space"):
        trainer.save(tmp_path)
    assert names(tmp_path) == before


def broken(_descriptor: int) -> None:
    raise OSError(28, "no space left on device")
