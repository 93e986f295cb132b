"""``stepsmith train``: a TOML file is a run that can be killed and resumed; wrong keys are named by their paths."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import stepsmith as ss
from helpers import environ
from stepsmith import cli
from stepsmith.config.catalogs import CATALOGS
from stepsmith.config.document import read, written
from stepsmith.config.example import EXAMPLE
from stepsmith.config.layout import Layout
from stepsmith.config.plan import planned
from stepsmith.config.sources import SOURCES

ROOT = Path(__file__).parents[1]
FILES = {
    "checkpoints",
    "config.toml",
    "curves.png",
    "data.json",
    "history.csv",
    "history.jsonl",
    "model.safetensors",
    "report.json",
    "summary.txt",
}

# All that has a state: dropout, running statistics, an average, a warm-up, patience, accumulation.
CONFIG = """
[data]
type = "csv"
path = "table.csv"
target = "species"

[model]
layers = [
    {type = "Linear", out_features = 13},
    {type = "BatchNorm"},
    {type = "ReLU"},
    {type = "Dropout", p = 0.3},
    {type = "Linear"},
]

[optimizer]
type = "adamw"
lr = 0.01
ema = 0.9

[schedule]
type = "cosine_annealing"
warmup = {T = 3}

[training]
epochs = 5
batch_size = 7
accumulate = 2
seed = 3
blas_threads = 1
validation_weights = "ema"

[regularization.L2]
strength = 1e-3

[callbacks.EarlyStopping]
patience = 3

[callbacks.Checkpoint]
monitor = "val_loss"
keep = 1
"""


class Ran(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Ran:
        code = cli.main(["train", *map(str, arguments)])
        return Ran(code, *capsys.readouterr())

    return call


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    inputs = rng.normal(size=(90, 3)) + labels[:, None] * [1.0, 0.0, -2.0]
    with (tmp_path / "table.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["height", "width", "species", "a depth"])
        rows.writerows([x[0], x[1], ("ash", "beech", "elm")[label], x[2]] for x, label in zip(inputs, labels))
    path = tmp_path / "trees.toml"
    path.write_text(CONFIG)
    return path


def settings(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "history.csv").read_text())))


def results(folder: Path) -> dict[str, bytes]:
    """The files that must not depend on what happened on the way."""
    names = "config.toml", "data.json", "history.csv", "history.jsonl", "model.safetensors", "summary.txt"
    return {name: (folder / name).read_bytes() for name in names}


def test_the_example_runs_as_it_is_printed(run: Run, tmp_path: Path) -> None:
    printed = run("--example")
    assert (printed.code, printed.out) == (0, EXAMPLE)
    path = tmp_path / "digits.toml"
    path.write_text(printed.out)
    ran = run(path, *settings("training.epochs=4"))
    assert ran.code == 0, ran.err
    folder = tmp_path / "digits-run"
    assert {entry.name for entry in folder.iterdir()} == FILES
    used = tomllib.loads(EXAMPLE)
    used["training"]["epochs"] = 4
    assert tomllib.loads((folder / "config.toml").read_text()) == used
    assert [row["epoch"] for row in rows(folder)] == ["1", "2", "3", "4"]
    report = json.loads((folder / "report.json").read_text())
    assert report["test"]["accuracy"] > 0.6
    assert f"accuracy {report['test']['accuracy']:.4f}" in ran.out
    confusion = np.array(report["confusion"])
    assert confusion.trace() / confusion.sum() == pytest.approx(report["test"]["accuracy"])
    assert "16,384" in (folder / "summary.txt").read_text()


def test_a_run_is_the_one_that_python_would_make(run: Run, config: Path) -> None:
    assert run(config, *settings("training.validation_weights=live", "callbacks.EarlyStopping=none")).code == 0
    table = list(csv.DictReader(io.StringIO((config.parent / "table.csv").read_text())))
    X = np.array([[float(row[name]) for name in ("height", "width", "a depth")] for row in table])
    y = np.array([("ash", "beech", "elm").index(row["species"]) for row in table])
    rest, _test = ss.train.sources.split(ss.train.sources.Arrays((X, y)), 0.2, 0)
    X, y = X[rest.rows], y[rest.rows]
    own, held = ss.train.sources.split(ss.train.sources.Arrays((X, y)), 0.2, 0)
    shift, scale = X[own.rows].mean(axis=0), X[own.rows].std(axis=0)
    X = ((X - shift) / scale).astype(np.float32)
    nn = ss.nn
    model = nn.Sequential(nn.Linear(3, 13), nn.BatchNorm(13), nn.ReLU(), nn.Dropout(0.3), nn.Linear(13, 3), seed=3)
    steps = 5 * 5  # 58 rows in batches of 7, two a step
    lr = ss.schedules.LinearWarmup(ss.schedules.CosineAnnealing(0.01, steps), 3)
    optimizer = ss.optim.AdamW(model.parameters(), lr=lr, ema=0.9)
    trainer = ss.Trainer(model, optimizer=optimizer, seed=3, regularizers=[nn.L2(1e-3)], blas_threads=1)
    parts = [(X[part.rows], y[part.rows]) for part in (own, held)]
    history = trainer.fit(*parts, epochs=5, batch_size=7, accumulate=2, progress=False)
    found = rows(config.parent / "trees-run")
    for column in ("loss", "penalty", "lr", "val_loss", "val_accuracy"):
        assert [float(row[column]) for row in found] == history[column]
    saved = ss.quant.load(config.parent / "trees-run" / "model.safetensors")
    for name, array in {**model.parameters(), **model.buffers()}.items():
        np.testing.assert_array_equal(saved[name], array)


KILLER = """
import os, signal, sys
from stepsmith import cli, train
hook, when = sys.argv[1], int(sys.argv[2])
usual = getattr(train.Checkpoint, hook)
def killed(self, trainer, row):
    if (trainer.clock.step if hook == "on_step_end" else trainer.clock.epoch) == when:
        os.kill(os.getpid(), signal.SIGKILL)
    usual(self, trainer, row)
