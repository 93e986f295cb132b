"""The one schedule with a state: it looks at a metric, not at the step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from stepsmith import _check
from stepsmith.schedules.base import Schedule

__all__ = ["PlateauState", "ReduceOnPlateau"]


@dataclass
class PlateauState:
    """What `ReduceOnPlateau` remembers.

    Attributes:
        lr: The rate now.
        best: The best metric so far; None until there is one.
        num_bad_epochs: Updates in a row without a better one.
        cooldown_counter: Updates that are still to pass before bad ones count again.
    """

    lr: float
    best: float | None = None
    num_bad_epochs: int = 0
    cooldown_counter: int = 0


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule, name="reduce_on_plateau"):
    """lr = max(lr·factor, min_lr) after more than `patience` updates in a row without a better metric.

    Its value is the rate now, whatever the step: call `update` on this very object after each evaluation, and the
    next step uses the new rate. `to_dict` holds the state, so a resumed run goes on as it would have; an optimizer
    that loads a state dictionary builds the schedule anew, so take it from ``optimizer.groups[0]["lr"]`` then. Equal
    means equal in arguments and state; the hash is of the arguments alone.

    Args:
        lr: The first rate, at least 0.
        mode: "min" if a smaller metric is better, "max" if a larger one.
        factor: In [0, 1).
        patience: Updates to bear, at least 0.
        threshold: How much better counts, at least 0.
        threshold_mode: "rel" compares with best·(1 - threshold), or best·(1 + threshold) for "max", which suits
            metrics above 0; "abs" with best - threshold, or best + threshold.
        cooldown: Updates after a reduction that are not counted, at least 0.
        min_lr: What the rate does not go below, at least 0.
        eps: A reduction by no more than this is left out, at least 0.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.optim.lr_scheduler.ReduceLROnPlateau``, where an infinite metric may be the best; here none is.

    Example:
        >>> schedule = ReduceOnPlateau(1.0, factor=0.5, patience=1)
        >>> [schedule.update(loss) for loss in (3.0, 2.0, 2.0, 2.0, 1.0)]
        [1.0, 1.0, 1.0, 0.5, 0.5]
    """

    lr: float
    mode: str = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_lr: float = 0.0
    eps: float = 1e-8
    state: PlateauState = field(init=False, hash=False)

    def __post_init__(self) -> None:
        self._real("lr")
        self._one_of("mode", "min", "max")
        self._real("factor", high=1.0, open_high=True)
        self._integer("patience", low=0)
        self._real("threshold")
        self._one_of("threshold_mode", "rel", "abs")
        self._integer("cooldown", low=0)
        self._real("min_lr")
        self._real("eps")
        object.__setattr__(self, "state", PlateauState(self.lr))

    def value(self, step: int) -> float:  # the metric decides, not the step
        """The rate now."""
        return self.state.lr

    def update(self, metric: float) -> float:
        """Look at the metric of an evaluation; NaN and infinities are never better.

        Args:
            metric: A number.

        Returns:
            The rate from now on.

        Raises:
            TypeError: Not a number.
        """
        if isinstance(metric, bool) or not isinstance(metric, Real):
            raise TypeError(f"ReduceOnPlateau: metric must be a number, got {metric!r}")
        metric, state = float(metric), self.state
        if self._better(metric):
            state.best, state.num_bad_epochs = metric, 0
        else:
            state.num_bad_epochs += 1
        if state.cooldown_counter > 0:
            state.cooldown_counter, state.num_bad_epochs = state.cooldown_counter - 1, 0
        if state.num_bad_epochs > self.patience:
            state.cooldown_counter, state.num_bad_epochs = self.cooldown, 0
            reduced = max(state.lr * self.factor, self.min_lr)
            state.lr = reduced if state.lr - reduced > self.eps else state.lr
        return state.lr

    def _better(self, metric: float) -> bool:
        best = self.state.best
        if best is None or not math.isfinite(metric):
            return math.isfinite(metric)
        change = self.threshold if self.mode == "max" else -self.threshold
        bound = best * (1.0 + change) if self.threshold_mode == "rel" else best + change
        return metric > bound if self.mode == "max" else metric < bound

    def to_dict(self) -> dict[str, Any]:
        """Name, arguments and state as JSON values; `from_dict` reads them back."""
        return {**super().to_dict(), "state": dataclasses.asdict(self.state)}

    def _restore(self, state: Any) -> None:
        owner, names = "ReduceOnPlateau", [item.name for item in dataclasses.fields(PlateauState)]
        if not isinstance(state, Mapping) or set(state) != set(names):
            raise ValueError(f"{owner}: state must have the keys {', '.join(names)}, got {state!r}")
        loaded = PlateauState(
            _check.number(owner, "state['lr']", state["lr"], low=0.0),
            None if state["best"] is None else _check.number(owner, "state['best']", state["best"]),
            _check.integer(owner, "state['num_bad_epochs']", state["num_bad_epochs"], low=0),
            _check.integer(owner, "state['cooldown_counter']", state["cooldown_counter"], low=0),
        )
        object.__setattr__(self, "state", loaded)
