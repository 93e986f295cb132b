"""Lion."""

from collections.abc import Mapping
from typing import Any, Unpack

from stepsmith.optim._groups import Params, Scalar, betas, flag, lr, nonnegative
from stepsmith.optim.base import Optimizer, StepOptions

__all__ = ["Lion"]


class Lion(Optimizer):
    """Lion: the sign of a mean of gradients.

    p *= 1 - lr·λ; p -= lr·sign(β1·m + (1 - β1)g); m += (1 - β2)(g - m). sign(0) is 0.

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        betas: β1 of the sign and β2 of the mean, in [0, 1).
        weight_decay: λ of the decoupled decay p *= 1 - lr·λ, at least 0.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Chen et al., 2023.

    Example:
        >>> w = np.array([1.0, 2.0])
        >>> info = Lion({"w": w}, lr=0.5).step({"w": np.array([4.0, -0.1])})
        >>> w.tolist()
        [0.5, 2.5]
    """

    name = "lion"
    slots = ("m",)
    checks = {  # noqa: RUF012
        "lr": lr,
        "betas": betas,
        "weight_decay": nonnegative,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 1e-4,
        betas: tuple[Scalar, Scalar] = (0.9, 0.99),
        weight_decay: Scalar = 0.0,
        *,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "betas": betas,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, hyperparameters, **options)

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        beta1, beta2 = group["betas"]
        return 1.0 - lr * group["weight_decay"], 1.0 - beta1, 1.0 - beta2, lr