setattr(train.Checkpoint, hook, killed)
sys.exit(cli.main(sys.argv[3:]))
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize(
    ("hook", "when", "epochs"),
    [("on_step_end", 18, 3), ("on_epoch_end", 1, 0)],
    ids=["within the fourth epoch", "after the first row, before the first checkpoint"],
)
def test_a_killed_run_ends_in_the_same_bytes(run: Run, config: Path, hook: str, when: int, epochs: int) -> None:
    straight, killed = config.parent / "straight", config.parent / "killed"
    assert run(config, "--output", straight).code == 0
    words = [sys.executable, "-c", KILLER, hook, str(when), "train", str(config), "--output", str(killed)]
    done = subprocess.run(words, capture_output=True, text=True, env=environ({}), timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(rows(killed)) == max(epochs, 1)
    assert not (killed / "model.safetensors").exists()
    ran = run(config, "--output", killed, "--resume")
    assert ran.code == 0, ran.err
    assert f"epoch {epochs + 1}/5" in ran.err
    assert f"epoch {epochs}/5" not in ran.err, "what was done is not done again"
    assert results(killed) == results(straight)
    assert run(config, "--output", killed, "--resume").code == 0, "a run that has ended"
    assert results(killed) == results(straight)


def test_an_interrupted_run_says_how_to_go_on(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight, folder = config.parent / "straight", config.parent / "a run"
    more = settings("optimizer.lr=0.02")
    assert run(config, "--output", straight, *more).code == 0

    def interrupt(_self: Any, trainer: ss.Trainer, _row: Any) -> None:
        if trainer.clock.step == 12:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ss.train.Checkpoint, "on_step_end", interrupt)
        ran = run(config, "--output", folder, *more)
    assert ran.code == 130
    said = f"stepsmith train {config} --resume --output '{folder}' --set optimizer.lr=0.02"
    assert "interrupted in epoch 3, after step 12" in ran.err
    assert ran.err.splitlines()[-1].endswith(said)
    assert run(config, "--resume", "--output", folder, *more).code == 0
    assert results(folder) == results(straight)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(run: Run, config: Path) -> None:
    assert run(config, *settings("callbacks.Checkpoint.keep=3")).code == 0
    folder = config.parent / "trees-run"
    before = results(folder)
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    (newest / "model.safetensors").write_bytes(b"")
    ran = run(config, "--resume", *settings("callbacks.Checkpoint.keep=3"))
    assert ran.code == 0
    assert f"stepsmith train: Trainer.resume: checkpoint {newest} must be as it was written" in ran.err
    assert results(folder) == before


def test_a_run_is_not_lost_by_mistake(run: Run, config: Path) -> None:
    short = settings("training.epochs=1")
    folder = config.parent / "trees-run"
    assert run(config, "--resume", *short).err == f"stepsmith train: --resume needs a run, got none in {folder}\n"
    assert run(config, *short).code == 0
    before = results(folder)
    ran = run(config, *short)
    said = f"stepsmith train: the run {folder} exists; --resume goes on with it, --force replaces it\n"
    assert (ran.code, ran.err) == (2, said)
    ran = run(config, "--resume", *settings("training.epochs=2", "optimizer.type=adam", "schedule=none"))
    assert (ran.code, ran.out) == (2, "")
    assert "training.epochs (1 before, 2 now)" in ran.err
    assert "optimizer.type ('adamw' before, 'adam' now)" in ran.err
    assert "schedule.type ('cosine_annealing' before, nothing now)" in ran.err
    with (config.parent / "table.csv").open("a") as file:
        file.write("1,2,elm,3\n")
    assert "--resume needs the data of the run" in run(config, "--resume", *short).err
    assert results(folder) == before
    (folder / "notes.txt").write_text("mine")
    assert run(config, "--force", *short).code == 0
    assert (folder / "notes.txt").read_text() == "mine"
    assert len(list((folder / "checkpoints").iterdir())) == 1, "none of the run before"
    assert results(folder)["history.csv"] != before["history.csv"]
    (folder / "config.toml").unlink()
    assert "which holds other files" in run(config, "--force", *short).err
    assert "exclude each other" in run(config, "--force", "--resume", *short).err
    assert "must be a folder" in run(config, "--output", config).err


def test_a_runs_config_runs_again_elsewhere(run: Run, config: Path) -> None:
    assert run(config, *settings("training.epochs=1")).code == 0
    first, again = config.parent / "trees-run", config.parent / "again"
    assert run(first / "config.toml", "--output", again).code == 0
    assert results(again) == results(first)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["optimizer.lrr=1"], "optimizer.lrr is no key of AdamW; did you mean 'lr'?"),
        (["optimizer.params=1"], "optimizer.params is no key of AdamW"),
        (["optimizer.lr=fast"], "optimizer.lr must be a number beside schedule, got 'fast'"),
        (["schedule=none", "optimizer.lr=true"], "optimizer.lr must be a number or a table of a schedule, got True"),
        (["schedule=none", "optimizer.lr=-1"], "optimizer.lr must be finite and at least 0, got -1"),
        (["optimizer.betas=[0.9]"], "optimizer.betas must be a list of 2, got [0.9]"),
        (["optimizer.betas=[0.9, 2]"], "optimizer.betas"),
        (["optimizer.ema=2"], "optimizer.ema must be"),
        (["optimizer.type=adamv"], "optimizer.type must be one of sgd, adagrad,"),
        (["optimizer.type=adamv"], "got 'adamv'; did you mean 'adam"),
        (["optimizer.state_dir=x"], "optimizer.state_dir is no key of AdamW"),
        (["schedule.type=cosine"], "schedule.type must be one of cosine_annealing,"),
        (["schedule.T_max=0"], "schedule.T_max must be at least 1, got 0"),
        (["schedule.warmup.T=none"], "schedule.warmup.T must be given"),
        (["schedule.warmup.type=step"], "schedule.warmup.type must be one of linear_warmup, cosine_warmup, got 'step'"),
        (["schedule.warmup=3"], "schedule.warmup must be a table, got 3"),
        (["model.layers.0.out=8"], "model.layers[0].out is no key of Linear; did you mean 'out_features'?"),
        (["model.layers.0.out_features=0"], "model.layers[0].out_features must be at least 1, got 0"),
        (["model.layers.0.in_features=9"], "model.layers[0]: input must"),
        (["model.layers.0.init=he"], "model.layers[0].init must be one of constant,"),
        (['model.layers.0.init={"type": "normal", "sd": 1}'], "model.layers[0].init.sd is no key of normal"),
        (["model.layers.3.p=1.5"], "model.layers[3].p must be in [0, 1), got 1.5"),
        (["model.layers.4.out_features=2"], "model:"),
        (["model.layers.1.type=BatchNorm1d"], "; did you mean 'BatchNorm'?"),
        (["model.layers=[]"], "model.layers must be a list of tables, got []"),
        (['model.layers=["ReLU"]'], "model.layers[0] must be a table of a layer, got 'ReLU'"),
        (["model.type=mlp"], "model.type must be left out beside model.layers"),
        (["model.layers=none"], "model.layers must be given, or model.type: one of mlp, cnn"),
        (["model.layers=none", "model.type=cnn"], "model.layers[0]"),
        (["loss.type=crossentropi"], "loss.type must be one of"),
        (["loss.type=cross_entropy", "loss.label_smoothing=2"], "loss.label_smoothing must be in [0, 1], got 2"),
        (["loss.type=mse"], "model: "),
        (["data.type=cvs"], "data.type must be one of digits, mnist5k, csv, npz, got 'cvs'; did you mean 'csv'?"),
        (["data.path=none"], "data.path must be given"),
        (["data.path=missing.csv"], "missing.csv: No such file or directory"),
        (["data.target=specie"], "data.target must be one of height, width, species, a depth, got 'specie'; did you"),
        (["data.target=7"], "data.target must be one of 4 columns, got 7"),
        (["data.target=0"], "data.path must have finite numbers in column 'species' of line 2, got "),
        (["data.validation=1"], "data.validation must be in [0, 1), got 1"),
        (["data.normalization=std"], "data.normalization must be one of none, standardize, minmax, got 'std'"),
        (["data.shape=[2, 2]"], "data: cannot reshape"),
        (["training.epoch=3"], "training.epoch is no key of Training; did you mean 'epochs'?"),
        (["training.epochs=0"], "training.epochs must be at least 1, got 0"),
        (["training.epochs=many"], "training.epochs must be an integer, got 'many'"),
        (["training.batch_size=2.5"], "training.batch_size must be an integer, got 2.5"),
        (["training.threads=0"], "training.threads must be at least 1, got 0"),
        (["training.precision=half"], "training.precision must be one of float32, float64, bfloat16, float16"),
        (["training.validation_weights=swa"], "training.validation_weights must be one of live, ema, got 'swa'"),
        (
            ['training.class_weight={"el": 2}'],
            "class_weight must have labels of the data as keys, ash, beech, elm, got 'el'",
        ),
        (["training.class_weight.0=2"], "training.class_weight must have labels of the data as keys"),
        (["callbacks.EarlyStoping.patience=3"], "callbacks must be one of"),
        (["callbacks.early_stopping.patience=3"], "callbacks.early_stopping must stand once, got EarlyStopping twice"),
        (["callbacks.EarlyStopping.patience=none"], "callbacks.EarlyStopping.patience must be given"),
        (["callbacks.EarlyStopping.monitor=val_acc"], "got 'val_acc'; did you mean 'val_accuracy'?"),
        (["data.validation=0"], "callbacks.EarlyStopping.monitor must be one of epoch, step, loss, penalty, lr"),
        (["callbacks.EarlyStopping.mode=up"], "callbacks.EarlyStopping.mode must be one of auto, min, max, got 'up'"),
        (["callbacks.Checkpoint.folder=x"], "callbacks.Checkpoint.folder is no key of Checkpoint"),
        (["regularization.L2.strength=-1"], "regularization.L2.strength must be"),
        (["regularization.L2.include=x*"], "regularization.L2.include must match one of"),
        (['callbacks.GradualUnfreezing.stages=[["9.*"]]'], "callbacks.GradualUnfreezing: Trainer.freeze: pattern must"),
        (
            ["schedule.type=reduce_on_plateau", "schedule.mode=max"],
            "callbacks.Plateau.schedule must have mode='min' for 'val_loss', got 'max'",
        ),
        (
            ["training.batch_size=99", "training.drop_last=true"],
            "training.batch_size must be at most 58, all training samples, beside drop_last, got 99",
        ),
        (["optimiser.lr=1"], "optimiser must be one of data, model, loss,"),
        (["training=3"], "training must be a table, got 3"),
        (["training.seed.x=3"], "--set training.seed.x must be a key of a table"),
        (["model.layers.9.p=3"], "--set model.layers.9.p must be a key of a table or an item of a list, got no '9'"),
    ],
)
def test_what_is_wrong_is_named_by_its_path_before_anything_is_written(
    run: Run, config: Path, pairs: list[str], message: str
) -> None:
    ran = run(config, *settings(*pairs))
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("stepsmith train: ")
    assert ran.err.count("\n") == 1
    assert message in ran.err
    assert {entry.name for entry in config.parent.iterdir()} == {"table.csv", "trees.toml"}


