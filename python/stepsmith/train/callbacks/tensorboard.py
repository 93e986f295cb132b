"""Curves for TensorBoard."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsmith import _check
from stepsmith.train.callbacks.base import Callback

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["TensorBoard"]


class TensorBoard(Callback):
    """Writes the history where ``tensorboard --logdir folder`` shows it as curves over the optimizer's steps.

    The columns of an epoch keep their names; those of a step are below "step/". Each fit has a file of its own, which
    says from which step on earlier files no longer count: so the curves of a resumed run are those of one that was
    never interrupted. Points of steps wait in memory until 8 KB are full, their epoch ends or the run is saved.

    Args:
        folder: Of this run alone; made when a fit begins.
        every_steps: Steps between points of the steps' curves; None for none.

    Raises:
        ImportError: tensorboardX is missing.
        TypeError, ValueError: An `every_steps` that is no integer, or below 1.
        FileExistsError: When a fit begins: curves of another run in the folder, and no resumed run.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> model = ss.nn.Linear(2, 2)
        >>> optimizer = ss.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = ss.train.Trainer(model, optimizer=optimizer, callbacks=[TensorBoard(folder.name)])
        >>> history = trainer.fit((np.ones((4, 2), np.float32), np.array([0, 1, 0, 1])), epochs=3, progress=False)
        >>> len(os.listdir(folder.name))
        1
        >>> folder.cleanup()
    """

    def __init__(self, folder: str | os.PathLike[str], every_steps: int | None = None) -> None:
        self.folder, self.every_steps = Path(folder), None
        if every_steps is not None:
            self.every_steps = _check.integer("TensorBoard", "every_steps", every_steps, low=1)
        _import()
        self._is_own = False
        self._step, self._points = 0, dict[str, float]()
        self._events: _Events | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Begin a file; points of the last step are made void and written anew, as its epoch may have ended later."""
        if not (trainer.resumed or self._is_own) and any(self.folder.glob("events.out.tfevents.*")):
            way = "resume that run or choose another folder"
            raise FileExistsError(f"TensorBoard: folder must be of this run alone, got {str(self.folder)!r}: {way}")
        self._is_own = True
        self._events = _Events(self.folder, trainer.clock.step)
        if self._step == trainer.clock.step:
            self._events.add(self._step, self._points)

    def on_step_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Add points, if it is time."""
        if self.every_steps is not None and trainer.clock.step % self.every_steps == 0:
            self._add("step/", row)

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Add points, and write what waits."""
        self._add("", row)
        self._flush()

    def _add(self, prefix: str, row: Mapping[str, float]) -> None:
        assert self._events is not None
        step, before = int(row["step"]), self._points
        points = {f"{prefix}{name}": float(value) for name, value in row.items() if name not in ("epoch", "step")}
        self._events.add(step, points)
        self._step, self._points = step, {**(before if step == self._step else {}), **points}

    def _flush(self) -> None:
        if self._events is not None:
            self._events.flush()

    def on_fit_end(self, trainer: Trainer) -> None:
        """Close the file."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def state_dict(self) -> dict[str, Any]:
        """The points of the last step that has some; those up to it are in the file then."""
        self._flush()
        return {"step": self._step, "points": dict(self._points)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; what the folder has of later steps is void when the next fit begins."""
        self._step, self._points = state["step"], dict(state["points"])


class _Events:
    """A file of events. tensorboardX's SummaryWriter has a thread for it, and nobody knows what is in the file."""

    def __init__(self, folder: Path, first: int) -> None:
        writer, self._proto, self._scalar = _import()
        folder.mkdir(parents=True, exist_ok=True)
        # Names have whole seconds; two fits of one second need another difference.
        self._writer = writer(str(folder / "events"), f".{first:09d}")
        start = self._proto.SessionLog(status=self._proto.SessionLog.START)
        self._write(self._proto.Event(step=first, session_log=start))

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        event = self._proto.Event(step=step)
        for name, value in scalars.items():
            event.summary.MergeFrom(self._scalar(name, value))
        self._write(event)

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)

    def flush(self) -> None:
        # This waits for the disk: too long for each step.
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _import() -> Any:
    """The writer of files, the module of messages, and what makes a scalar's message."""
    try:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2
        from tensorboardX.summary import scalar
    except ImportError as error:
        raise ImportError("TensorBoard needs tensorboardX: pip install 'stepsmith[tensorboard]'") from error
    return EventsWriter, event_pb2, scalar
