"""Callbacks: what they write, and that a resumed run has the files, rows and states of a straight one."""

import csv
import itertools
import json
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import stepsmith as ss
from stepsmith.train import (
    Callback,
    Checkpoint,
    CSVLogger,
    FunctionCallback,
    FunctionModel,
    JSONLogger,
    LRMonitor,
    Plateau,
    Statistics,
    TensorBoard,
    Timer,
    Trainer,
)
from stepsmith.train.callbacks import timer as timer_module

RNG = np.random.default_rng(0)
X = RNG.normal(size=(37, 5)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] ** 2 > 0.7).astype(np.int64)
XV, YV = X[:11] + np.float32(0.1), Y[:11]
EPOCHS, STEPS = 3, 9


def build(callbacks: tuple = (), lr: object = 0.05, **options) -> Trainer:
    model = ss.nn.Sequential(ss.nn.Linear(5, 7), ss.nn.ReLU(), ss.nn.Dropout(0.2), ss.nn.Linear(7, 2))
    named = model.parameters()
    groups = [
        {"params": {name: named[name] for name in named if name.startswith("0.")}},
        {"params": {name: named[name] for name in named if not name.startswith("0.")}, "lr": 0.01},
    ]
    return Trainer(model, optimizer=ss.optim.AdamW(groups, lr=lr, **options), callbacks=callbacks)


def fit(trainer: Trainer, epochs: int = EPOCHS, **settings):
    return trainer.fit((X, Y), (XV, YV), epochs=epochs, batch_size=16, progress=False, **settings)


def scalar_events(folder: Path) -> list[tuple[int, str, float]]:
    """What TensorBoard shows: a start of a session takes away what later steps of earlier files said."""
    from tensorboardX.proto import event_pb2

    shown: list[tuple[int, str, float]] = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event, data = event_pb2.Event.FromString(data[12 : 12 + length]), data[16 + length :]
            if event.HasField("session_log"):
                assert event.session_log.status == event_pb2.SessionLog.START
                shown = [row for row in shown if row[0] < event.step]
            shown += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return shown


class Breaker(Callback):
    """Breaks a run off after a step, or after the epoch that this step ends; the last of all."""

    comes_last = True

    def __init__(self, step: int, at_epoch: bool) -> None:
        self.step, self.at_epoch = step, at_epoch

    def on_step_end(self, trainer, row) -> None:
        if row["step"] == self.step and not self.at_epoch:
            raise KeyboardInterrupt

    def on_epoch_end(self, trainer, row) -> None:
        if row["step"] == self.step and self.at_epoch:
            raise KeyboardInterrupt


def recorded(folder: Path, breaks_at: int = 0, at_epoch: bool = False, every: int = 1) -> Trainer:
    """A trainer with every callback that records."""
    callbacks = (
        CSVLogger(folder / "log.csv", every_steps=every),
        JSONLogger(folder / "log.jsonl", every_steps=every),
        Statistics(every_steps=2, path=folder / "statistics.jsonl"),
        Statistics(every_steps=2),
        LRMonitor(every_steps=every),
        LRMonitor(),
        TensorBoard(folder / "board", every_steps=every),
        Plateau(),
        Timer(),
        Breaker(breaks_at, at_epoch),
    )
    schedule = ss.schedules.ReduceOnPlateau(0.05, factor=0.5, patience=0, threshold=0.5)
    return build(callbacks, lr=ss.schedules.Product([schedule]))


def outcome(folder: Path, trainer: Trainer) -> dict[str, object]:
    """All that a resumed run must have as a straight one has it."""
    found: dict[str, object] = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    found["board"] = scalar_events(folder / "board")
    found["callbacks"] = [item.state_dict() for item in trainer.callbacks if not isinstance(item, Timer)]
    found["history"] = trainer.history.rows
    found["lr"] = trainer.optimizer.groups[0]["lr"].to_dict()
    found["parameters"] = {name: param.tobytes() for name, param in trainer.model.parameters().items()}
    return found


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("straight")
    trainer = recorded(folder)
    fit(trainer)
    assert trainer.clock.step == STEPS
    return outcome(folder, trainer)


def assert_equal(got: dict[str, object], want: dict[str, object]) -> None:
    assert got.keys() == want.keys()
    assert [name for name in want if got[name] != want[name]] == []


