"""Adafactor."""

from collections.abc import Mapping
from math import sqrt
from typing import Any, Unpack

from numpy.typing import NDArray

from stepsmith.optim._groups import Number, Params, Scalar, Several, flag, lr, nonnegative
from stepsmith.optim.base import Optimizer, StepOptions

__all__ = ["Adafactor"]

Array = NDArray[Any]


class _OrNone(Number):
    """The same, or None."""

    def __call__(self, owner: str, name: str, value: object) -> Any:
        return None if value is None else super().__call__(owner, name, value)


class Adafactor(Optimizer):
    """Adafactor: second moments of matrices as means over their rows and columns.

    The last two axes are rows and columns: R and C average the means of g² over each row and each column, and
    V = (R / max(mean(R), ε1))·C; arrays below two axes keep V itself. With 1 - β2 = t^beta2_decay,
    U = g / √max(V, ε1²), ρ = min(lr, 1/√t): p *= 1 - lr·λ; p -= max(ε2, RMS(p))·ρ·U / max(1, RMS(U) / d).

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups; changed in place.
        lr: bound of the relative step, at least 0, or a schedule.
        beta2_decay: exponent, at most 0.
        eps: ε1 and ε2, at least 0; for ε1 None or 0 stands for the compute type's machine epsilon. An ε1² below the
            type's least normal number counts as that.
        d: RMS(U) is clipped to this; more than 0.
        weight_decay: λ of the decoupled decay, at least 0.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Shazeer and Stern, 2018; ``torch.optim.Adafactor``.

    Example:
        >>> w = np.array([[1.0, 2.0]])
        >>> info = Adafactor({"w": w}, lr=0.1).step({"w": np.array([[1.0, -1.0]])})
        >>> w.round(6).tolist()
        [[0.841886, 2.158114]]
        >>> info = Adafactor({"w": w}).step({"w": np.zeros((1, 2))})
        >>> w.round(6).tolist()
        [[0.841886, 2.158114]]
    """

    name = "adafactor"
    slots = ("row_var", "col_var", "variance")
    means = frozenset({"row_var", "col_var"})
    torch_names = {"row_var": "row_var", "col_var": "col_var", "variance": "variance", "step": "step"}  # noqa: RUF012
    checks = {  # noqa: RUF012
        "lr": lr,
        "beta2_decay": Number(high=0.0),
        "eps": Several(_OrNone(0.0), nonnegative),
        "d": Number(0.0, open_low=True),
        "weight_decay": nonnegative,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 1e-2,
        beta2_decay: Scalar = -0.8,
        eps: tuple[Scalar | None, Scalar] = (None, 1e-3),
        d: Scalar = 1.0,
        weight_decay: Scalar = 0.0,
        *,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "beta2_decay": beta2_decay,
            "eps": eps,
            "d": d,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, hyperparameters, **options)

    def _shape_of(self, slot: str, param: Array) -> tuple[int, ...] | None:
        if param.ndim < 2:
            return param.shape if slot == "variance" else None
        *outer, height, width = param.shape
        return {"row_var": (*outer, height, 1), "col_var": (*outer, 1, width)}.get(slot)

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        eps1, eps2 = group["eps"]
        rho = min(lr, 1.0 / sqrt(step))
        return (
            1.0 - lr * group["weight_decay"],
            float(step) ** group["beta2_decay"],
            0.0 if eps1 is None else eps1,
            eps2,
            rho,
            group["d"],
        )
