"""What every callback is: hooks around steps and epochs, and a state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stepsmith import _check

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["Callback", "Mode", "better", "direction_of", "mode_of", "monitored", "require_same"]


class Callback:
    """Hooks that a trainer calls; a subclass writes those it needs.

    What it must remember in a resumed run it says in `state_dict`. Callbacks of a trainer are told apart by their order
    and class.
    """

    comes_last: ClassVar[bool] = False
    """Whether it is called after the others, because it saves what they have become."""

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first batch of a fit, after its arguments were checked."""

    def on_step_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """After a step of the optimizer: "epoch", "step" and "samples" so far, its "loss", "lr" and "grad_norm"."""

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """After an epoch and its validation, with the row that joined the history; `trainer.stop()` ends the fit."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """When a fit ends, in whatever way: its epochs are done, a callback stopped it, or an error broke it off."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: a tree of dicts, lists, JSON values and arrays; a copy."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave, checked before anything changes."""


Mode = Literal["auto", "min", "max"]


_DIRECTIONS = {
    "min": ("loss", "error", "mse", "rmse", "mae", "perplexity", "penalty"),
    "max": ("accuracy", "acc", "auc", "f1", "precision", "recall", "r2", "score"),
}


def mode_of(owner: str, mode: Mode, monitor: str) -> str:
    """The direction of a column; "auto" goes by its name."""
    _check.one_of(owner, "mode", mode, ("auto", "min", "max"))
    if mode != "auto":
        return mode
    direction = direction_of(monitor)
    if direction is None:
        raise ValueError(f"{owner}: mode must be 'min' or 'max' for {monitor!r}, which nobody knows, got 'auto'")
    return direction


def direction_of(monitor: str) -> str | None:
    """What the end of a column's name says: losses and errors fall, the common scores rise; None for another one.

    Example:
        >>> direction_of("val_loss"), direction_of("val_f1"), direction_of("val_x")
        ('min', 'max', None)
    """
    name = monitor.lower()
    return next((direction for direction, ends in _DIRECTIONS.items() if name.endswith(ends)), None)


def monitored(owner: str, monitor: str, row: Mapping[str, float]) -> float:
    """The column of a row that a callback looks at."""
    if monitor not in row:
        raise ValueError(f"{owner}: monitor must be one of {list(row)}, got {monitor!r}")
    return row[monitor]


def better(value: float, best: float | None, mode: str, min_delta: float = 0.0) -> bool:
    """Whether a value is better by more than `min_delta`; NaN never is, and any number is better than None.

    Example:
        >>> better(0.5, 0.4, "max"), better(0.5, None, "min"), better(float("nan"), None, "min")
        (True, True, False)
    """
    if best is None:
        return not math.isnan(value)
    return (value - best if mode == "max" else best - value) > min_delta


def require_same(owner: str, callback: Any, state: Mapping[str, Any]) -> None:
    """Raise unless the state looks at the same column, and in the same direction."""
    for name in ("monitor", "mode"):
        if state[name] != getattr(callback, name):
            raise ValueError(f"{owner}: {name} must be as it was, {state[name]!r}, got {getattr(callback, name)!r}")
