"""Layer norm and RMS norm, alone and after the addition of a residual."""

import math
from typing import Any

from numpy.typing import NDArray

from stepsmith import _check
from stepsmith._backend import require_array
from stepsmith._outputs import check_weight, compute_dtype, like, outputs, require_floats
from stepsmith.norm import _rows
from stepsmith.norm._saved import Rows, Saved

__all__ = [
    "add_layer_norm",
    "add_layer_norm_backward",
    "add_rms_norm",
    "add_rms_norm_backward",
    "layer_norm",
    "layer_norm_backward",
    "rms_norm",
    "rms_norm_backward",
]

Array = NDArray[Any]


def _forward(
    owner: str,
    divisor: str,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    out: Array | None,
    residual: Array | None = None,
    total: Array | None = None,
) -> tuple[Array, Array | None, Saved]:
    """Rows over the last axes, as many as weight or bias have (the last one without any)."""
    shape = require_floats(owner, "x", x).shape
    eps = _check.number(owner, "eps", eps, low=0.0)
    like = bias if weight is None else weight
    axes = 1 if like is None else require_array(owner, "bias" if weight is None else "weight", like).ndim
    if not 1 <= axes <= len(shape):
        raise ValueError(f"{owner}: x must have an axis for each of weight and at least one, got shape {shape}")
    outer, inner, compute = shape[:-axes], shape[-axes:], compute_dtype(x)
    weight = check_weight(owner, "weight", weight, inner, compute, x)
    bias = check_weight(owner, "bias", bias, inner, compute, x)
    rows = Rows(math.prod(outer), math.prod(inner), 0, 0, divisor)
    return _rows.forward(owner, x, rows, weight, bias, eps, out, residual, total)


def layer_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5, *, out: Array | None = None
) -> tuple[Array, Saved]:
    """Layer normalization: y = (x - mean)·rstd·weight + bias, rstd = 1/√(variance + eps), over the last axes.

    The variance is biased, mean and rstd are float64 and sums have a fixed shape, so the result has the same bits at
    any thread count and CPU level, and on a GPU. float32, bfloat16 and float16 are computed in float32.

    Args:
        x: any leading shape, any layout; float32, float64, bfloat16 or float16.
        weight: the shape of the last axes, of the compute type; without it only the last axis is normalized.
        bias: likewise.
        eps: at least 0.
        out: takes y; may be x itself, then `saved` is of no use to the backward pass.

    Returns:
        y of the shape and dtype of x, and what `layer_norm_backward` needs: references to x and weight, mean, rstd.

    Raises:
        TypeError: another kind of array or dtype.
        ValueError: shapes that do not fit, a read-only `out`, an eps below 0.

    Follows: ``torch.nn.functional.layer_norm``.

    Example:
        >>> y, saved = layer_norm(np.array([[1.0, 3.0]]), eps=0.0)
        >>> y.tolist(), saved.mean.tolist()
        ([[-1.0, 1.0]], [2.0])
    """
    y, _, saved = _forward("layer_norm", "deviation", x, weight, bias, eps, out)
    return y, saved


def layer_norm_backward(
    dy: Array, saved: Saved, *, out: tuple[Array | None, Array | None, Array | None] | None = None
) -> tuple[Array, Array | None, Array | None]:
    """Gradients of `layer_norm`.

    dx = (g - mean(g) - x̂·mean(g·x̂))·rstd with g = dy·weight, dweight = Σ dy·x̂, dbias = Σ dy.

    Args:
        dy: shape and dtype of x.
        saved: of the forward pass; x and weight must be as they were.
        out: arrays for the three gradients, or None for a new one; that of dx may be dy or x itself.

    Returns:
        dx of the dtype of x, dweight and dbias of the compute type; None for what the forward pass did without.

    Raises:
        TypeError: another kind of array or dtype.
        ValueError: shapes that do not fit, or a forward pass that wrote over x.

    Example:
        >>> y, saved = layer_norm(np.array([[1.0, 3.0]]), np.ones(2), np.zeros(2))
        >>> dx, dweight, dbias = layer_norm_backward(np.array([[1.0, 1.0]]), saved)
        >>> dx.tolist(), dbias.tolist()
        ([[0.0, 0.0]], [1.0, 1.0])
    """
    return _rows.backward("layer_norm_backward", dy, saved, out=out)


def rms_norm(
    x: Array, weight: Array | None = None, eps: float = 1e-6, *, out: Array | None = None
) -> tuple[Array, Saved]:
    """RMS normalization: y = x·rstd·weight, rstd = 1/√(mean(x²) + eps), over the last axes; else as `layer_norm`.

    Follows: ``torch.nn.functional.rms_norm`` with its eps given; Zhang and Sennrich, 2019.

    Example:
        >>> y, saved = rms_norm(np.array([[3.0, -3.0]]), eps=0.0)
        >>> y.tolist()
        [[1.0, -1.0]]
    """
    y, _, saved = _forward("rms_norm", "root_mean_square", x, weight, None, eps, out)
    return y, saved


