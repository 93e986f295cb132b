"""What a trainer applies around the steps of an optimizer: penalties before them, constraints after them."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping

from stepsmith.nn.buffer import Array

__all__ = ["Regularizer"]


class Regularizer(ABC):  # noqa: B024 - either half may be empty
    """A penalty, a constraint, or both; a subclass writes what it needs."""

    def before_step(self, params: Mapping[str, Array], grads: Mapping[str, Array | None], scale: float = 1.0) -> float:
        """Add `scale` times the penalty's gradient to the gradients in place; return the penalty."""
        return 0.0

    def after_step(self, params: Mapping[str, Array], lrs: Mapping[str, float]) -> None:  # noqa: B027
        """Change parameters in place; each has its learning rate."""
