"""Short runs that are killed and resumed, each in a process of its own; prints one JSON line a run.

    python resume_runs.py KIND EVERY LAST

KIND names the run of `RUNS`; it writes a checkpoint every EVERY steps, is killed after each step up to LAST (0 for all
steps, -1 for none), and resumed. The first line is the straight run's.
"""

import hashlib
import json
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import stepsmith as ss
from stepsmith.train.tree import separate

RNG = np.random.default_rng(5)
X = RNG.normal(size=(60, 12)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
EPOCHS = 4
LOGS = (ss.train.CSVLogger, "csv"), (ss.train.JSONLogger, "jsonl")


class Killer(ss.train.Callback):
    """Ends its process after a step, once all that belongs to the step is done, as a power cut would."""

    comes_last = True

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, trainer: ss.Trainer, _row: Any) -> None:
        if trainer.clock.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def network(seed: int = 3) -> ss.nn.Sequential:
    return ss.nn.Sequential(
        ss.nn.Linear(12, 300),
        ss.nn.BatchNorm(300),
        ss.nn.ReLU(),
        ss.nn.Dropout(0.2),
        ss.nn.Linear(300, 300),
        ss.nn.Tanh(),
        ss.nn.Linear(300, 2),
        seed=seed,
    )


def everything(folder: Path, every: int, step: int) -> tuple[ss.Trainer, dict[str, Any]]:
    """Dropout, running statistics, accumulation, average, schedule, clipping, early stopping, growing batches."""
    model = network()
    lr = ss.schedules.LinearWarmup(ss.schedules.CosineAnnealing(2e-2, T_max=15), T=3)
    optimizer = ss.optim.AdamW(model.parameters(), lr=lr, ema=0.9, max_norm=1.0)
    # Patience runs out in the third epoch, so that the best one is brought back.
    stopping = ss.train.EarlyStopping(patience=2, monitor="val_loss", min_delta=0.01)
    logs = [log(folder / f"log.{end}", every_steps=1) for log, end in LOGS]
    saving = ss.train.Checkpoint(folder / "saved", every, monitor="val_loss")
    callbacks = [stopping, ss.train.SWA(start=1), *logs, saving, Killer(step)]
    trainer = ss.Trainer(model, optimizer=optimizer, seed=7, callbacks=callbacks, blas_threads=1)
    growth = ss.schedules.MultiStep(5, milestones=(6,), gamma=2.0)
    options = {"validation": 0.2, "accumulate": 3, "batch_size": growth, "validation_weights": "ema"}
    return trainer, {**options, "augment": jitter, "class_weight": "balanced", "prefetch": 2}


def jitter(batch: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    return [batch[0] + rng.normal(size=batch[0].shape).astype(np.float32) / 100, *batch[1:]]


def mixed(folder: Path, every: int, step: int) -> tuple[ss.Trainer, dict[str, Any]]:
    """float16 with a dynamic loss scale that overflows, random rounding of state, frozen layers."""
    model = ss.nn.MixedPrecision(network(), "float16")
    optimizer = ss.optim.Adam(
        model.parameters(), lr=1e-2, master=True, on_nonfinite="skip", state_dtype="int8", state_rounding="stochastic"
    )
    scale = ss.train.DynamicLossScale(scale=2.0**24, interval=3)
    callbacks = [ss.train.Checkpoint(folder / "saved", every), Killer(step)]
    trainer = ss.Trainer(model, optimizer=optimizer, seed=8, callbacks=callbacks, loss_scale=scale, blas_threads=1)
    trainer.freeze("0.*")
    return trainer, {"batch_size": 16}


def stream(folder: Path, every: int, step: int) -> tuple[ss.Trainer, dict[str, Any]]:
    """A plain iterator that is drawn again, a schedule-free optimizer, an average over it."""
    model = network()
    optimizer = ss.optim.ScheduleFreeAdamW(model.parameters(), lr=1e-2)
    callbacks = [ss.train.Checkpoint(folder / "saved", every, every_epochs=None), Killer(step)]
    trainer = ss.Trainer(model, optimizer=optimizer, seed=9, callbacks=callbacks, blas_threads=1)
    batches = ((X[i % 50 : i % 50 + 10], Y[i % 50 : i % 50 + 10]) for i in range(0, 10**6, 7))
    return trainer, {"data": batches, "validation": (X, Y), "steps_per_epoch": 4, "accumulate": 2}


RUNS: dict[str, Callable[[Path, int, int], tuple[ss.Trainer, dict[str, Any]]]] = {
    "everything": everything,
    "mixed": mixed,
    "stream": stream,
}


def run(kind: str, every: int, folder: Path, step: int, is_resumed: bool) -> None:
    """One run, to its end or its kill; prints what became of it."""
    folder.mkdir(exist_ok=True)
    trainer, options = RUNS[kind](folder, every, step)
    if is_resumed:
        # A run that was killed before its first checkpoint begins anew, and says so.
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            (folder / "saved").mkdir(parents=True, exist_ok=True)
            ss.Trainer.resume(folder / "saved", trainer)
    start = trainer.clock.step
    trainer.fit(options.pop("data", (X, Y)), epochs=EPOCHS, progress=False, **options)
    print(json.dumps({"start": start, "steps": trainer.clock.step, "hash": digest(trainer, folder)}), flush=True)


def digest(trainer: ss.Trainer, folder: Path) -> str:
    """Of everything but the time it took, the log files included."""
    state = trainer.state_dict()
    del state["history"]["seconds"]
    document, arrays = separate(state)
    found = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        parts = array.parts if isinstance(array, ss.quant.QuantizedArray) else {"": array}
        for part, values in parts.items():
            found.update(f"{name} {part} {values.dtype} {values.shape}".encode())
            found.update(np.ascontiguousarray(values).tobytes())
    for path in sorted(folder.glob("*log*")):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


def apart(call: Callable[[], None]) -> int:
    """Exit code of a call in a child process, the negative signal if one killed it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            call()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(kind: str, every: int, last: int) -> None:
    """The straight run, then one that is killed after each step."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        assert apart(lambda: run(kind, every, folder / "straight", 0, False)) == 0
        step = 1
        while last == 0 or step <= last:
            place = folder / str(step)
            code = apart(lambda step=step, place=place: run(kind, every, place, step, False))
            if code == 0:
                return
            assert code == -signal.SIGKILL, code
            assert apart(lambda place=place: run(kind, every, place, 0, True)) == 0
            step += 1


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
