"""Muon."""

from collections.abc import Mapping
from math import sqrt
from threading import Lock
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from stepsmith import _check, _core
from stepsmith._backend import is_on_gpu, namespace
from stepsmith.optim._groups import Params, Scalar, decay_rate, flag, lr, nonnegative
from stepsmith.optim._partition import Numbers, Plan
from stepsmith.optim.base import Grads, Optimizer, StepInfo, StepOptions

__all__ = ["Muon", "orthogonalized"]

Array = NDArray[Any]
COEFFICIENTS = 3.4445, -4.7750, 2.0315
"""Of the Newton-Schulz step aX + (bA + cA²)X, A = XXᵀ."""

_ADJUSTMENTS = {
    "original": lambda rows, columns: sqrt(max(1.0, rows / columns)),
    "match_rms_adamw": lambda rows, columns: 0.2 * sqrt(max(rows, columns)),
}


def orthogonalized(
    update: Array, coefficients: tuple[float, float, float] = COEFFICIENTS, steps: int = 5, eps: float = 1e-7
) -> Array:
    """The matrix with its singular values brought close to 1, by Newton-Schulz steps of its normed self.

    X = U / max(‖U‖, ε), transposed if it is tall; then `steps` times X = aX + (bA + cA²)X with A = XXᵀ. Products are
    NumPy's or CuPy's, in the matrix's own type.

    Args:
        update: matrix, float32 or float64, of NumPy or CuPy.
        coefficients: a, b, c.
        steps: how often.
        eps: ε.

    Returns:
        A new matrix of the same shape and type.

    Follows: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.

    Example:
        >>> x = orthogonalized(np.array([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]))
        >>> bool((abs(np.linalg.svd(x)[1] - 1) < 0.35).all())
        True
    """
    rows, columns = update.shape
    a, b, c = map(float, coefficients)
    norm = _norm_of(update, eps)
    with np.errstate(all="ignore"):
        x: Array = (update if rows <= columns else update.T) / norm
        for _ in range(steps):
            gram = x @ x.T
            x = a * x + (b * gram + c * (gram @ gram)) @ x
    result: Array = x if rows <= columns else x.T
    return result


def _norm_of(update: Array, eps: float) -> Any:
    """max(‖U‖, ε) in the matrix's type; of one on a GPU it stays there."""
    if not is_on_gpu(update):
        norm = sqrt(_core.reduce("orthogonalized", ["update"], [update], "sum_squares"))
        return update.dtype.type(max(eps, norm))
    xp = namespace(update)
    return xp.maximum(xp.sqrt(xp.sum(xp.square(update.astype(xp.float64)))), eps).astype(update.dtype)


def _coefficients(owner: str, name: str, value: object) -> tuple[float, ...]:
    if not isinstance(value, tuple | list) or len(value) != 3:
        raise TypeError(f"{owner}: {name} must be three numbers, got {value!r}")
    return tuple(_check.number(owner, f"{name}[{i}]", x) for i, x in enumerate(value))


def _ns_steps(owner: str, name: str, value: object) -> int:
    return _check.integer(owner, name, value, low=1, high=99)


def _eps(owner: str, name: str, value: object) -> float:
    return _check.number(owner, name, value, low=0.0)


def _adjustment(owner: str, name: str, value: object) -> str:
    return "original" if value is None else _check.one_of(owner, name, value, _ADJUSTMENTS)


