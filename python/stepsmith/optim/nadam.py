"""NAdam."""

from collections.abc import Mapping
from typing import Any, Unpack

from stepsmith.optim._groups import Params, Scalar, betas, decays, flag, lr, nonnegative
from stepsmith.optim.base import Optimizer, StepOptions

__all__ = ["NAdam"]


class NAdam(Optimizer):
    """NAdam: Adam with Nesterov momentum.

    g += λp (or, decoupled, p *= 1 - lr·λ); m += (1 - β1)(g - m); v = β2·v + (1 - β2)g²; μ_t = β1(1 - ½·0.96^(tψ));
    p -= lr·((1 - μ_t)·g / (1 - Π_t) + μ_(t+1)·m / (1 - Π_t·μ_(t+1))) / (√(v / (1 - β2^t)) + ε), Π_t = μ_1·μ_2 ... μ_t.

    Each tensor carries Π as ``mu_product``: ``state_dict()["state"][name]["mu_product"]``.

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        betas: decay rates β1 and β2 of the moments, in [0, 1).
        eps: ε, at least 0; with an ε that is 0 in the compute type a gradient that was always 0 gives NaN.
        weight_decay: λ, at least 0.
        momentum_decay: ψ, at least 0.
        decoupled_weight_decay: decay the parameter itself, as AdamW, instead of adding λp to the gradient.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Dozat, 2016; ``torch.optim.NAdam``.

    Example:
        >>> w = np.array([1.0, 2.0])
        >>> info = NAdam({"w": w}, lr=0.5, betas=(0.0, 0.5), eps=0.0).step({"w": np.array([4.0, -4.0])})
        >>> w.round(6).tolist()
        [0.5, 2.5]
    """

    name = "nadam"
    slots = ("m", "v")
    carried = {"mu_product": 1.0}  # noqa: RUF012
    torch_names = {"step": "step", "m": "exp_avg", "v": "exp_avg_sq", "mu_product": "mu_product"}  # noqa: RUF012
    checks = {  # noqa: RUF012
        "lr": lr,
        "betas": betas,
        "eps": nonnegative,
        "weight_decay": nonnegative,
        "momentum_decay": nonnegative,
        "decoupled_weight_decay": flag,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 2e-3,
        betas: tuple[Scalar, Scalar] = (0.9, 0.999),
        eps: Scalar = 1e-8,
        weight_decay: Scalar = 0.0,
        momentum_decay: Scalar = 4e-3,
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
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, hyperparameters, **options)

    @staticmethod
    def _mu(group: Mapping[str, Any], step: int) -> float:
        """Momentum of update `step`, from the hyperparameters of now."""
        share: float = 1.0 - 0.5 * 0.96 ** (step * group["momentum_decay"])
        return float(group["betas"][0] * share)

    def _carry(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        (mu_product,) = carried
        return (mu_product * self._mu(group, step),)

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        (mu_product,) = carried
        mu, mu_next = self._mu(group, step), self._mu(group, step + 1)
        return (
            *decays(group["weight_decay"], lr, group["decoupled_weight_decay"]),
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            lr * (1.0 - mu) / (1.0 - mu_product),
            lr * mu_next / (1.0 - mu_product * mu_next),
            1.0 / (1.0 - beta2**step),
            group["eps"],
        )