def test_files_that_are_no_configs(run: Run, tmp_path: Path) -> None:
    assert "a config must be given; --example prints one" in run().err
    assert run(tmp_path / "none.toml").err == f"stepsmith train: {tmp_path / 'none.toml'}: No such file or directory\n"
    (tmp_path / "bad.toml").write_text("[data\n")
    ran = run(tmp_path / "bad.toml")
    assert ran.code == 2
    assert re.fullmatch(rf"stepsmith train: {tmp_path / 'bad.toml'}: .* \(at line 1, .*\)\n", ran.err)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "two columns at least, got 0 of 2"),
        ("a,b\n1,2,3\n", "2 cells in each line, got 3 in line 2"),
        ("a,b\n1,2\n\nnan,3\n", "in column 'a' of line 4, got 'nan'"),
        ('a,b\n1,"2\n', "must be a table of text, got unexpected end of data in line 2"),
        ("a,b\n1,2\n1,2\n3,2\n4,2\n5,2\n5,2\n", "two classes at least, got [2]"),
        ("a,b\n1,2\n1,2.5\n3,2\n", "data.task must be regression for targets that are no whole numbers, got 2.5"),
        ("a,b\n1,2.0\n1,nan\n3,2.0\n", "data.task must be regression for targets that are no whole numbers, got nan"),
        ("a,b\n1,x\n1,y\n\n3, \n4,x\n", "data.path must have labels in column 'b' of line 5, got ''"),
    ],
)
def test_bad_tables(run: Run, config: Path, text: str, message: str) -> None:
    (config.parent / "table.csv").write_text(text)
    assert message in run(config, *settings("data.target=-1")).err


