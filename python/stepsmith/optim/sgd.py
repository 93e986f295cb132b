"""Stochastic gradient descent."""

from collections.abc import Mapping
from typing import Any, Unpack

from stepsmith.optim._groups import Params, Scalar, flag, lr, nonnegative, real
from stepsmith.optim.base import Optimizer, StepOptions

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    g += λp; b = g at a tensor's first step, else μb + (1 - dampening)g; d = g + μb (Nesterov) or b; p -= lr·d.
    Without momentum p -= lr·g, and there is no state.

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        momentum: μ, at least 0. Its being 0 or not is fixed at construction, since it decides whether state exists.
        dampening: of the gradient's share in the momentum.
        weight_decay: λ of the L2 penalty, at least 0.
        nesterov: look ahead along the momentum; needs momentum and no dampening.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: ``torch.optim.SGD``.

    Example:
        >>> w = np.array([1.0, 2.0])
        >>> SGD({"w": w}, lr=0.5).step({"w": np.array([1.0, 0.0])}).step
        1
        >>> w.tolist()
        [0.5, 2.0]
    """

    name = "sgd"
    slots = ("momentum",)
    torch_names = {"momentum": "momentum_buffer"}  # noqa: RUF012
    checks = {  # noqa: RUF012
        "lr": lr,
        "momentum": nonnegative,
        "dampening": real,
        "weight_decay": nonnegative,
        "nesterov": flag,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 1e-3,
        momentum: Scalar = 0.0,
        dampening: Scalar = 0.0,
        weight_decay: Scalar = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, hyperparameters, **options)

    def _check_together(self, group: Mapping[str, Any]) -> None:
        if group["nesterov"] and (group["momentum"] == 0.0 or group["dampening"] != 0.0):
            got = f"momentum={group['momentum']}, dampening={group['dampening']}"
            raise ValueError(f"SGD: nesterov must come with momentum and without dampening, got {got}")

    def _slots_of(self, group: Mapping[str, Any]) -> frozenset[str]:
        return frozenset(self.slots if group["momentum"] else ())

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        one_minus_dampening = 1.0 - group["dampening"]
        return lr, group["weight_decay"], group["momentum"], one_minus_dampening, group["nesterov"], step == 1