@pytest.mark.parametrize("later", [0, 1, 3])
@pytest.mark.parametrize(
    ("step", "at_epoch"), [*((k, False) for k in range(1, STEPS + 1)), *((k, True) for k in (3, 6, 9))]
)
def test_a_resumed_run_has_the_files_and_rows_of_a_straight_one(tmp_path, straight, step, at_epoch, later) -> None:
    """The checkpoint is of one moment, the run went on for some steps after it and was then killed."""
    saved = []

    def keep(trainer: Trainer, row) -> None:
        if row["step"] == step:
            saved.append(trainer.state_dict())

    last = min(step + later, STEPS)
    first = recorded(tmp_path, last, at_epoch=step + later > STEPS or (at_epoch and later in (0, 3)))
    save = FunctionCallback(**{"on_epoch_end" if at_epoch else "on_step_end": keep})
    first.callbacks = (*first.callbacks[:-1], save, first.callbacks[-1])
    with pytest.raises(KeyboardInterrupt):
        fit(first)
    state = saved[0]
    del state["callbacks"][-2]
    second = recorded(tmp_path)
    second.load_state_dict(state)
    assert second.resumed
    fit(second)
    assert not second.resumed
    assert_equal(outcome(tmp_path, second), straight)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_the_same_trainer_goes_on_with_its_files(tmp_path, straight, step) -> None:
    trainer = recorded(tmp_path, step)
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    trainer.callbacks[-1].step = 0
    fit(trainer)
    assert_equal(outcome(tmp_path, trainer), straight)


@pytest.mark.parametrize("step", [2, 5])
def test_a_run_on_disk_resumes_with_its_files_also_from_before_its_first_checkpoint(tmp_path, straight, step) -> None:
    """Files are those of a run that was killed at a step, with checkpoints at steps 4 and 8 alone."""
    logs = tmp_path / "logs"
    logs.mkdir()
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()

    def trainer(breaks_at: int = 0) -> Trainer:
        made = recorded(logs, breaks_at)
        made.callbacks = (
            *made.callbacks[:-1],
            Checkpoint(checkpoints, every_steps=4, every_epochs=None),
            Breaker(breaks_at, False),
        )
        return made

    with pytest.raises(KeyboardInterrupt):
        fit(trainer(step))
    resumed = trainer()
    if step < 4:
        with pytest.warns(UserWarning, match="no checkpoint in"):
            Trainer.resume(checkpoints, resumed)
    else:
        Trainer.resume(checkpoints, resumed)
    assert resumed.clock.step == (4 if step > 4 else 0)
    fit(resumed)
    resumed.callbacks = tuple(item for item in resumed.callbacks if not isinstance(item, Checkpoint))
    assert_equal(outcome(logs, resumed), straight)


def test_csv_reads_back_as_the_history(tmp_path) -> None:
    trainer = build((CSVLogger(tmp_path / "deep" / "log.csv", every_steps=2),))
    history = fit(trainer)
    with (tmp_path / "deep" / "log.csv").open(newline="") as file:
        rows = [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    assert rows == history.rows
    with (tmp_path / "deep" / "log.steps.csv").open(newline="") as file:
        steps = list(csv.DictReader(file))
    assert [int(row["step"]) for row in steps] == [2, 4, 6, 8]
    assert [int(row["epoch"]) for row in steps] == [1, 2, 2, 3]
    assert [int(row["samples"]) for row in steps] == [32, 53, 74, 106 - 37 + 37]
    assert list(steps[0]) == ["epoch", "step", "samples", "loss", "lr", "grad_norm"]
    assert steps[0]["grad_norm"] == ""


def test_json_reads_back_as_the_history(tmp_path) -> None:
    trainer = build((JSONLogger(tmp_path / "log.jsonl", every_steps=2),), max_norm=1.0)
    history = fit(trainer)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["event"] for row in rows] == ["step", "epoch", "step", "step", "epoch", "step", "epoch"]
    assert [{k: v for k, v in row.items() if k != "event"} for row in rows if row["event"] == "epoch"] == history.rows
    assert all(row["grad_norm"] > 0 for row in rows if row["event"] == "step")


