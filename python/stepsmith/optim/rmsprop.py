"""RMSprop, plain or centered, with or without momentum."""

from collections.abc import Mapping
from typing import Any, Unpack

from stepsmith.optim._groups import Number, Params, Scalar, flag, lr, nonnegative
from stepsmith.optim.base import Optimizer, StepOptions

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """RMSprop: the gradient divided by the root of its mean square.

    g += λp; v = α·v + (1 - α)g²; d = √v + ε; b = μb + g/d; p -= lr·b. Without momentum p -= lr·g/d.
    Centered: a += (1 - α)(g - a), and √(v - a²) instead of √v, where a difference that rounds below 0 counts as 0.

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        alpha: decay rate α of the averages, in [0, 1].
        eps: ε, at least 0; with an ε that is 0 in the compute type a gradient that was always 0 gives NaN.
        weight_decay: λ of the L2 penalty, at least 0.
        momentum: μ, at least 0. Its being 0 or not is fixed at construction, since it decides whether state exists.
        centered: divide by the deviation; fixed at construction, since it decides whether `grad_avg` exists.
        maximize: ascend instead of descend.
        eps_inside_sqrt: d = √(v + ε), as Keras and optax, instead of √v + ε.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Tieleman and Hinton, 2012; Graves, 2013 (centered); ``torch.optim.RMSprop``.

    Example:
        >>> w = np.array([1.0, 2.0])
        >>> info = RMSprop({"w": w}, lr=0.25, alpha=0.75, eps=0.0).step({"w": np.array([4.0, -4.0])})
        >>> w.tolist()
        [0.5, 2.5]
    """

    name = "rmsprop"
    slots = ("square_avg", "grad_avg", "momentum")
    torch_names = {"step": "step", "square_avg": "square_avg", "grad_avg": "grad_avg", "momentum": "momentum_buffer"}  # noqa: RUF012
    checks = {  # noqa: RUF012
        "lr": lr,
        "alpha": Number(0.0, 1.0),
        "eps": nonnegative,
        "weight_decay": nonnegative,
        "momentum": nonnegative,
        "centered": flag,
        "maximize": flag,
        "eps_inside_sqrt": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 1e-2,
        alpha: Scalar = 0.99,
        eps: Scalar = 1e-8,
        weight_decay: Scalar = 0.0,
        momentum: Scalar = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        eps_inside_sqrt: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
            "maximize": maximize,
            "eps_inside_sqrt": eps_inside_sqrt,
        }
        super().__init__(params, hyperparameters, **options)

    def _slots_of(self, group: Mapping[str, Any]) -> frozenset[str]:
        wanted = {"square_avg": True, "grad_avg": group["centered"], "momentum": group["momentum"]}
        return frozenset(slot for slot, exists in wanted.items() if exists)

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        alpha = group["alpha"]
        return (
            group["weight_decay"],
            lr,
            alpha,
            1.0 - alpha,
            group["eps"],
            group["momentum"],
            group["centered"],
            group["eps_inside_sqrt"],
        )
