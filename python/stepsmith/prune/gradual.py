"""Pruning step by step during a fit."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stepsmith import _check
from stepsmith.optim import Optimizer
from stepsmith.prune.masks import Mask, global_masks, magnitude_mask, rows, structured_mask
from stepsmith.prune.optimizer import apply, require_optimizer
from stepsmith.schedules import CubicSparsity
from stepsmith.train.callbacks import Callback

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["GradualPruning"]

Array = NDArray[Any]


class GradualPruning(Callback):
    """Prunes by magnitude while a model trains, more at each of some steps, along a `schedules.CubicSparsity`.

    After the steps start, start + every, ..., stop of the trainer's clock exactly ``round(share * n)`` weights are
    pruned (where more were, they stay so); the optimizer holds them at zero between. What is pruned next depends on
    the weights and the optimizer's masks alone, which its `state_dict` has: a resumed run needs nothing else. Among
    callbacks it stands behind those that put parameters back, such as `EarlyStopping`: the best epoch may lie before
    the pruning.

    Args:
        final: Share of pruned weights in the end, in [0, 1].
        start: Step of the first pruning; 0 is before the first batch.
        stop: Step of the last one, start plus a multiple of every.
        every: Steps between.
        initial: Share at the first pruning.
        include: Pattern of names, as in a shell; parameters of two or more axes that match are pruned.
        scope: "global" compares weights of all these tensors together, "local" prunes the same share of each, and
            ("structured", axis) whole slices of each, such as ("structured", 0) for units and channels.
        norm: Of a slice: 1, 2 or inf.

    Attributes:
        schedule: The share by step.

    Raises:
        TypeError, ValueError: Arguments of another kind or out of range; in a fit, no parameter that matches, an
            optimizer without masks, or weights that became NaN.

    Example:
        >>> model = ss.nn.Sequential(ss.nn.Linear(8, 16), ss.nn.ReLU(), ss.nn.Linear(16, 2))
        >>> gradual = GradualPruning(0.9, start=100, stop=500, every=50)
        >>> [round(gradual.schedule(step), 3) for step in (0, 100, 200, 500)]
        [0.0, 0.0, 0.52, 0.9]
    """

    def __init__(
        self,
        final: float,
        *,
        start: int,
        stop: int,
        every: int,
        initial: float = 0.0,
        include: str = "*weight",
        scope: str | tuple[str, int] = "global",
        norm: float = 2,
    ) -> None:
        owner = "GradualPruning"
        self.schedule = CubicSparsity(final, start, stop, every, initial)
        if not isinstance(include, str):
            raise TypeError(f"{owner}: include must be a string, got {include!r}")
        self.include, self.norm, self.axis = include, norm, None
        if isinstance(scope, tuple) and len(scope) == 2 and scope[0] == "structured":
            self.axis = _check.integer(owner, "scope[1]", scope[1])
        elif scope not in ("global", "local"):
            raise ValueError(f"{owner}: scope must be 'global', 'local' or ('structured', axis), got {scope!r}")
        self.scope = scope

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Refuse what cannot be pruned; prune before the first batch if the schedule starts there."""
        self._chosen(require_optimizer("GradualPruning", trainer.optimizer))
        if trainer.clock.step == 0:
            self._prune(trainer, 0)

    def on_step_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Prune, where the schedule says so."""
        self._prune(trainer, int(row["step"]))

    def on_fit_end(self, trainer: Trainer) -> None:
        """Zero what another callback has put back into pruned weights."""
        if isinstance(trainer.optimizer, Optimizer):
            apply(trainer.optimizer, trainer.optimizer.masks)

    def _prune(self, trainer: Trainer, step: int) -> None:
        if self.schedule.is_update(step):
            optimizer = require_optimizer("GradualPruning", trainer.optimizer)
            apply(optimizer, {**optimizer.masks, **self._masks(optimizer, self.schedule(step))})

    def _chosen(self, optimizer: Optimizer) -> dict[str, Array]:
        params = optimizer.params
        chosen = {name: w for name, w in params.items() if w.ndim > 1 and fnmatchcase(name, self.include)}
        if not chosen:
            rule = "match a parameter of two or more axes"
            raise ValueError(f"GradualPruning: include must {rule} of {list(params)}, got {self.include!r}")
        return chosen

    def _masks(self, optimizer: Optimizer, share: float) -> dict[str, Mask]:
        chosen, masks = self._chosen(optimizer), optimizer.masks
        now = {name: masks.get(name, np.ones(w.shape, np.bool_)) for name, w in chosen.items()}
        if self.scope == "global":
            return global_masks(chosen, _more(share, list(now.values())), now)
        if self.axis is None:
            return {name: magnitude_mask(w, _more(share, [now[name]]), now[name]) for name, w in chosen.items()}
        return {name: self._structured(w, share, now[name], self.axis) for name, w in chosen.items()}

    def _structured(self, w: Array, share: float, mask: Mask, axis: int) -> Mask:
        slices = np.asarray(rows(mask, axis).any(axis=1))
        return structured_mask(w, _more(share, [slices]), axis, self.norm, mask)


def _more(share: float, kept: list[Mask]) -> int:
    """How many of the kept ones go, so that a share of all is pruned."""
    pruned = sum(mask.size - int(mask.sum()) for mask in kept)
    return max(round(share * sum(mask.size for mask in kept)) - pruned, 0)