def rms_norm_backward(
    dy: Array, saved: Saved, *, out: tuple[Array | None, Array | None] | None = None
) -> tuple[Array, Array | None]:
    """Gradients of `rms_norm`: dx = (g - x̂·mean(g·x̂))·rstd with g = dy·weight, dweight = Σ dy·x̂.

    Example:
        >>> y, saved = rms_norm(np.array([[3.0, -3.0]]), np.ones(2), eps=0.0)
        >>> dx, dweight = rms_norm_backward(np.array([[1.0, 2.0]]), saved)
        >>> dweight.tolist()
        [1.0, -2.0]
    """
    given = (*outputs("rms_norm_backward", out, 2), None)
    dx, dweight, _ = _rows.backward("rms_norm_backward", dy, saved, divisor="root_mean_square", out=given)
    return dx, dweight


def add_layer_norm(
    x: Array,
    residual: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array, Saved]:
    """Layer normalization of h = x + residual, rounded to the dtype of x: both in one pass over memory.

    Args:
        x: as for `layer_norm`.
        residual: shape and dtype of x.
        weight: as for `layer_norm`.
        bias: likewise.
        eps: at least 0.
        out: arrays for y and h; that of h may be x or residual itself.

    Returns:
        y, h, and what `add_layer_norm_backward` needs.

    Example:
        >>> y, h, saved = add_layer_norm(np.array([[1.0, 2.0]]), np.array([[0.0, 1.0]]), eps=0.0)
        >>> y.tolist(), h.tolist()
        ([[-1.0, 1.0]], [[1.0, 3.0]])
    """
    return _add("add_layer_norm", "deviation", x, residual, weight, bias, eps, out)


def add_layer_norm_backward(
    dy: Array,
    saved: Saved,
    dh: Array | None = None,
    *,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
) -> tuple[Array, Array | None, Array | None]:
    """Gradients of `add_layer_norm`: that of x, which is that of the residual too, of weight and of bias.

    Args:
        dy: gradient of y.
        saved: of the forward pass; h and weight must be as they were.
        dh: gradient that reaches h from elsewhere, added to that of the norm.
        out: as for `layer_norm_backward`.

    Example:
        >>> y, h, saved = add_layer_norm(np.array([[1.0, 2.0]]), np.array([[0.0, 1.0]]))
        >>> dx, _, _ = add_layer_norm_backward(np.zeros((1, 2)), saved, np.ones((1, 2)))
        >>> dx.tolist()
        [[1.0, 1.0]]
    """
    return _rows.backward("add_layer_norm_backward", dy, saved, dsum=dh, out=out)


def add_rms_norm(
    x: Array,
    residual: Array,
    weight: Array | None = None,
    eps: float = 1e-6,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array, Saved]:
    """RMS normalization of h = x + residual; else as `add_layer_norm`.

    Example:
        >>> y, h, saved = add_rms_norm(np.array([[1.0, -2.0]]), np.array([[1.0, 0.0]]), eps=0.0)
        >>> y.tolist(), h.tolist()
        ([[1.0, -1.0]], [[2.0, -2.0]])
    """
    return _add("add_rms_norm", "root_mean_square", x, residual, weight, None, eps, out)


def add_rms_norm_backward(
    dy: Array, saved: Saved, dh: Array | None = None, *, out: tuple[Array | None, Array | None] | None = None
) -> tuple[Array, Array | None]:
    """Gradients of `add_rms_norm`: that of x, which is that of the residual too, and of weight.

    Example:
        >>> y, h, saved = add_rms_norm(np.array([[1.0, -2.0]]), np.array([[1.0, 0.0]]))
        >>> dx, _ = add_rms_norm_backward(np.zeros((1, 2)), saved, np.ones((1, 2)))
        >>> dx.tolist()
        [[1.0, 1.0]]
    """
    given = (*outputs("add_rms_norm_backward", out, 2), None)
    dx, dweight, _ = _rows.backward("add_rms_norm_backward", dy, saved, divisor="root_mean_square", dsum=dh, out=given)
    return dx, dweight


def _add(
    owner: str,
    divisor: str,
    x: Array,
    residual: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    out: tuple[Array | None, Array | None] | None,
) -> tuple[Array, Array, Saved]:
    residual = like(owner, "residual", residual, require_floats(owner, "x", x))
    first, second = outputs(owner, out, 2)
    y, h, saved = _forward(owner, divisor, x, weight, bias, eps, first, residual, second)
    assert h is not None
    return y, h, saved
