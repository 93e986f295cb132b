"""What a step on a device met, as an exception."""

from collections.abc import Sequence
from typing import Any

from stepsmith import _core
from stepsmith.cuda.optim.structs import PROBLEMS

__all__ = ["problem_of"]


def problem_of(owner: str, names: Sequence[str], shapes: Sequence[tuple[int, ...]], control: Any) -> Exception:
    """The exception that a `CONTROL` stands for."""
    problem = PROBLEMS[control["problem"]]
    if problem == "past table":
        rule = "recorded steps must be refilled before the table of 256 updates ends: call refill()"
        return RuntimeError(f"{owner}: {rule}, got a step past it, which did nothing")
    if problem == "norm overflow":
        return _core.NonFiniteError(f"{owner}: the norm of all gradients must be finite, got {control['value']}")
    tensor, element = int(control["tensor"]), int(control["element"])
    value, grad_scale = float(control["value"]), float(control["grad_scale"])
    name = f"grads['{names[tensor]}']"
    return _core.NonFiniteError(_core.nonfinite(owner, name, shapes[tensor], element, value, grad_scale))