def test_a_target_whose_name_stands_twice(run: Run, config: Path) -> None:
    (config.parent / "table.csv").write_text("a,species,species\n" + "1,2,3\n1,3,2\n" * 20)
    assert "data.target must be the name of one column or a number, got 'species' of several" in run(config).err
    assert run(config, *settings("data.target=1", "training.epochs=1")).code == 0


def npz(folder: Path, text: str, **arrays: np.ndarray) -> Path:
    np.savez(folder / "data.npz", **arrays)
    path = folder / "run.toml"
    path.write_text(f'[data]\ntype = "npz"\npath = "data.npz"\n{text}')
    return path


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("data.inputs=Z", "data.inputs must be one of X, y, got 'Z'"),
        ("data.targets=none", "data.targets must be one of X, y, got 'labels'"),
        ("data.test_inputs=X", "data.test_inputs and test_targets must be given together"),
        ("data.path=run.toml", "data.path must be of a NumPy archive, got another file"),
    ],
)
def test_bad_archives(run: Run, tmp_path: Path, pair: str, message: str) -> None:
    path = npz(tmp_path, 'targets = "labels"\n[model]\ntype = "mlp"\n', X=np.zeros((4, 2)), y=np.arange(4))
    pairs = ["data.targets=labels"] if "targets" in pair else ["data.targets=y"]
    ran = run(path, *settings(*pairs, *([] if "targets=none" in pair else [pair])))
    assert message in ran.err
    assert ran.code == 2
    short = npz(tmp_path, "", X=np.zeros((4, 2)), y=np.arange(3))
    assert "data.inputs must have the length of targets, got 4 and 3" in run(short).err
    prices = npz(tmp_path, "", X=np.zeros((4, 2)), y=np.array([1.0, 2.0, 0.25, 2.0]))
    assert "data.task must be regression for targets that are no whole numbers, got 0.25" in run(prices).err


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def test_a_regression_on_arrays(run: Run, tmp_path: Path) -> None:
    X = np.random.default_rng(1).normal(size=(200, 2))
    text = 'task = "regression"\n[model]\ntype = "mlp"\nhidden = [16]\nactivation = "Tanh"\n[optimizer]\nlr = 0.02\n'
    path = npz(tmp_path, text + "[training]\nepochs = 25\n", X=X, y=X[:, 0] - 3 * X[:, 1])
    ran = run(path)
    assert ran.code == 0, ran.err
    report = report_of(tmp_path / "run-run")
    assert report["test"]["r2"] > 0.9
    assert report["test"]["rmse"] == pytest.approx(report["test"]["loss"] ** 0.5)
    assert report["test"]["mae"] < report["test"]["rmse"]
    assert report["confusion"] is None
    assert json.loads((tmp_path / "run-run" / "data.json").read_text())["samples"] == {
        "train": 128,
        "validation": 32,
        "test": 40,
    }


