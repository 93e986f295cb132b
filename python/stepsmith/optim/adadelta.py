"""Adadelta."""

from collections.abc import Mapping
from typing import Any, Unpack

from stepsmith.optim._groups import Number, Params, Scalar, flag, lr, nonnegative
from stepsmith.optim.base import Optimizer, StepOptions

__all__ = ["Adadelta"]


class Adadelta(Optimizer):
    """Adadelta: steps as large as recent ones, divided by the root of the mean square gradient.

    g += λp; v = ρ·v + (1 - ρ)g²; δ = √(u + ε) / √(v + ε)·g; u = ρ·u + (1 - ρ)δ²; p -= lr·δ.

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: factor of the steps, at least 0, or a schedule.
        rho: decay rate ρ of the averages, in [0, 1].
        eps: ε, at least 0; it decides how large the first steps are, and with 0 nothing ever moves.
        weight_decay: λ of the L2 penalty, at least 0.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Zeiler, 2012; ``torch.optim.Adadelta``.

    Example:
        >>> w = np.array([1.0, 2.0])
        >>> info = Adadelta({"w": w}, rho=0.75, eps=1.0).step({"w": np.array([2.0, 0.0])})
        >>> w.round(6).tolist()
        [-0.414214, 2.0]
    """

    name = "adadelta"
    slots = ("square_avg", "acc_delta")
    torch_names = {"step": "step", "square_avg": "square_avg", "acc_delta": "acc_delta"}  # noqa: RUF012
    checks = {  # noqa: RUF012
        "lr": lr,
        "rho": Number(0.0, 1.0),
        "eps": nonnegative,
        "weight_decay": nonnegative,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 1.0,
        rho: Scalar = 0.9,
        eps: Scalar = 1e-6,
        weight_decay: Scalar = 0.0,
        *,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, hyperparameters, **options)

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        return group["weight_decay"], lr, group["rho"], 1.0 - group["rho"], group["eps"]
