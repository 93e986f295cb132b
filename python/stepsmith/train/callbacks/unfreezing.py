"""Gradual unfreezing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stepsmith import _check
from stepsmith.train.callbacks.base import Callback

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["GradualUnfreezing"]


class GradualUnfreezing(Callback):
    """Trains the top of a model first, then more and more of what lies below.

    Before the first step all is frozen but stage 0; after every `every_epochs` epochs the next stage joins in, until
    all have. What no stage matches stays frozen. The trainer's state has what is frozen, so a resumed run goes on.

    Args:
        stages: For each stage the globs of its names, as `Trainer.freeze` takes them, the head's first.
        every_epochs: Epochs of each stage before the next joins, at least 1.
        statistics: Whether frozen `BatchNorm` layers keep their running statistics; see `Trainer.freeze`.

    Raises:
        TypeError: Arguments of another kind, such as one string for the globs of a stage.
        ValueError: No stage, one without globs, or, in a fit, a glob that matches no parameter.

    Follows: Howard and Ruder 2018, Universal Language Model Fine-tuning for Text Classification.

    Example:
        >>> model = ss.nn.Sequential(ss.nn.Linear(2, 8), ss.nn.Tanh(), ss.nn.Linear(8, 2))
        >>> optimizer, unfreezing = ss.optim.Adam(model.parameters()), GradualUnfreezing([["2.*"], ["0.*"]])
        >>> trainer = ss.Trainer(model, optimizer=optimizer, callbacks=[unfreezing])
        >>> history = trainer.fit((np.eye(2, dtype=np.float32), np.array([0, 1])), epochs=3, progress=False)
        >>> optimizer.state_dict()["steps"]
        {'0.weight': 2, '0.bias': 2, '2.weight': 3, '2.bias': 3}
    """

    def __init__(self, stages: Sequence[Sequence[str]], every_epochs: int = 1, *, statistics: bool = False) -> None:
        owner = "GradualUnfreezing"
        self.stages = tuple(_stage(f"stages[{i}]", stage) for i, stage in enumerate(_stage("stages", stages)))
        self.every_epochs = _check.integer(owner, "every_epochs", every_epochs, low=1)
        self.statistics = _check.boolean(owner, "statistics", statistics)

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first step, freeze all but stage 0."""
        if trainer.clock.step == 0:
            every = [pattern for stage in self.stages for pattern in stage]
            trainer.freeze("*", *every, statistics=self.statistics)
            trainer.unfreeze(*self.stages[0])

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Unfreeze the next stage, if it is time."""
        number, rest = divmod(trainer.clock.epoch, self.every_epochs)
        if rest == 0 and number < len(self.stages):
            trainer.unfreeze(*self.stages[number])


def _stage(name: str, given: object) -> tuple[str, ...]:
    """A sequence that is no string and not empty."""
    if not isinstance(given, list | tuple):
        raise TypeError(f"GradualUnfreezing: {name} must be a list, got {given!r}")
    if not given:
        raise ValueError(f"GradualUnfreezing: {name} must not be empty, got {given!r}")
    return tuple(given)
