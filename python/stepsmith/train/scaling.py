"""Loss scaling: what keeps the small gradients of 16-bit floats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepsmith import _check

__all__ = ["DynamicLossScale", "LossScale", "loss_scale_of"]


class LossScale:
    """Multiplies the loss before the backward pass by a constant; the optimizer divides the gradients by it.

    Args:
        scale: More than 0.

    Raises:
        TypeError, ValueError: Another kind of number.

    Example:
        >>> LossScale(1024.0).scale
        1024.0
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = _check.number(type(self).__name__, "scale", scale, low=0.0, open_low=True)

    def update(self, skipped: bool) -> bool:
        """Take note of a step; whether a skipped one was the scale's fault and the next one may go better."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"scale": self.scale}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.scale = state["scale"]


class DynamicLossScale(LossScale):
    """A scale that falls when a gradient overflows, whose step is skipped then, and grows after `interval` good steps.

    Args:
        scale: The first one.
        growth: Factor after good steps, more than 1.
        backoff: Factor after an overflow, in (0, 1).
        interval: Good steps in a row before the scale grows, at least 1.
        minimum: At this scale gradients that are not finite are an error, no overflow; at most `scale`.

    Raises:
        TypeError, ValueError: An argument out of range, by name.

    Follows: ``torch.amp.GradScaler``; Micikevicius et al. 2018, Mixed precision training.

    Example:
        >>> scale = DynamicLossScale(interval=2)
        >>> [(scale.update(skipped), scale.scale) for skipped in (True, False, False)]
        [(True, 32768.0), (False, 32768.0), (False, 65536.0)]
    """

    def __init__(
        self,
        scale: float = 65536.0,
        growth: float = 2.0,
        backoff: float = 0.5,
        interval: int = 2000,
        minimum: float = 1.0,
    ) -> None:
        super().__init__(scale)
        owner = type(self).__name__
        self.growth = _check.number(owner, "growth", growth, low=1.0, open_low=True)
        self.backoff = _check.number(owner, "backoff", backoff, low=0.0, high=1.0, open_low=True, open_high=True)
        self.interval = _check.integer(owner, "interval", interval, low=1)
        self.minimum = _check.number(owner, "minimum", minimum, low=0.0, high=self.scale, open_low=True)
        self.good_steps = 0

    def update(self, skipped: bool) -> bool:
        """Grow or fall."""
        if skipped:
            at_end = self.scale <= self.minimum
            self.scale, self.good_steps = max(self.scale * self.backoff, self.minimum), 0
            return not at_end
        self.good_steps += 1
        if self.good_steps == self.interval:
            grown = self.scale * self.growth
            # A scale beyond float32 would make every gradient infinite.
            self.scale, self.good_steps = (grown if grown < 2.0**127 else self.scale), 0
        return False

    def state_dict(self) -> dict[str, Any]:
        """Scale and good steps."""
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.scale, self.good_steps = state["scale"], state["good_steps"]


def loss_scale_of(value: object) -> LossScale | None:
    """The scale for an argument of the trainer: None, a number, "dynamic" or an object."""
    if value is None or isinstance(value, LossScale):
        return value
    if value == "dynamic":
        return DynamicLossScale()
    if isinstance(value, str):
        raise ValueError(f"Trainer: loss_scale must be None, 'dynamic', a number or a LossScale, got {value!r}")
    return LossScale(_check.number("Trainer", "loss_scale", value, low=0.0, open_low=True))
