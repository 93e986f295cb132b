"""The learning rate range test."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stepsmith import _check, _plot
from stepsmith._core import NonFiniteError
from stepsmith.schedules.base import rate
from stepsmith.train.averages import deep_copy
from stepsmith.train.callbacks import Callback
from stepsmith.train.model import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from stepsmith.train.trainer import Trainer

__all__ = ["LRFinder", "lr_find"]


@dataclass(frozen=True, eq=False)
class LRFinder:
    """What a learning rate range test saw.

    Attributes:
        lrs: The learning rates of the first group, ascending, float64 (steps,).
        losses: The loss of the batch before the step with that rate.
        smoothed: Their moving averages: aₜ = β·aₜ₋₁ + (1 - β)·lossₜ from a₀ = 0, divided by 1 - βᵗ.

    Example:
        >>> lrs = np.geomspace(1e-3, 1.0, 7)
        >>> losses = np.array([2.0, 2.0, 1.9, 1.5, 1.2, 1.1, 3.0])
        >>> finder = LRFinder(lrs, losses, losses)
        >>> round(finder.suggestion, 4)
        0.0316
    """

    lrs: Array
    losses: Array
    smoothed: Array

    @property
    def suggestion(self) -> float | None:
        """The middle of the tenth of the steps over which the smoothed loss falls most, before its minimum.

        The first tenth is left out, because there a moving average is of too few. None if the loss does not fall:
        `start` was too large then, or the model does not learn. It is an upper end rather than the best rate: where
        training is to be safe, divide it by 3 to 10.
        """
        smoothed, half = self.smoothed, max(1, len(self.smoothed) // 20)
        first = len(smoothed) // 10
        last = first + int(smoothed[first:].argmin()) if len(smoothed) else 0
        middles = np.arange(first + half, last - half + 1)
        falls = smoothed[middles - half] - smoothed[middles + half]
        if not (falls > 0).any():
            return None
        return float(self.lrs[middles[falls.argmax()]])

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw losses and smoothed losses over the learning rate, with the suggestion.

        Args:
            path: Where to save it, in the format of its suffix; None only returns the figure.

        Raises:
            ImportError: matplotlib is missing.
        """
        figure = _plot.figure("LRFinder.plot", 6, 4)
        axes = figure.add_subplot(xlabel="learning rate", ylabel="loss", xscale="log")
        axes.plot(self.lrs, self.losses, alpha=0.3, label="loss")
        axes.plot(self.lrs, self.smoothed, label="smoothed")
        if self.suggestion is not None:
            axes.axvline(self.suggestion, color="black", linestyle=":", label=f"suggestion {self.suggestion:.2g}")
        if len(self.lrs):
            axes.set_ylim(*self._limits())
        axes.grid(alpha=0.3)
        axes.legend()
        if path is not None:
            figure.savefig(path)
        return figure

    def _limits(self) -> tuple[float, float]:
        """What is worth seeing: an explosion would flatten all before it."""
        low, high = self.losses.min(), self.smoothed[: self.smoothed.argmin() + 1].max()
        margin = 0.2 * (high - low) or 1.0
        return low - margin, high + margin


class _Finished(Exception):  # noqa: N818
    """The range is done, or the loss has exploded."""


class _Sweep(Callback):
    """Sets the rate of each step, and records losses."""

    def __init__(self, lrs: Array, smoothing: float, stop_factor: float) -> None:
        self.lrs, self.smoothing, self.stop_factor = lrs, smoothing, stop_factor
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self._average = 0.0
        self._ratios: list[float] = []

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._ratios = _ratios(trainer.optimizer)
        self._set(trainer)

    def on_step_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        self._average += (1.0 - self.smoothing) * (row["loss"] - self._average)
        self.losses.append(row["loss"])
        self.smoothed.append(self._average / (1.0 - self.smoothing ** len(self.losses)))
        best = min(self.smoothed)
        has_exploded = self.smoothed[-1] - best > (self.stop_factor - 1.0) * abs(best)
        if has_exploded or len(self.losses) == len(self.lrs):
            raise _Finished
        self._set(trainer)

    def _set(self, trainer: Trainer) -> None:
        optimizer: Any = trainer.optimizer
        for group, ratio in zip(optimizer.groups, self._ratios, strict=True):
            group["lr"] = float(self.lrs[len(self.losses)]) * ratio


def _ratios(optimizer: Any) -> list[float]:
    """Each group's rate over that of the first, all as the next update would have them; 1 if the first is 0."""
    groups = optimizer.state_dict()["groups"]
    rates = [rate(group["lr"], saved["step"]) for group, saved in zip(optimizer.groups, groups, strict=True)]
    return [lr / rates[0] if rates[0] else 1.0 for lr in rates]


def lr_find(
    trainer: Trainer,
    data: Any,
    start: float,
    end: float,
    steps: int,
    smoothing: float,
    stop_factor: float,
    settings: Mapping[str, Any],
) -> LRFinder:
    """The test; see `Trainer.lr_find`. `settings` are further arguments of `Trainer.fit`."""
    owner = "Trainer.lr_find"
    start = _check.number(owner, "start", start, low=0.0, open_low=True)
    end = _check.number(owner, "end", end, low=start, open_low=True)
    steps = _check.integer(owner, "steps", steps, low=2)
    smoothing = _check.number(owner, "smoothing", smoothing, low=0.0, high=1.0, open_high=True)
    stop_factor = _check.number(owner, "stop_factor", stop_factor, low=1.0, open_low=True)
    if isinstance(data, Iterator):
        raise TypeError(f"{owner}: data must be something that can be read again, got a plain iterator")
    sweep = _Sweep(np.geomspace(start, end, steps), smoothing, stop_factor)
    twin = _twin(trainer, sweep)
    # An exploding loss overflows on its way; that is what is looked for.
    with np.errstate(all="ignore"), contextlib.suppress(_Finished, NonFiniteError):
        twin.fit(data, epochs=steps, progress=False, **settings)
    count = len(sweep.losses)
    return LRFinder(sweep.lrs[:count], np.array(sweep.losses), np.array(sweep.smoothed))


def _twin(trainer: Trainer, sweep: _Sweep) -> Trainer:
    """The same trainer over arrays of its own, with no callbacks but one."""
    optimizer: Any = trainer.optimizer
    if not hasattr(optimizer, "clone"):
        rule = "must be one that can be cloned"
        raise TypeError(f"Trainer.lr_find: optimizer {rule}, got {type(optimizer).__name__}")
    model = deep_copy(trainer.model)
    twin = type(trainer)(
        model,
        trainer._loss,
        optimizer=optimizer.clone(model.parameters()),
        seed=trainer.seed,
        callbacks=[sweep],
        regularizers=copy.deepcopy(trainer.regularizers),
        loss_scale=copy.deepcopy(trainer.loss_scale),
        blas_threads=trainer.blas_threads,
    )
    twin.frozen = set(trainer.frozen)
    return twin
