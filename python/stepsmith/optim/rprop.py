"""Rprop."""

from collections.abc import Mapping
from typing import Any, Unpack

from stepsmith.optim._groups import Number, Params, Scalar, Several, flag, lr, nonnegative
from stepsmith.optim.base import Array, Optimizer, StepOptions

__all__ = ["Rprop"]


class Rprop(Optimizer):
    """Rprop: steps that depend on the signs of gradients alone; for full batches.

    s = g·prev; Δ *= η+ where s > 0, η- where s < 0, clamped to the step sizes; g = 0 where s < 0; p -= sign(g)·Δ;
    prev = g.

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: the first Δ of each element, at least 0 (of a schedule its value at step 0); later changes have no effect.
        etas: factors η- in (0, 1) and η+ > 1.
        step_sizes: least and largest Δ, at least 0.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Riedmiller and Braun, 1993; ``torch.optim.Rprop``.

    Example:
        >>> w = np.array([1.0, 2.0])
        >>> info = Rprop({"w": w}, lr=0.5).step({"w": np.array([4.0, -0.1])})
        >>> w.tolist()
        [0.5, 2.5]
    """

    name = "rprop"
    slots = ("prev", "step_size")
    torch_names = {"step": "step", "prev": "prev", "step_size": "step_size"}  # noqa: RUF012
    checks = {  # noqa: RUF012
        "lr": lr,
        "etas": Several(Number(0.0, 1.0, open_low=True, open_high=True), Number(1.0, open_low=True)),
        "step_sizes": Several(nonnegative, nonnegative),
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 1e-2,
        etas: tuple[Scalar, Scalar] = (0.5, 1.2),
        step_sizes: tuple[Scalar, Scalar] = (1e-6, 50.0),
        *,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "etas": etas,
            "step_sizes": step_sizes,
            "maximize": maximize,
        }
        super().__init__(params, hyperparameters, **options)

    def _check_together(self, group: Mapping[str, Any]) -> None:
        low, high = group["step_sizes"]
        if isinstance(low, float) and isinstance(high, float) and low > high:
            raise ValueError(f"Rprop: step_sizes must be the least and the largest, got {group['step_sizes']}")

    def _initial(self, slot: str, param: Array, group: Mapping[str, Any]) -> float | Array | None:
        return float(group["lr"]) if slot == "step_size" else None

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        return *group["etas"], *group["step_sizes"]
