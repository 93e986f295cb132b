"""What an optimizer folds into its steps, as kernels take it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stepsmith.cuda.optim.structs import PASS, REDUCTIONS

__all__ = ["examines", "pass_of"]


def pass_of(settings: Mapping[str, Any]) -> "np.ndarray[Any, np.dtype[np.void]]":
    """A `PASS` with all that stays from step to step."""
    record = np.zeros((), PASS)
    for name, flag in (
        ("clip_value", "clips_values"),
        ("agc", "clips_units"),
        ("rounding_seed", "rounds"),
        ("state_rounding_seed", "rounds_state"),
    ):
        if settings[name] is not None:
            record[name], record[flag] = settings[name], True
    if settings["max_norm"] is not None:
        record["max_norm"], record["norm"] = settings["max_norm"], REDUCTIONS[settings["norm"]]
    record["checks_finite"], record["skips"] = settings["check_finite"], settings["skips"]
    record["ema_weight"], record["zeroes_grads"] = settings["ema_weight"], settings["zero_grads"]
    record["is_examined"] = examines(settings)
    return record


def examines(settings: Mapping[str, Any]) -> bool:
    """Are the gradients looked at before anything is written?"""
    return bool(settings["check_finite"]) or settings["max_norm"] is not None


def scale_by(record: "np.ndarray[Any, np.dtype[np.void]]", grad_scale: float) -> None:
    """What gradients are divided by, and the factors that this gives without an examination."""
    record["grad_scale"], record["first"], record["second"] = grad_scale, 1.0 / grad_scale, 1.0