def test_tokens_with_a_test_part_of_their_own(run: Run, tmp_path: Path) -> None:
    X = np.random.default_rng(2).integers(0, 5, (40, 6))
    arrays = {"X": X, "y": np.where(X[:, 0] > 2, 7, 3), "X_t": X[:9], "y_t": np.full(9, 3)}
    text = """
inputs = "X"
test_inputs = "X_t"
test_targets = "y_t"
tokens = true
[model]
layers = [
    {type = "Embedding", count = 5, features = 4},
    {type = "PositionalEmbedding"},
    {type = "Residual", modules = [{type = "LayerNorm"}, {type = "MultiHeadAttention", heads = 2}]},
    {type = "GRU", hidden = 6, return_sequences = false},
    {type = "WeightNorm", layer = {type = "Linear"}},
]
[training]
epochs = 1
"""
    ran = run(npz(tmp_path, text, **arrays))
    assert ran.code == 0, ran.err
    facts = json.loads((tmp_path / "run-run" / "data.json").read_text())
    assert facts["classes"] == ["3", "7"]
    assert facts["samples"]["test"] == 9
    assert [sum(row) for row in report_of(tmp_path / "run-run")["confusion"]] == [9, 0]


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16", "float16"])
def test_presets_and_precisions(run: Run, tmp_path: Path, precision: str) -> None:
    X = np.random.default_rng(3).integers(0, 255, (30, 36), dtype=np.uint8)
    text = f"""
shape = [1, 6, 6]
normalization = "minmax"
[model]
type = "cnn"
channels = [3]
hidden = [5]
batch_norm = true
dropout = 0.1
[training]
epochs = 1
precision = "{precision}"
"""
    ran = run(npz(tmp_path, text, X=X, y=np.arange(30) % 3))
    assert ran.code == 0, ran.err
    weights = ss.quant.load(tmp_path / "run-run" / "model.safetensors")
    assert weights["0.weight"].shape == (3, 1, 3, 3)
    assert weights["0.weight"].dtype.name == precision
    assert ("loss_scale" in rows(tmp_path / "run-run")[0]) == (precision == "float16")
    state = ss.quant.load(next((tmp_path / "run-run" / "checkpoints").iterdir()) / "state.safetensors")
    assert any("master" in name for name in state) == (precision in ("bfloat16", "float16"))


