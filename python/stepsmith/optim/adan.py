"""Adan."""

from collections.abc import Mapping
from math import sqrt
from typing import Any, Unpack

from stepsmith.optim._groups import Params, Scalar, Several, decay_rate, flag, lr, nonnegative
from stepsmith.optim.base import Optimizer, StepOptions

__all__ = ["Adan"]


class Adan(Optimizer):
    """Adan: Nesterov momentum from differences of gradients.

    d = g - g_prev (0 at a tensor's first step); m += (1 - β1)(g - m); m_diff += (1 - β2)(d - m_diff);
    n = β3·n + (1 - β3)(g + β2·d)²; p -= lr·(m / (1 - β1^t) + β2·m_diff / (1 - β2^t)) / (√n / √(1 - β3^t) + ε);
    decay: p /= 1 + lr·λ after it, or, decoupled, p *= 1 - lr·λ before it.

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        betas: decay rates β1, β2 and β3 of gradients, differences and squares, in [0, 1).
        eps: ε, at least 0; with an ε that is 0 in the compute type a gradient that was always 0 gives NaN.
        weight_decay: λ, at least 0.
        decoupled_weight_decay: decay before the step, as AdamW, instead of the proximal form of the paper.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Xie et al., 2022.

    Example:
        >>> w = np.array([1.0, 2.0])
        >>> info = Adan({"w": w}, lr=0.5, eps=0.0).step({"w": np.array([4.0, -4.0])})
        >>> w.round(6).tolist()
        [0.5, 2.5]
    """

    name = "adan"
    slots = ("m", "m_diff", "n", "prev_grad")
    checks = {  # noqa: RUF012
        "lr": lr,
        "betas": Several(decay_rate, decay_rate, decay_rate),
        "eps": nonnegative,
        "weight_decay": nonnegative,
        "decoupled_weight_decay": flag,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 1e-3,
        betas: tuple[Scalar, Scalar, Scalar] = (0.98, 0.92, 0.99),
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
        beta1, beta2, beta3 = group["betas"]
        weight_decay, decoupled = group["weight_decay"], group["decoupled_weight_decay"]
        return (
            1.0 - lr * weight_decay if decoupled else 1.0,
            1.0 if decoupled else 1.0 / (1.0 + lr * weight_decay),
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            beta3,
            1.0 - beta3,
            lr / (1.0 - beta1**step),
            lr * beta2 / (1.0 - beta2**step),
            1.0 / sqrt(1.0 - beta3**step),
            group["eps"],
            step == 1,
        )
