"""Statistics of weights and gradients."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsmith import _check
from stepsmith._backend import namespace
from stepsmith.train.callbacks.base import Callback
from stepsmith.train.callbacks.log_file import LogFile, json_line
from stepsmith.train.model import Array
from stepsmith.train.snapshot import Snapshot

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["Statistics"]


class Statistics(Callback):
    """Measures each parameter and its gradient from time to time: what vanishes, explodes or stands still.

    A row has "epoch", "step" and "name", and of the weights after the step, as of the gradients that it used, "norm",
    "mean", "std", "absmax" and "nonfinite" (how many are NaN or infinite), such as "weight_norm" and "grad_norm".
    "update_ratio" is the norm of the step's change over the norm of the weights before, absent where that was 0; about
    1e-3 is usual. All are computed in float64, gradients divided by the loss scale and before any clipping; those of an
    optimizer with ``zero_grads=True`` are zero by then. Optimizers that see all data several times in a step, such as
    `optim.LBFGS`, have no columns of gradients: there is no one gradient that they use.

    Args:
        every_steps: Steps between measurements, at least 1. One takes about as long as a few steps of the optimizer,
            and a copy of the parameters is made before it.
        path: Of a file of JSON lines that gets the rows as `JSONLogger` writes them; it grows and is resumed as there.
        overwrite: Whether a file of another run may be replaced.

    Attributes:
        rows: Of all measurements, or with `path` of the last one.

    Raises:
        TypeError, ValueError: Arguments of another kind or out of range.
        FileExistsError: When a fit begins: another run's file, and neither `overwrite` nor a resumed run.

    Example:
        >>> model, statistics = ss.nn.Linear(2, 2), Statistics(every_steps=1)
        >>> optimizer = ss.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = ss.train.Trainer(model, optimizer=optimizer, callbacks=[statistics])
        >>> history = trainer.fit((np.ones((4, 2), np.float32), np.array([0, 0, 0, 1])), progress=False)
        >>> [(row["name"], row["grad_nonfinite"]) for row in statistics.rows]
        [('weight', 0), ('bias', 0)]
    """

    def __init__(
        self, every_steps: int = 100, path: str | os.PathLike[str] | None = None, overwrite: bool = False
    ) -> None:
        self.every_steps = _check.integer("Statistics", "every_steps", every_steps, low=1)
        self.rows: list[dict[str, Any]] = []
        self._file = None if path is None else LogFile("Statistics", path, overwrite)
        self._before = Snapshot()

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Open the file."""
        if self._file is not None:
            self._file.open(trainer.resumed)
        self._keep(trainer)

    def on_step_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Measure, if it is time."""
        if trainer.clock.step % self.every_steps == 0:
            self._record(trainer, row)
        self._keep(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _keep(self, trainer: Trainer) -> None:
        """Copy the parameters, if the next step is one to measure."""
        if (trainer.clock.step + 1) % self.every_steps == 0:
            self._before.keep(trainer.model.parameters())

    def _record(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        place = {"epoch": row["epoch"], "step": row["step"]}
        params = trainer.model.parameters()
        rows = [{**place, "name": name, **self._measured(trainer, name)} for name in params if params[name].size]
        if self._file is None:
            self.rows += rows
        else:
            self.rows = rows
            self._file.write("".join(map(json_line, rows)))

    def _measured(self, trainer: Trainer, name: str) -> dict[str, float]:
        assert trainer.updater is not None
        weight, grad = trainer.model.parameters()[name], trainer.updater.gradients.get(name)
        # NaN and infinity are what this is to show.
        with np.errstate(all="ignore"):
            found = _measures("weight", weight, 1.0)
            if grad is not None:
                found |= _measures("grad", grad, trainer.updater.gradient_scale)
            return found | _ratio(weight, self._before.copies[name])

    def state_dict(self) -> dict[str, Any]:
        """The rows, and how many bytes of the file count."""
        return {"rows": [dict(row) for row in self.rows], "offset": None if self._file is None else self._file.offset}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; the file is cut when the next fit begins."""
        if (state["offset"] is None) != (self._file is None):
            rule = "must be None as in the run that was saved" if self._file is not None else "must be given as before"
            raise ValueError(f"Statistics: path {rule}, got the reverse")
        self.rows = [dict(row) for row in state["rows"]]
        if self._file is not None:
            self._file.offset = state["offset"]


def _measures(kind: str, x: Array, scale: float) -> dict[str, float]:
    wide = x.astype(np.float64) / scale
    return {
        f"{kind}_norm": _norm(wide),
        f"{kind}_mean": float(wide.mean()),
        f"{kind}_std": float(wide.std()),
        f"{kind}_absmax": float(abs(wide).max()),
        f"{kind}_nonfinite": int(wide.size - namespace(wide).isfinite(wide).sum()),
    }


def _norm(x: Array) -> float:
    xp = namespace(x)
    return float(xp.sqrt(xp.square(x).sum()))


def _ratio(after: Array, before: Array) -> dict[str, float]:
    wide = before.astype(np.float64)
    norm = _norm(wide)
    return {"update_ratio": _norm(after.astype(np.float64) - wide) / norm} if norm else {}