def refuse(name: str) -> None:
    raise AssertionError(name)


def test_numbers_that_json_lacks_are_null_and_named(tmp_path) -> None:
    logger, table = JSONLogger(tmp_path / "log.jsonl"), CSVLogger(tmp_path / "log.csv")
    trainer = build((logger, table))
    fit(trainer, 1)
    for item in (logger, table):
        item.on_fit_begin(trainer)
        row = {"epoch": 2, "step": 6, "loss": np.float32(0.1), "val_loss": float("nan"), "val_accuracy": -np.inf}
        item.on_epoch_end(trainer, row)
        item.on_fit_end(trainer)
    last = json.loads(logger.path.read_text().splitlines()[-1], parse_constant=refuse)
    assert last["nonfinite"] == {"val_loss": "nan", "val_accuracy": "-inf"}
    assert (last["val_loss"], last["val_accuracy"], last["loss"]) == (None, None, float(np.float32(0.1)))
    cells = dict(zip(*csv.reader(table.path.read_text().splitlines()[:1] + table.path.read_text().splitlines()[-1:])))
    assert (cells["val_loss"], cells["val_accuracy"], cells["lr"]) == ("nan", "-inf", "")
    assert float(cells["loss"]) == np.float32(0.1)


def test_csv_leaves_out_later_columns_and_says_so_once(tmp_path) -> None:
    trainer = build((CSVLogger(tmp_path / "log.csv"), JSONLogger(tmp_path / "log.jsonl")))
    trainer.fit((X, Y), epochs=1, progress=False)
    with pytest.warns(UserWarning, match=r"CSVLogger: .*\['val_loss', 'val_accuracy'\] are left out") as caught:
        fit(trainer, 3)
    assert len(caught) == 1
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "epoch,step,loss,lr"
    assert [line.count(",") for line in lines] == [3] * 4
    assert "val_loss" in (tmp_path / "log.jsonl").read_text()


LOGS = {
    "CSVLogger": lambda folder, **more: CSVLogger(folder / "log.txt", **more),
    "JSONLogger": lambda folder, **more: JSONLogger(folder / "log.txt", **more),
    "Statistics": lambda folder, **more: Statistics(1, folder / "log.txt", **more),
}


@pytest.mark.parametrize("name", LOGS)
def test_another_run_s_file_is_refused_unless_it_may_go(tmp_path, name) -> None:
    path = tmp_path / "log.txt"
    path.write_text("precious\n")
    trainer = build((LOGS[name](tmp_path),))
    with pytest.raises(FileExistsError, match=rf"{name}: path must be of a new file, got '.*log.txt'"):
        fit(trainer)
    assert (path.read_text(), trainer.clock.step) == ("precious\n", 0)
    fit(build((LOGS[name](tmp_path, overwrite=True),)))
    assert "precious" not in path.read_text()
    path.write_bytes(b"")
    fit(build((LOGS[name](tmp_path),)))
    assert path.stat().st_size > 0


@pytest.mark.parametrize("name", LOGS)
def test_a_state_that_is_refused_makes_no_file_its_own(tmp_path, name) -> None:
    (tmp_path / "log.txt").write_text("precious\n")
    trainer = build((LOGS[name](tmp_path),))
    state = build((LOGS[name](tmp_path),)).state_dict()
    state["callbacks"][0]["state"] = {}
    with pytest.raises(KeyError):
        trainer.load_state_dict(state)
    with pytest.raises(FileExistsError):
        fit(trainer)
    assert (tmp_path / "log.txt").read_text() == "precious\n"


def test_files_are_cut_back_also_where_nothing_is_left_to_do(tmp_path) -> None:
    def loggers() -> tuple:
        return CSVLogger(tmp_path / "log.csv", every_steps=1), JSONLogger(tmp_path / "log.jsonl")

    first, second = build(loggers()), build(loggers())
    fit(first, 1)
    state, want = first.state_dict(), {path: path.read_bytes() for path in tmp_path.iterdir()}
    fit(first, 3)
    assert all(len(path.read_bytes()) > len(content) for path, content in want.items())
    second.load_state_dict(state)
    fit(second, 1)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == want


