"""LAMB and LARS: steps whose length follows the parameter's norm."""

from collections.abc import Mapping
from math import sqrt
from typing import Any, Unpack

from stepsmith.optim._groups import Params, Scalar, betas, flag, lr, nonnegative
from stepsmith.optim.base import Optimizer, StepOptions

__all__ = ["LAMB", "LARS"]


class LAMB(Optimizer):
    """LAMB: Adam's direction, its length set by the parameter's.

    m += (1 - β1)(g - m); v = β2·v + (1 - β2)g²; u = m̂ / (√v̂ + ε) + λp; p -= lr·(‖p‖ / ‖u‖)·u, the ratio being 1 where
    either norm is 0. Norms are those of a whole array, by sums of fixed shape.

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        betas: decay rates β1 and β2 of the moments, in [0, 1).
        eps: ε, at least 0.
        weight_decay: λ, at least 0.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: You et al., 2020; ``optax.lamb``.

    Example:
        >>> w = np.array([3.0, 4.0])
        >>> info = LAMB({"w": w}, lr=0.1, eps=0.0, weight_decay=0.0).step({"w": np.array([1.0, -1.0])})
        >>> w.round(6).tolist()
        [2.646447, 4.353553]
    """

    name = "lamb"
    slots = ("m", "v")
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
        lr: Scalar = 1e-3,
        betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-6,
        weight_decay: Scalar = 1e-2,
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
        inv_bias_correction1 = 1.0 / (1.0 - beta1**step)
        inv_sqrt_bias_correction2 = 1.0 / sqrt(1.0 - beta2**step)
        return (
            group["weight_decay"],
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            inv_bias_correction1,
            inv_sqrt_bias_correction2,
            group["eps"],
            lr,
        )


class LARS(Optimizer):
    """LARS: momentum whose steps are as long as the parameter demands.

    u = g + λp; d = lr·trust_coefficient·(‖p‖ / ‖u‖)·u, or lr·u where either norm is 0; b = μb + d; p -= b, or d + μb
    (Nesterov). Norms are those of a whole array, by sums of fixed shape.

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        momentum: μ, at least 0.
        trust_coefficient: the part of the parameter's norm that a step is long, at least 0.
        weight_decay: λ of the L2 penalty, at least 0.
        nesterov: look ahead along the momentum.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: You, Gitman and Ginsburg, 2017; ``optax.lars``.

    Example:
        >>> w = np.array([3.0, 4.0])
        >>> info = LARS({"w": w}, lr=1.0, trust_coefficient=0.1).step({"w": np.array([0.0, 2.0])})
        >>> w.round(6).tolist()
        [3.0, 3.5]
    """

    name = "lars"
    slots = ("momentum",)
    checks = {  # noqa: RUF012
        "lr": lr,
        "momentum": nonnegative,
        "trust_coefficient": nonnegative,
        "weight_decay": nonnegative,
        "nesterov": flag,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 0.1,
        momentum: Scalar = 0.9,
        trust_coefficient: Scalar = 1e-3,
        weight_decay: Scalar = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "momentum": momentum,
            "trust_coefficient": trust_coefficient,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, hyperparameters, **options)

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        return group["weight_decay"], group["momentum"], group["nesterov"], lr, group["trust_coefficient"]