class Muon(Optimizer):
    """Muon: momentum whose matrices are made orthogonal.

    b += (1 - μ)(g - b); u = g + μ(b - g) (Nesterov) or b; X = `orthogonalized`(u); p *= 1 - lr·λ;
    p -= lr·√max(1, rows / columns)·X. All parameters must be matrices; others belong to another optimizer.

    X is made by the BLAS of NumPy or CuPy in the compute type (PyTorch: in bfloat16), with temporary arrays; its bits
    depend on BLAS. Everything else is as in other optimizers, all or nothing too.

    Args:
        params: mapping name → matrix, sequence of matrices, or sequence of groups; changed in place.
        lr: learning rate, at least 0, or a schedule.
        weight_decay: λ of the decoupled decay, at least 0.
        momentum: μ, in [0, 1).
        nesterov: look ahead along the momentum.
        ns_coefficients: a, b and c of the Newton-Schulz steps.
        eps: the least that u is divided by, at least 0.
        ns_steps: Newton-Schulz steps, 1 to 99.
        adjust_lr_fn: "original" (or None) as above, or "match_rms_adamw": p -= lr·0.2·√max(rows, columns)·X.
        maximize: ascend instead of descend.
        options: what is folded into the step and how state is kept; see `StepOptions`.

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Jordan et al., 2024; ``torch.optim.Muon``.

    Example:
        >>> w = np.zeros((2, 2))
        >>> info = Muon({"w": w}, lr=1.0, weight_decay=0.0).step({"w": np.array([[2.0, 0.0], [0.0, -2.0]])})
        >>> bool((abs(w - [[-1, 0], [0, 1]]) < 0.35).all())
        True
    """

    name = "muon"
    slots = ("momentum", "update")
    hidden = frozenset({"update"})
    torch_names = {"momentum": "momentum_buffer"}  # noqa: RUF012
    checks = {  # noqa: RUF012
        "lr": lr,
        "weight_decay": nonnegative,
        "momentum": decay_rate,
        "nesterov": flag,
        "ns_coefficients": _coefficients,
        "eps": _eps,
        "ns_steps": _ns_steps,
        "adjust_lr_fn": _adjustment,
        "maximize": flag,
    }

    def __init__(
        self,
        params: Params,
        lr: Scalar = 1e-3,
        weight_decay: Scalar = 0.1,
        momentum: Scalar = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
        *,
        maximize: bool = False,
        **options: Unpack[StepOptions],
    ) -> None:
        hyperparameters = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
            "maximize": maximize,
        }
        super().__init__(params, hyperparameters, **options)
        self._updates = self._arrays.hidden("update")
        self._alone = Lock()

    def step(self, grads: Grads | None = None, grad_scale: float = 1.0) -> StepInfo:
        """As `Optimizer.step`; the hidden arrays belong to one step from its rehearsal to its end."""
        if not self._alone.acquire(blocking=False):
            raise RuntimeError(f"{self._owner}: one step at a time, got a call while another step runs")
        try:
            return super().step(grads, grad_scale)
        finally:
            self._alone.release()

    def _shape_of(self, slot: str, param: Array) -> tuple[int, ...]:
        if param.ndim != 2:
            raise ValueError(f"Muon: params must be matrices, got an array of shape {param.shape}")
        return param.shape

    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        momentum = group["momentum"]
        return 1.0 - lr * group["weight_decay"], momentum, 1.0 - momentum, lr, group["nesterov"], False

    def _rehearse(
        self, grads: list[Array | None] | None, present: tuple[bool, ...], numbers: Numbers | Plan, grad_scale: float
    ) -> None:
        """Lets the core write u into the hidden arrays, then makes it orthogonal and scales it there."""
        stepper: Any = self._stepper
        if isinstance(numbers, Plan):
            stepper.rehearse(grads, numbers, grad_scale)
        else:
            width = len(stepper.scalars)
            scalars = list(numbers.scalars)
            scalars[width - 1 :: width] = [True] * (len(scalars) // width)
            stepper.step(grads, numbers.moment, scalars, numbers.signs, [], grad_scale, only_rule=True)
        there = iter(present)
        for group in self.groups:
            for name in group.names:
                if next(there) and self._updates[name].size:
                    self._orthogonalize(self._updates[name], group)

    def _orthogonalize(self, update: Array, group: Mapping[str, Any]) -> None:
        x = orthogonalized(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        factor = _ADJUSTMENTS[group["adjust_lr_fn"]](*update.shape)
        namespace(update).multiply(x, factor, out=update)
