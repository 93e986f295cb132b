"""Averaged stochastic gradient descent."""

from collections.abc import Mapping
from typing import Any, Unpack

from stepsmith.optim._groups import Params, Scalar, flag, lr, nonnegative
from stepsmith.optim.base import Optimizer, StepOptions

__all__ = ["ASGD"]


class ASGD(Optimizer):
    """Averaged stochastic gradient descent.

    η = lr / (1 + λd·lr·(t - 1))^α; g += λp; p = p(1 - λd·η) - η·g; ax += (p - ax) / max(1, t - 1 - t0).
    ``opt.state[name]["ax"]`` is the average of the parameters since update t0 + 1, before it the parameters.

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        lambd: λd, how fast the rate falls and the parameters decay, at least 0.
        alpha: power α of the falling rate, at least 0.
        t0: steps before the average begins, at least 0.
        weight_decay: λ of the L2 penalty, at least 0.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Polyak and Juditsky, 1992; Bottou, 2010; ``torch.optim.ASGD``, but for a rate that changes: PyTorch's η
    comes from the rate of the step before.

    Example:
        >>> w = np.array([1.0, 2.0])
        >>> info = ASGD({"w": w}, lr=0.5, lambd=0.0).step({"w": np.array([1.0, 0.0])})
        >>> w.tolist()
        [0.5, 2.0]
    """

    name = "asgd"
    slots = ("ax",)
    torch_names = {"step": "step", "ax": "ax"}  # noqa: RUF012
    torch_scalars = {  # noqa: RUF012
        "eta": lambda group, step: group["lr"] / (1.0 + group["lambd"] * group["lr"] * step) ** group["alpha"],
        "mu": lambda group, step: 1.0 / max(1.0, step - group["t0"]),
    }
    checks = {  # noqa: RUF012
        "lr": lr,
        "lambd": nonnegative,
        "alpha": nonnegative,
        "t0": nonnegative,
        "weight_decay": nonnegative,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 1e-2,
        lambd: Scalar = 1e-4,
        alpha: Scalar = 0.75,
        t0: Scalar = 1e6,
        weight_decay: Scalar = 0.0,
        *,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, hyperparameters, **options)

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        lambd = group["lambd"]
        eta = lr / (1.0 + lambd * lr * (step - 1)) ** group["alpha"]
        mu = 1.0 / max(1.0, step - 1 - group["t0"])
        return group["weight_decay"], 1.0 - lambd * eta, eta, mu, mu != 1.0
