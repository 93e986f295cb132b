"""Adam and AdamW, with AMSGrad."""

from collections.abc import Mapping
from math import sqrt
from typing import Any, Unpack

from stepsmith.optim._groups import Params, Scalar, betas, decays, flag, lr, nonnegative
from stepsmith.optim.base import Optimizer, StepOptions

__all__ = ["Adam", "AdamW"]


class _AdamFamily(Optimizer):
    """What Adam and AdamW share: state, hyperparameters and the scalars of a step."""

    slots = ("m", "v", "v_max")
    torch_names = {"step": "step", "m": "exp_avg", "v": "exp_avg_sq", "v_max": "max_exp_avg_sq"}  # noqa: RUF012
    checks = {  # noqa: RUF012
        "lr": lr,
        "betas": betas,
        "eps": nonnegative,
        "weight_decay": nonnegative,
        "amsgrad": flag,
        "maximize": flag,
    }

    def _slots_of(self, group: Mapping[str, Any]) -> frozenset[str]:
        return frozenset(self.slots if group["amsgrad"] else self.slots[:2])

    def _adam_scalars(self, group: Mapping[str, Any], lr: float, step: int, decoupled: bool) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        step_size = lr / (1.0 - beta1**step)
        inv_sqrt_bias_correction2 = 1.0 / sqrt(1.0 - beta2**step)
        return (
            *decays(group["weight_decay"], lr, decoupled),
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            step_size,
            inv_sqrt_bias_correction2,
            group["eps"],
            group["amsgrad"],
        )


class Adam(_AdamFamily):
    """Adam: adaptive moments.

    g += λp (or, decoupled, p *= 1 - lr·λ); m += (1 - β1)(g - m); v = β2·v + (1 - β2)g²;
    p -= (lr / (1 - β1^t))·m / (√v / √(1 - β2^t) + ε). AMSGrad: √v_max instead of √v, v_max = max(v_max, v).

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        betas: decay rates β1 and β2 of the moments, in [0, 1).
        eps: ε, at least 0; with an ε that is 0 in the compute type a gradient that was always 0 gives NaN.
        weight_decay: λ, at least 0.
        amsgrad: divide by the largest v so far; fixed at construction, since it decides whether `v_max` exists.
        maximize: ascend instead of descend.
        decoupled_weight_decay: decay the parameter itself, as AdamW, instead of adding λp to the gradient.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Kingma and Ba, 2015; Reddi, Kale and Kumar, 2018 (AMSGrad); ``torch.optim.Adam``.

    Example:
        >>> w = np.array([1.0, 2.0])
        >>> info = Adam({"w": w}, lr=0.5, eps=0.0).step({"w": np.array([4.0, -4.0])})
        >>> w.round(6).tolist()
        [0.5, 2.5]
    """

    name = "adam"
    checks = {**_AdamFamily.checks, "decoupled_weight_decay": flag}  # noqa: RUF012

    def __init__(
        self,
        params: Params,
        lr: Scalar = 1e-3,
        betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8,
        weight_decay: Scalar = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, hyperparameters, **options)

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        return self._adam_scalars(group, lr, step, group["decoupled_weight_decay"])


class AdamW(_AdamFamily):
    """AdamW: Adam with decoupled weight decay.

    p *= 1 - lr·λ; m += (1 - β1)(g - m); v = β2·v + (1 - β2)g²; p -= (lr / (1 - β1^t))·m / (√v / √(1 - β2^t) + ε).
    AMSGrad: √v_max instead of √v, v_max = max(v_max, v).

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        betas: decay rates β1 and β2 of the moments, in [0, 1).
        eps: ε, at least 0; with an ε that is 0 in the compute type a gradient that was always 0 gives NaN.
        weight_decay: λ, at least 0.
        amsgrad: divide by the largest v so far; fixed at construction, since it decides whether `v_max` exists.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Loshchilov and Hutter, 2019; ``torch.optim.AdamW``.

    Example:
        >>> w = np.array([1.0, 2.0])
        >>> info = AdamW({"w": w}, lr=0.5, eps=0.0, weight_decay=0.2).step({"w": np.array([4.0, -4.0])})
        >>> w.round(6).tolist()
        [0.4, 2.3]
    """

    name = "adamw"

    def __init__(
        self,
        params: Params,
        lr: Scalar = 1e-3,
        betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8,
        weight_decay: Scalar = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        super().__init__(params, hyperparameters, **options)

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        return self._adam_scalars(group, lr, step, True)