ARGUMENTS = {
    "constant": {},
    "cosine_annealing": {},
    "cosine_annealing_warm_restarts": {"T_0": 3},
    "cosine_warmup": {"T": 3},
    "cyclic": {"max_lr": 0.1},
    "exponential": {"gamma": 0.9},
    "exponential_decay": {"k": 0.1},
    "inverse_time": {"k": 0.1},
    "linear": {},
    "linear_decay": {},
    "linear_warmup": {"T": 3, "lr": {"type": "step", "step_size": 2}},
    "multi_step": {"milestones": [1, 3]},
    "one_cycle": {},
    "polynomial": {},
    "product": {"schedules": [{"type": "constant"}, {"type": "linear", "lr": 1.0}]},
    "reduce_on_plateau": {"patience": 0},
    "sequential": {"schedules": [{"type": "linear_warmup", "T": 2}, {"type": "linear_decay"}], "milestones": [2]},
    "step": {"step_size": 2},
}
# Their values are no learning rates.
OTHERS = {"cyclic_momentum", "one_cycle_momentum", "cubic_sparsity"}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_schedule_is_named_by_its_list(tmp_path: Path, name: str) -> None:
    assert set(ARGUMENTS) | OTHERS == set(ss.schedules.REGISTRY)
    schedule = planned_on_noise(tmp_path, {"schedule": {"type": name, **ARGUMENTS[name]}}).groups[0]["lr"]
    assert type(schedule) is ss.schedules.REGISTRY[name]
    assert max(schedule(step) for step in range(16)) <= 0.1
    lengths = {getattr(schedule, key) for key in ("T_max", "T", "total_steps") if hasattr(schedule, key)}
    assert lengths <= ({3} if name.endswith("warmup") else {16}), "2 epochs of 8 steps"


