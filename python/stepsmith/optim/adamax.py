"""Adamax."""

from collections.abc import Mapping
from typing import Any, Unpack

from stepsmith.optim._groups import Params, Scalar, betas, flag, lr, nonnegative
from stepsmith.optim.base import Optimizer, StepOptions

__all__ = ["Adamax"]


class Adamax(Optimizer):
    """Adamax: Adam with the largest recent gradient instead of the mean square.

    g += λp; m += (1 - β1)(g - m); u = max(β2·u, |g| + ε); p -= lr / (1 - β1^t)·m / u.

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        betas: decay rates β1 and β2 of the mean and the maximum, in [0, 1).
        eps: ε, at least 0; with an ε that is 0 in the compute type a gradient that was always 0 gives NaN.
        weight_decay: λ of the L2 penalty, at least 0.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Kingma and Ba, 2015; ``torch.optim.Adamax``.

    Example:
        >>> w = np.array([1.0, 2.0])
        >>> info = Adamax({"w": w}, lr=0.5, eps=0.0).step({"w": np.array([4.0, -4.0])})
        >>> w.round(6).tolist()
        [0.5, 2.5]
    """

    name = "adamax"
    slots = ("m", "u")
    torch_names = {"step": "step", "m": "exp_avg", "u": "exp_inf"}  # noqa: RUF012
    checks = {  # noqa: RUF012
        "lr": lr,
        "betas": betas,
        "eps": nonnegative,
        "weight_decay": nonnegative,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 2e-3,
        betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8,
        weight_decay: Scalar = 0.0,
        *,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, hyperparameters, **options)

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        return group["weight_decay"], 1.0 - beta1, beta2, lr / (1.0 - beta1**step), group["eps"]
