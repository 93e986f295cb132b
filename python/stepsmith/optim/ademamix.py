"""AdEMAMix."""

from collections.abc import Mapping
from math import exp, log, sqrt
from typing import Any, Unpack

from stepsmith import _check
from stepsmith.optim._groups import Params, Scalar, Several, decay_rate, flag, lr, nonnegative
from stepsmith.optim.base import Optimizer, StepOptions

__all__ = ["AdEMAMix"]


def _steps_or_none(owner: str, name: str, value: object) -> int | None:
    """A number of steps, or None."""
    return None if value is None else _check.integer(owner, name, value, low=1)


def _warmed(start: float, beta: float, share: float) -> float:
    """The decay rate after a share of the warm-up from `start`."""
    if start >= beta:
        return beta
    rest = (1.0 - share) / log(start) if start > 0.0 else 0.0
    return min(exp(1.0 / (rest + share / log(beta))), beta)


class AdEMAMix(Optimizer):
    """AdEMAMix: AdamW with a second, slow mean of gradients.

    p *= 1 - lr·λ; m += (1 - β1)(g - m); v = β2·v + (1 - β2)g²; m_slow += (1 - β3)(g - m_slow), not corrected;
    p -= lr·(m / (1 - β1^t) + α·m_slow) / (√v / √(1 - β2^t) + ε).
    Warm-up over T steps: α·t/T, and β3 from β1 to its value such that 1 / ln β3 is linear in t.

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        betas: decay rates β1, β2 and β3 of mean, mean square and slow mean, in [0, 1).
        alpha: weight α of the slow mean, at least 0.
        eps: ε, at least 0; with an ε that is 0 in the compute type a gradient that was always 0 gives NaN.
        weight_decay: λ of the decoupled decay p *= 1 - lr·λ, at least 0.
        T_alpha_beta3: T, the steps of the warm-up of α and β3, at least 1; None does without.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Pagliardini, Ablin and Grangier, 2024.

    Example:
        >>> w = np.array([1.0, 2.0])
        >>> info = AdEMAMix({"w": w}, lr=0.5, alpha=0.0, eps=0.0).step({"w": np.array([4.0, -4.0])})
        >>> w.round(6).tolist()
        [0.5, 2.5]
    """

    name = "ademamix"
    slots = ("m", "v", "m_slow")
    checks = {  # noqa: RUF012
        "lr": lr,
        "betas": Several(decay_rate, decay_rate, decay_rate),
        "alpha": nonnegative,
        "eps": nonnegative,
        "weight_decay": nonnegative,
        "T_alpha_beta3": _steps_or_none,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 1e-3,
        betas: tuple[Scalar, Scalar, Scalar] = (0.9, 0.999, 0.9999),
        alpha: Scalar = 5.0,
        eps: Scalar = 1e-8,
        weight_decay: Scalar = 0.0,
        T_alpha_beta3: int | None = None,
        *,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "betas": betas,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "T_alpha_beta3": T_alpha_beta3,
            "maximize": maximize,
        }
        super().__init__(params, hyperparameters, **options)

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        beta1, beta2, beta3 = group["betas"]
        alpha, T = group["alpha"], group["T_alpha_beta3"]
        if T is not None and step < T:
            alpha, beta3 = alpha * (step / T), _warmed(beta1, beta3, step / T)
        return (
            1.0 - lr * group["weight_decay"],
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            1.0 - beta3,
            lr / (1.0 - beta1**step),
            lr * alpha,
            1.0 / sqrt(1.0 - beta2**step),
            group["eps"],
        )