@pytest.mark.parametrize("name", ss.optim.REGISTRY)
def test_every_optimizer_is_named_by_its_list(tmp_path: Path, name: str) -> None:
    # No bias, because Muon takes matrices alone.
    plain = {"layers": [{"type": "Linear", "bias": False}]}
    optimizer = planned_on_noise(tmp_path, {"optimizer": {"type": name, "lr": 0.25}, "model": plain})
    assert type(optimizer) is ss.optim.REGISTRY[name]
    assert optimizer.groups[0]["lr"] == 0.25


def planned_on_noise(folder: Path, changes: dict[str, Any]) -> Any:
    """The optimizer of a config."""
    X = np.random.default_rng(4).normal(size=(50, 3))
    table = {"optimizer": {"lr": 0.05}, "model": {"type": "mlp", "hidden": [4]}, "training": {"epochs": 2}}
    path = npz(folder, "test = 0.2\n" + written({**table, **changes}), X=X, y=np.arange(50) % 2)
    return planned(read(path, ["training.batch_size=4"]), Layout(folder / "run")).trainer.optimizer


def test_every_class_can_be_named() -> None:
    """But those that only Python can make, or that are no part of such a model."""
    left_out = {
        "layer": {"Module", "MixedPrecision", "FakeQuantize", "QATLinear", "QuantizedLinear"},
        "regularizer": {"Regularizer"},
    }
    for kind, base, module in (("layer", ss.nn.Module, ss.nn), ("regularizer", ss.nn.Regularizer, ss.nn)):
        found = {name: getattr(module, name) for name in module.__all__}
        classes = {name for name, item in found.items() if isinstance(item, type) and issubclass(item, base)}
        assert set(CATALOGS[kind]) == classes - left_out[kind]
    assert {"CSVLogger", "EarlyStopping", "TensorBoard", "Timer"} < set(CATALOGS["callback"])
    assert "FunctionCallback" not in CATALOGS["callback"]
    assert set(SOURCES) == {"digits", "mnist5k", "csv", "npz"}