def test_no_file_is_touched_where_one_is_refused(tmp_path) -> None:
    (tmp_path / "log.steps.csv").write_text("precious\n")
    with pytest.raises(FileExistsError, match=r"log.steps.csv"):
        fit(build((CSVLogger(tmp_path / "log.csv", every_steps=1),)))
    assert [path.name for path in tmp_path.iterdir()] == ["log.steps.csv"]


@pytest.mark.parametrize("keep", [0, 30, None])
def test_a_log_that_lost_lines_is_reported_and_goes_on_after_the_last_whole_one(tmp_path, keep) -> None:
    path = tmp_path / "log.csv"
    first = build((CSVLogger(path),))
    fit(first, 2)
    content = path.read_bytes()
    path.unlink()
    if keep is not None:
        path.write_bytes(content[:keep])
    second = build((CSVLogger(path),))
    second.load_state_dict(first.state_dict())
    with pytest.warns(
        UserWarning, match=rf"must still have the {len(content)} bytes that the run wrote, got {keep or 0}"
    ):
        fit(second, 3)
    lines = path.read_text().splitlines()
    assert lines[0] == content.decode().splitlines()[0]
    assert [line.split(",")[0] for line in lines] == ["epoch", "3"]


def test_a_row_that_could_not_be_written_is_cut_away(tmp_path) -> None:
    """Half a line, as of a full disk."""
    path = tmp_path / "log.jsonl"
    logger = JSONLogger(path)
    trainer = build((logger,))
    fit(trainer, 1)
    with path.open("a") as file:
        file.write('{"half')
    fit(trainer, 2)
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2]


def test_a_state_never_says_more_than_the_file_has(tmp_path) -> None:
    logger = CSVLogger(tmp_path / "log.csv", every_steps=1)
    files = [tmp_path / "log.csv", tmp_path / "log.steps.csv"]
    seen = []

    def compare(_trainer, _row) -> None:
        seen.append(logger.state_dict()["offsets"] == [path.stat().st_size for path in files])

    fit(build((logger, FunctionCallback(on_step_end=compare, on_epoch_end=compare))))
    assert seen == [True] * (STEPS + EPOCHS)


def test_a_resumed_logger_must_have_the_same_files(tmp_path) -> None:
    state = CSVLogger(tmp_path / "log.csv").state_dict()
    with pytest.raises(ValueError, match=r"CSVLogger: every_steps must be as it was with 1 file\(s\), got 3"):
        CSVLogger(tmp_path / "log.csv", every_steps=3).load_state_dict(state)
    with pytest.raises(ValueError, match="Statistics: path must be given as before, got the reverse"):
        Statistics().load_state_dict(Statistics(path=tmp_path / "x").state_dict())


def test_tensorboard_has_every_number_at_the_optimizer_s_step(tmp_path) -> None:
    history = fit(build((TensorBoard(tmp_path / "board"),)))
    assert scalar_events(tmp_path / "board") == [
        (row["step"], name, float(np.float32(value)))
        for row in history.rows
        for name, value in row.items()
        if name not in ("epoch", "step")
    ]
    with pytest.raises(FileExistsError, match="TensorBoard: folder must be of this run alone"):
        fit(build((TensorBoard(tmp_path / "board"),)))


def test_tensorboard_s_events_are_in_the_file_when_the_run_is_saved_and_epochs_end(tmp_path) -> None:
    seen = []

    def look(*_) -> None:
        seen.append(scalar_events(tmp_path)[-1][0])

    def save(trainer, row) -> None:
        if row["step"] in (2, 7):
            trainer.state_dict()
            look()

    fit(build((TensorBoard(tmp_path, every_steps=1), FunctionCallback(on_step_end=save, on_epoch_end=look))))
    assert seen == [2, 3, 6, 7, 9]


def test_tensorboard_without_its_package_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    with pytest.raises(ImportError, match=r"stepsmith\[tensorboard\]"):
        TensorBoard("board")


