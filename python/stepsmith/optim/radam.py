"""RAdam."""

from collections.abc import Mapping
from math import sqrt
from typing import Any, Unpack

from stepsmith.optim._groups import Params, Scalar, betas, decays, flag, lr, nonnegative
from stepsmith.optim.base import Optimizer, StepOptions

__all__ = ["RAdam"]


class RAdam(Optimizer):
    """RAdam: Adam that waits with the division until the mean square is known well enough.

    g += λp (or, decoupled, p *= 1 - lr·λ); m += (1 - β1)(g - m); v = β2·v + (1 - β2)g²; m̂ = m / (1 - β1^t);
    ρ∞ = 2 / (1 - β2) - 1; ρ = ρ∞ - 2t·β2^t / (1 - β2^t); where ρ > 5
    p -= lr·m̂·√((ρ-4)(ρ-2)ρ∞ / ((ρ∞-4)(ρ∞-2)ρ))·√(1 - β2^t) / (√v + ε), else p -= lr·m̂.

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        betas: decay rates β1 and β2 of the moments, in [0, 1).
        eps: ε, at least 0, added to the uncorrected √v.
        weight_decay: λ, at least 0.
        decoupled_weight_decay: decay the parameter itself, as AdamW, instead of adding λp to the gradient.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Liu et al., 2020; ``torch.optim.RAdam``.

    Example:
        >>> w = np.array([1.0, 2.0])
        >>> info = RAdam({"w": w}, lr=0.5).step({"w": np.array([4.0, -4.0])})
        >>> w.round(6).tolist()
        [-1.0, 4.0]
    """

    name = "radam"
    slots = ("m", "v")
    torch_names = {"step": "step", "m": "exp_avg", "v": "exp_avg_sq"}  # noqa: RUF012
    checks = {  # noqa: RUF012
        "lr": lr,
        "betas": betas,
        "eps": nonnegative,
        "weight_decay": nonnegative,
        "decoupled_weight_decay": flag,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 1e-3,
        betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8,
        weight_decay: Scalar = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, hyperparameters, **options)

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        bias_correction2 = 1.0 - beta2**step
        step_size = lr / (1.0 - beta1**step)
        rho_inf = 2.0 / (1.0 - beta2) - 1.0
        rho = rho_inf - 2.0 * step * beta2**step / bias_correction2
        rectified = rho > 5.0
        if rectified:
            squared = (rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho)
            step_size = step_size * sqrt(squared) * sqrt(bias_correction2)
        return (
            *decays(group["weight_decay"], lr, group["decoupled_weight_decay"]),
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            step_size,
            group["eps"],
            rectified,
        )
