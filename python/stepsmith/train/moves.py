"""A whole trainer from one device to another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stepsmith._backend import as_device
from stepsmith.nn import Loss, Module

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["move"]


def move(trainer: Trainer, loss: object, device: str) -> None:
    """Move model, loss and optimizer; see `Trainer.to`."""
    target = as_device("Trainer.to", device)
    model: Any = trainer.model
    optimizer: Any = trainer.optimizer
    for name, part in (("model", model), ("optimizer", optimizer)):
        if not callable(getattr(part, "to", None)):
            raise TypeError(f"Trainer.to: {name} must have to(device), got {type(part).__name__}")
    if trainer.updater is not None:
        raise RuntimeError("Trainer.to: the trainer must not be in a fit, got one that runs")
    undo = [_moved(part, target) for part in (model, loss) if isinstance(part, Module | Loss)]
    if not isinstance(model, Module):
        model.to(target)
    try:
        params = model.parameters()
        trainer.optimizer = optimizer.to(target, params={name: params[name] for name in optimizer.params})
    except BaseException:
        for back in undo:
            back()
        raise


def _moved(part: Module | Loss, device: str) -> Callable[[], None]:
    return part._move(device)
