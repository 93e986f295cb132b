"""Norms of gradients and clipping in place, outside of a step."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from stepsmith import _check, _core
from stepsmith._backend import one_core, require_array

__all__ = ["clip_grad_norm", "clip_grad_value", "grad_norm"]

Grads = Mapping[str, NDArray[Any] | None] | Iterable[NDArray[Any] | None]


def _named(owner: str, grads: Grads) -> tuple[list[str], list[NDArray[Any]]]:
    """Names and arrays; gradients that are None are left out, as in PyTorch."""
    if hasattr(grads, "dtype"):
        raise TypeError(f"{owner}: grads must be a mapping by name or a sequence of arrays, got one array")
    items = grads.items() if isinstance(grads, Mapping) else ((str(i), grad) for i, grad in enumerate(grads))
    present = [(f"grads[{name!r}]", grad) for name, grad in items if grad is not None]
    return [name for name, _ in present], [require_array(owner, name, grad) for name, grad in present]


def _kind(owner: str, norm_type: float) -> str:
    """The reduction that a norm is made of."""
    for norm, kind in ((2.0, "sum_squares"), (1.0, "sum_abs"), (math.inf, "max_abs")):
        if norm_type == norm:
            return kind
    raise ValueError(f"{owner}: norm_type must be 1, 2 or inf, got {norm_type!r}")


def _core_of(owner: str, names: list[str], arrays: list[NDArray[Any]]) -> Any:
    return one_core(owner, dict(zip(names, arrays)))


def _norm(owner: str, names: list[str], arrays: list[NDArray[Any]], norm_type: float) -> float:
    kind = _kind(owner, norm_type)
    result: float = _core_of(owner, names, arrays).reduce(owner, names, arrays, kind)
    return math.sqrt(result) if kind == "sum_squares" else result


def grad_norm(grads: Grads, norm_type: float = 2.0) -> float:
    """Norm of all gradients taken as one vector, in float64.

    Norm 2 is √Σ g², norm 1 is Σ |g|, norm inf is max |g| (NaN if an element is NaN). Sums have a fixed shape: blocks of
    4,096 elements in C order, 128 float64 lanes a block, arrays in order. So the result has the same bits at any thread
    count and CPU level, and on a GPU, for which it waits.

    Args:
        grads: mapping name → array or sequence of arrays, all of NumPy or all of CuPy: float32, float64, bfloat16 or
            float16, any layout; None is left out.
        norm_type: 1, 2 or inf.

    Raises:
        TypeError: for an array of another kind or dtype.
        ValueError: for another norm.

    Follows: ``torch.nn.utils.get_total_norm``.

    Example:
        >>> grad_norm({"w": np.array([3.0, 4.0])})
        5.0
    """
    return _norm("grad_norm", *_named("grad_norm", grads), norm_type)


def clip_grad_norm(grads: Grads, max_norm: float, norm_type: float = 2.0, *, error_if_nonfinite: bool = False) -> Any:
    """Scales all gradients in place so that their norm is at most `max_norm`; returns the norm before.

    g *= min(1, max_norm / (total + 1e-6)), the factor rounded once to each array's compute type. An optimizer with
    ``max_norm=`` does the same inside its step, without a write of the gradients.

    Of arrays on a GPU the norm comes as a CuPy array without axes, float64, and the factor is made there: nothing
    waits, unless `error_if_nonfinite` is set.

    Args:
        grads: as for `grad_norm`; writable, without shared elements.
        max_norm: at least 0; inf scales nothing.
        norm_type: 1, 2 or inf.
        error_if_nonfinite: raise instead of scaling by a norm that is NaN or infinite.

    Raises:
        NonFiniteError: the norm is NaN or infinite and `error_if_nonfinite` is set.
        TypeError, ValueError: for bad arrays or numbers; nothing is written then.

    Follows: ``torch.nn.utils.clip_grad_norm_``.

    Example:
        >>> g = np.array([3.0, 4.0])
        >>> clip_grad_norm([g], 1.0)
        5.0
        >>> g.round(6).tolist()
        [0.6, 0.8]
    """
    owner = "clip_grad_norm"
    if max_norm != math.inf:
        max_norm = _check.number(owner, "max_norm", max_norm, low=0.0)
    names, arrays = _named(owner, grads)
    core = _core_of(owner, names, arrays)
    if core is not _core:
        return core.clip_grad_norm(owner, names, arrays, _kind(owner, norm_type), max_norm, error_if_nonfinite)
    total = _norm(owner, names, arrays, norm_type)
    if error_if_nonfinite and not math.isfinite(total):
        raise _core.NonFiniteError(f"{owner}: the norm of grads must be finite, got {total}")
    factor = max_norm / (total + 1e-6)
    if not factor >= 1.0:
        _core.scale(owner, names, arrays, factor)
    return total


def clip_grad_value(grads: Grads, clip_value: float) -> None:
    """Clamps every gradient element to [-clip_value, clip_value] in place; NaN stays NaN.

    Args:
        grads: as for `clip_grad_norm`.
        clip_value: at least 0.

    Raises:
        TypeError, ValueError: for bad arrays or numbers; nothing is written then.

    Follows: ``torch.nn.utils.clip_grad_value_``.

    Example:
        >>> g = np.array([-3.0, 0.5])
        >>> clip_grad_value([g], 1.0)
        >>> g.tolist()
        [-1.0, 0.5]
    """
    clip_value = _check.number("clip_grad_value", "clip_value", clip_value, low=0.0)
    names, arrays = _named("clip_grad_value", grads)
    _core_of("clip_grad_value", names, arrays).clamp("clip_grad_value", names, arrays, clip_value)