def test_rates_of_all_groups_are_recorded() -> None:
    by_step, by_epoch = LRMonitor(every_steps=2), LRMonitor()
    fit(build((by_step, by_epoch), lr=ss.schedules.Exponential(1.0, gamma=0.5)))
    assert by_step.rows == [
        {"epoch": (step + 2) // 3, "step": step, "lr_0": 0.5 ** (step - 1), "lr_1": 0.01} for step in (2, 4, 6, 8)
    ]
    assert [row["lr_0"] for row in by_epoch.rows] == [0.5**2, 0.5**5, 0.5**8]


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}])
def test_statistics_are_those_of_the_step(settings) -> None:
    """Against gradients and weights that are taken by hand; a loss scale and accumulation change nothing."""
    statistics, befores, seen = Statistics(every_steps=2), {}, []
    trainer = build((statistics,))
    trainer.loss_scale = ss.train.LossScale(1024.0)
    take = ss.optim.AdamW.step

    def step(optimizer, grads=None, grad_scale=1.0):
        given = trainer.model.gradients() if grads is None else grads
        befores.update({name: param.astype(np.float64) for name, param in trainer.model.parameters().items()})
        kept = {name: grad.astype(np.float64) / grad_scale for name, grad in given.items()}
        info = take(optimizer, grads, grad_scale)
        after = {name: param.astype(np.float64) for name, param in trainer.model.parameters().items()}
        seen.append((dict(befores), kept, after))
        return info

    trainer.optimizer.step = step.__get__(trainer.optimizer)
    fit(trainer, 2, **settings)
    assert [row["step"] for row in statistics.rows if row["name"] == "0.bias"] == list(range(2, len(seen) + 1, 2))
    for row in statistics.rows:
        before, grad, after = (part[row["name"]] for part in seen[row["step"] - 1])
        for kind, x in (("weight", after), ("grad", grad)):
            want = (np.linalg.norm(x), x.mean(), x.std(), np.abs(x).max())
            got = [row[f"{kind}_{name}"] for name in ("norm", "mean", "std", "absmax")]
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-15)
            assert row[f"{kind}_nonfinite"] == 0
        if np.linalg.norm(before):
            assert row["update_ratio"] == pytest.approx(np.linalg.norm(after - before) / np.linalg.norm(before))
        else:
            assert "update_ratio" not in row


def test_statistics_count_what_is_not_finite(tmp_path) -> None:
    w = np.ones(3)
    model = FunctionModel(
        {"w": w, "frozen": np.zeros((0, 2))}, lambda *_: (1.0, {"w": np.array([np.nan, np.inf, 1.0])})
    )
    path = tmp_path / "statistics.jsonl"
    statistics = Statistics(1, path)
    optimizer = ss.optim.SGD({"w": w}, lr=0.5, on_nonfinite="propagate")
    Trainer(model, optimizer=optimizer, callbacks=[statistics]).fit((np.zeros((4, 1)),), progress=False)
    (row,) = [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]
    assert (row["name"], row["grad_nonfinite"], row["weight_nonfinite"]) == ("w", 2, 2)
    assert row["grad_norm"] is None
    assert row["nonfinite"]["grad_norm"] == "nan"


