"""Rows of a run in files: CSV and JSON lines."""

from __future__ import annotations

import csv
import io
import os
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stepsmith import _check
from stepsmith.train.callbacks.base import Callback
from stepsmith.train.callbacks.log_file import LogFile, json_line, plain

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["CSVLogger", "JSONLogger"]

Event = Literal["epoch", "step"]

# A step that is skipped has no norm, but its column must not depend on that.
_STEP_COLUMNS = ("epoch", "step", "samples", "loss", "lr", "grad_norm")


class Logger(Callback):
    """Writes rows of events into log files, and has their offsets as its state.

    Args:
        every_steps: Steps between rows of steps; None for none.
        files: Each event's file.
    """

    def __init__(self, every_steps: int | None, files: Mapping[Event, LogFile]) -> None:
        owner = type(self).__name__
        self.every_steps = None if every_steps is None else _check.integer(owner, "every_steps", every_steps, low=1)
        self._files = files

    @abstractmethod
    def _write(self, event: Event, row: Mapping[str, float]) -> None:
        """Add a row."""

    def _distinct(self) -> list[LogFile]:
        return list(dict.fromkeys(self._files.values()))

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Open the files: new ones, or cut back to where the run was."""
        for file in self._distinct():
            file.check(trainer.resumed)
        for file in self._distinct():
            file.open(trainer.resumed)

    def on_step_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Add a row, if it is time."""
        if self.every_steps is not None and trainer.clock.step % self.every_steps == 0:
            self._write("step", row)

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Add a row."""
        self._write("epoch", row)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Close the files."""
        for file in self._distinct():
            file.close()

    def state_dict(self) -> dict[str, Any]:
        """How many bytes of each file count."""
        return {"offsets": [file.offset for file in self._distinct()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; the files are cut when the next fit begins."""
        files, offsets = self._distinct(), state["offsets"]
        if len(offsets) != len(files):
            rule = f"must be as it was with {len(offsets)} file(s)"
            raise ValueError(f"{type(self).__name__}: every_steps {rule}, got {self.every_steps}")
        for file, offset in zip(files, offsets):
            file.offset = offset


class CSVLogger(Logger):
    r"""Writes the history into a CSV file as it grows: a line of names, then one an epoch.

    Numbers are written so that they read back as the same ones; NaN and infinities are "nan", "inf" and "-inf". The
    columns are those of the first row: what a later one lacks is left empty, and what it has besides is left out with
    a warning (`JSONLogger` takes rows of any columns).

    Each row is in the file before the next step. A later fit goes on in it; a resumed run first cuts it back to where
    its checkpoint was, so that in the end it is, byte for byte, that of a run that was never interrupted.

    Args:
        path: Of the file.
        every_steps: Also write a row every so many steps, into a file beside it, because its columns are others:
            "log.steps.csv" for "log.csv".
        overwrite: Whether files of another run may be replaced.

    Raises:
        TypeError, ValueError: Arguments of another kind or out of range.
        FileExistsError: When a fit begins: another run's file, and neither `overwrite` nor a resumed run.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> model = ss.nn.Linear(2, 2)
        >>> logger = CSVLogger(folder.name + "/log.csv")
        >>> trainer = ss.train.Trainer(model, optimizer=ss.optim.SGD(model.parameters(), lr=0.5), callbacks=[logger])
        >>> history = trainer.fit((np.ones((4, 2), np.float32), np.array([0, 1, 0, 1])), epochs=2, progress=False)
        >>> logger.path.read_text().splitlines()[0]
        'epoch,step,loss,lr'
        >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str], every_steps: int | None = None, overwrite: bool = False) -> None:
        self.path = Path(path)
        files: dict[Event, LogFile] = {"epoch": LogFile("CSVLogger", path, overwrite)}
        if every_steps is not None:
            beside = self.path.with_name(f"{self.path.stem}.steps{self.path.suffix}")
            files["step"] = LogFile("CSVLogger", beside, overwrite)
        super().__init__(every_steps, files)
        self._columns: dict[Event, list[str]] = {}
        self._left_out: set[str] = set()

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Open the files, and read which columns they have."""
        super().on_fit_begin(trainer)
        self._columns = {event: next(csv.reader([f.first_line()])) for event, f in self._files.items() if f.offset}

    def _write(self, event: Event, row: Mapping[str, float]) -> None:
        text, columns = "", self._columns.get(event)
        if columns is None:
            columns = list(dict.fromkeys([*(_STEP_COLUMNS if event == "step" else ()), *row]))
            text = _line(columns)
        self._warn([name for name in row if name not in columns])
        self._files[event].write(text + _line(plain(row.get(name, "")) for name in columns))
        self._columns[event] = columns

    def _warn(self, names: list[str]) -> None:
        if not self._left_out.issuperset(names):
            self._left_out.update(names)
            rule = f"{str(self.path)!r} has the columns of its first row, {names} are left out"
            warnings.warn(f"CSVLogger: {rule}", stacklevel=2)


def _line(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


class JSONLogger(Logger):
    """Writes the history into a file of JSON lines as it grows: an object an epoch, with "event": "epoch".

    Numbers are written so that they read back as the same ones. JSON has no NaN and no infinities: they stand as null,
    and the object has ``"nonfinite": {name: "nan", "inf" or "-inf"}`` then.

    How the file grows and what a resumed run does with it is as with `CSVLogger`.

    Args:
        path: Of the file.
        every_steps: Also write a row every so many steps, with "event": "step".
        overwrite: Whether a file of another run may be replaced.

    Raises:
        TypeError, ValueError: Arguments of another kind or out of range.
        FileExistsError: When a fit begins: another run's file, and neither `overwrite` nor a resumed run.

    Example:
        >>> import json, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> model = ss.nn.Linear(2, 2)
        >>> logger = JSONLogger(folder.name + "/log.jsonl", every_steps=1)
        >>> trainer = ss.train.Trainer(model, optimizer=ss.optim.SGD(model.parameters(), lr=0.5), callbacks=[logger])
        >>> history = trainer.fit((np.ones((4, 2), np.float32), np.array([0, 1, 0, 1])), epochs=1, progress=False)
        >>> [json.loads(line)["event"] for line in logger.path.read_text().splitlines()]
        ['step', 'epoch']
        >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str], every_steps: int | None = None, overwrite: bool = False) -> None:
        self.path = Path(path)
        file = LogFile("JSONLogger", path, overwrite)
        super().__init__(every_steps, {"epoch": file, "step": file})

    def _write(self, event: Event, row: Mapping[str, float]) -> None:
        self._files[event].write(json_line({"event": event, **row}))