@pytest.mark.parametrize(("start", "weights"), [(2, "swa"), (9, "live")])
def test_averages_that_come_late_or_never(run: Run, config: Path, start: int, weights: str) -> None:
    pairs = ["training.epochs=3", "training.validation_weights=swa", f"callbacks.SWA.start={start}"]
    ran = run(config, *settings(*pairs))
    assert ran.code == 0, ran.err
    assert report_of(config.parent / "trees-run")["weights"] == weights


@pytest.mark.parametrize("labels", [("0.0", "1.0"), ("a", "2.5"), ("9" * 30, "8" * 30), ("007", "1e2")])
def test_labels_that_are_no_integers(tmp_path: Path, labels: tuple[str, str]) -> None:
    (tmp_path / "table.csv").write_text("a,b\n" + "".join(f"{i},{labels[i % 2]}\n" for i in range(20)))
    (tmp_path / "run.toml").write_text('[data]\ntype = "csv"\npath = "table.csv"\n[model]\ntype = "mlp"\n')
    plan = planned(read(tmp_path / "run.toml"), Layout(tmp_path / "run"))
    assert plan.data.classes == sorted(labels)


def test_class_weights_go_by_the_labels_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n" + "".join(f"{i % 7},{1 + i % 3}\n" for i in range(30)))
    text = '[data]\ntype = "csv"\npath = "table.csv"\n[model]\ntype = "mlp"\n[training.class_weight]\n1 = 5.0\n3 = 2\n'
    (tmp_path / "run.toml").write_text(text)
    plan = planned(read(tmp_path / "run.toml"), Layout(tmp_path / "run"))
    assert plan.data.classes == ["1", "2", "3"]
    seen: dict[str, Any] = {}
    plan.trainer.fit = lambda *_, **arguments: seen.update(arguments)  # type: ignore[method-assign]
    plan.fit()
    assert seen["class_weight"] == {0: 5.0, 2: 2}


def test_names_may_be_the_classes_own(run: Run, config: Path) -> None:
    pairs = ["optimizer.type=AdamW", "schedule.type=CosineAnnealing", "loss.type=CrossEntropy", "training.epochs=1"]
    assert run(config, *settings(*pairs, "model.layers.2.type=relu")).code == 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_no_number_is_one_line(run: Run, config: Path) -> None:
    ran = run(config, *settings("schedule=none", "optimizer.type=sgd", "optimizer.lr=1e30"))
    assert ran.code == 2
    assert re.search(r"^stepsmith train: .*(NaN|nan|infinite|finite).* at step \d+, epoch \d+$", ran.err, flags=re.M)


ODD = {
    "data": {"path": 'C:\\new\t"x" é\x00\x7f\u2028', "validation": 0.1, "seed": 2**63 - 1, "header": False},
    "a key with spaces": {"": 1, "x.y": {"deep": {"list": [1, 2.5, True]}}},
    "model": {"layers": [{"type": "Residual", "modules": [{"type": "A", "n": [[1], []]}]}], "none": []},
    "empty": {},
    "numbers": {"small": 1e-300, "whole": 1.0, "large": 1e22, "inf": float("inf"), "minus": -float("inf")},
}


def test_configs_read_back_as_they_were() -> None:
    again = tomllib.loads(written(ODD))
    assert again == ODD
    assert type(again["numbers"]["whole"]) is float
    assert list(again) == list(ODD)
    assert np.isnan(tomllib.loads(written({"x": {"nan": float("nan")}}))["x"]["nan"])
    assert written(tomllib.loads(written(tomllib.loads(EXAMPLE)))) == written(tomllib.loads(EXAMPLE))


def test_the_page_trains(run: Run, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "command_line.md").read_text()
    (block,) = re.findall(r"```toml\n(.*?)```", text, flags=re.S)
    X = np.random.default_rng(5).normal(size=(60, 2))
    lines = ["price,rooms,area", *(f"{3 * a + b},{a},{b}" for a, b in X.tolist())]
    (tmp_path / "houses.csv").write_text("\n".join(lines))
    path = tmp_path / "houses.toml"
    path.write_text(block)
    ran = run(path, *settings("training.epochs=2"))
    assert ran.code == 0, ran.err
    for name in FILES:
        assert f"`{name}`" in text