def test_times_are_outside_of_the_history(monkeypatch) -> None:
    """Each look at the clock takes a second."""
    ticks = itertools.count()
    monkeypatch.setattr(timer_module, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    timer = Timer()
    trainer = build((timer, Breaker(4, False)))
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    assert timer.total == 6.0
    other = Timer()
    other.load_state_dict(timer.state_dict())
    assert other.state_dict() == timer.state_dict()
    trainer.callbacks = (other,)
    fit(trainer)
    epoch = {"seconds": 4.0, "train_seconds": 3.0, "samples_per_second": 37 / 3}
    # The second epoch has the interval from its breaking off to the end of that fit besides.
    assert other.rows[::2] == [{"epoch": 1, **epoch}, {"epoch": 3, **epoch}]
    assert other.rows[1] == {"epoch": 2, "seconds": 5.0, "train_seconds": 4.0, "samples_per_second": 37 / 4}
    assert other.total == 4 + 5 + 4 + 1
    assert not any("second" in name for name in trainer.history.columns)


def test_a_fit_that_does_not_begin_takes_no_time() -> None:
    timer = Timer()
    trainer = build((Plateau(), timer))
    for _ in range(2):
        with pytest.raises(ValueError, match="must be held by a group"):
            fit(trainer)
    assert timer.total == 0.0


def test_plateau_updates_each_schedule_once_with_its_column() -> None:
    shared = ss.schedules.ReduceOnPlateau(0.1, patience=0, factor=0.5)
    other = ss.schedules.ReduceOnPlateau(0.1, patience=0, factor=0.5, mode="max")
    model = ss.nn.Sequential(ss.nn.Linear(5, 7), ss.nn.ReLU(), ss.nn.Linear(7, 2))
    lrs = (shared, ss.schedules.Sequential([shared, ss.schedules.Constant(0.1, 1.0, 0)], [99]), other, 0.1)
    groups = [{"params": {name: param}, "lr": lr} for (name, param), lr in zip(model.parameters().items(), lrs)]
    seen = {id(shared): [], id(other): []}
    for schedule in (shared, other):
        object.__setattr__(schedule, "update", seen[id(schedule)].append)
    plateaus = Plateau(shared), Plateau(other, monitor="val_accuracy")
    trainer = Trainer(model, optimizer=ss.optim.SGD(groups, lr=0.1), callbacks=plateaus)
    history = fit(trainer)
    assert seen == {id(shared): history["val_loss"], id(other): history["val_accuracy"]}


@pytest.mark.parametrize(
    ("lr", "plateau", "message"),
    [
        (0.1, Plateau(), "must be held by a group of the optimizer, got 'no ReduceOnPlateau in it'"),
        (ss.schedules.ReduceOnPlateau(0.1), Plateau(ss.schedules.ReduceOnPlateau(0.2)), "must be held by a group"),
        (ss.schedules.ReduceOnPlateau(0.1), Plateau(monitor="val_accuracy"), "must have mode='max' for 'val_accuracy'"),
        (ss.schedules.ReduceOnPlateau(0.1, mode="max"), Plateau(), "must have mode='min' for 'val_loss', got 'max'"),
    ],
)
def test_a_plateau_without_effect_is_refused(lr, plateau, message) -> None:
    trainer = build((plateau,), lr=lr)
    with pytest.raises(ValueError, match=message):
        fit(trainer)
    assert trainer.clock.step == 0


def test_a_plateau_needs_validation_and_a_schedule() -> None:
    with pytest.raises(ValueError, match=r"Plateau: monitor 'val_loss' needs fit\(validation=...\), got none"):
        build((Plateau(),), lr=ss.schedules.ReduceOnPlateau(0.1)).fit((X, Y), progress=False)
    with pytest.raises(TypeError, match=r"Plateau: schedule must be a ReduceOnPlateau or None, got 0.1"):
        Plateau(0.1)


def test_functions_are_called_with_what_callbacks_get() -> None:
    called = []
    hooks = ("on_fit_begin", "on_step_end", "on_epoch_end", "on_fit_end")
    functions = {name: lambda *given, name=name: called.append((name, *given)) for name in hooks}
    trainer = build((FunctionCallback(**functions), FunctionCallback()))
    history = fit(trainer, 1)
    assert [name for name, *_ in called] == ["on_fit_begin", *["on_step_end"] * 3, "on_epoch_end", "on_fit_end"]
    assert all(given[0] is trainer for _, *given in called)
    assert called[-2][2] == history[0]
    with pytest.raises(TypeError, match="FunctionCallback: on_step_end must be a function, got 3"):
        FunctionCallback(on_step_end=3)


def test_full_batch_steps_are_told_too(tmp_path) -> None:
    model = ss.nn.Linear(5, 2, dtype=np.float64)
    logger = JSONLogger(tmp_path / "log.jsonl", every_steps=1)
    trainer = Trainer(model, optimizer=ss.optim.LBFGS(model.parameters(), max_iter=2), callbacks=[logger])
    trainer.fit((X.astype(np.float64), Y), epochs=2, progress=False)
    events = [json.loads(line)["event"] for line in logger.path.read_text().splitlines()]
    assert events == ["step", "epoch"] * 2


@pytest.mark.parametrize("kind", [CSVLogger, JSONLogger, TensorBoard])
def test_bad_intervals_are_named(tmp_path, kind) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__}: every_steps must be at least 1, got 0"):
        kind(tmp_path / "log", every_steps=0)
    with pytest.raises(TypeError, match=rf"{kind.__name__}: every_steps must be an integer, got 1.5"):
        kind(tmp_path / "log", every_steps=1.5)
    assert list(tmp_path.iterdir()) == []
