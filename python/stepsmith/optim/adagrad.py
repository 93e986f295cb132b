"""Adagrad."""

from collections.abc import Mapping
from typing import Any, Unpack

from stepsmith.optim._groups import Params, Scalar, flag, lr, nonnegative
from stepsmith.optim.base import Array, Optimizer, StepOptions

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    """Adagrad: each element has its own rate, which falls with the gradients it has seen.

    g += λp; sum += g²; p -= lr / (1 + (t - 1)·lr_decay)·g / (√sum + ε).

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        lr_decay: how fast the rate falls with the steps, at least 0.
        weight_decay: λ of the L2 penalty, at least 0.
        initial_accumulator_value: what `sum` holds before the first step, at least 0.
        eps: ε, at least 0; with an ε that is 0 in the compute type a gradient that was always 0 gives NaN.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Duchi, Hazan and Singer, 2011; ``torch.optim.Adagrad``.

    Example:
        >>> w = np.array([1.0, 2.0])
        >>> info = Adagrad({"w": w}, lr=0.5).step({"w": np.array([4.0, -4.0])})
        >>> w.round(6).tolist()
        [0.5, 2.5]
    """

    name = "adagrad"
    slots = ("sum",)
    torch_names = {"step": "step", "sum": "sum"}  # noqa: RUF012
    checks = {  # noqa: RUF012
        "lr": lr,
        "lr_decay": nonnegative,
        "weight_decay": nonnegative,
        "initial_accumulator_value": nonnegative,
        "eps": nonnegative,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 1e-2,
        lr_decay: Scalar = 0.0,
        weight_decay: Scalar = 0.0,
        initial_accumulator_value: Scalar = 0.0,
        eps: Scalar = 1e-10,
        *,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "lr_decay": lr_decay,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "eps": eps,
            "maximize": maximize,
        }
        super().__init__(params, hyperparameters, **options)

    def _initial(self, slot: str, param: Array, group: Mapping[str, Any]) -> float | Array | None:
        return float(group["initial_accumulator_value"])

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        return group["weight_decay"], lr / (1.0 + (step - 1) * group["lr_decay"]), group["eps"]
