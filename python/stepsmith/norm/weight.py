"""Weight normalization: a direction and a length for each row of a weight."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith import _check
from stepsmith._backend import namespace, require_array
from stepsmith._outputs import check_weight, compute_dtype, like, of_forward, output, outputs, require_floats
from stepsmith.norm import _rows
from stepsmith.norm._saved import Rows, Saved

__all__ = ["weight_norm", "weight_norm_backward"]

Array = NDArray[Any]


def weight_norm(v: Array, g: Array, axis: int = 0, *, out: Array | None = None) -> tuple[Array, Saved]:
    """Weight normalization: w = g·v/‖v‖, the norm over all axes but one.

    Args:
        v: directions; float32, float64, bfloat16 or float16, any layout.
        g: (v.shape[axis],) of the compute type, or that length with axes of 1, as PyTorch keeps it.
        axis: that keeps a length for each index.
        out: takes w; may be v itself, then `saved` is of no use to the backward pass.

    Returns:
        w of the shape and dtype of v, and what `weight_norm_backward` needs.

    Raises:
        TypeError: another kind of array or dtype.
        ValueError: shapes that do not fit, or a row of zeros, which has no direction; nothing is written then.

    On a GPU the call waits for the answer whether there is such a row.

    Follows: ``torch.nn.utils.weight_norm``; Salimans and Kingma, 2016.

    Example:
        >>> w, saved = weight_norm(np.array([[3.0, 4.0]]), np.array([10.0]))
        >>> w.round(12).tolist()
        [[6.0, 8.0]]
    """
    owner = "weight_norm"
    if not require_floats(owner, "v", v).ndim:
        raise ValueError(f"{owner}: v must have an axis, got shape ()")
    axis = _check.integer(owner, "axis", axis, low=-v.ndim, high=v.ndim - 1)
    length = v.shape[axis]
    g = require_array(owner, "g", g)
    if g.size == length and max(g.shape, default=1) == length:
        g = g.reshape(length)
    lengths = check_weight(owner, "g", g, (length,), compute_dtype(v), v)
    rows = Rows(length, v.size // max(length, 1), groups=length, run=max(v.size // max(length, 1), 1), divisor="length")
    own = namespace(v)
    turned = own.moveaxis(v, axis, 0)
    zero = ~(turned if own is np else turned != 0).any(axis=tuple(range(1, v.ndim)))
    if zero.any():
        raise ValueError(f"{owner}: v must have no row of zeros along axis {axis}, got one at {int(zero.argmax())}")
    w = output(owner, "out", out, v.shape, v.dtype, v)
    target = None if out is None else own.moveaxis(w, axis, 0)
    made, _, saved = _rows.forward(owner, turned, rows, lengths, None, 0.0, target)
    return w if target is not None else own.moveaxis(made, 0, axis), replace(saved, axis=axis)


def weight_norm_backward(
    dw: Array, saved: Saved, *, out: tuple[Array | None, Array | None] | None = None
) -> tuple[Array, Array]:
    """Gradients of `weight_norm`: dg = Σ dw·v/‖v‖, dv = g/‖v‖·(dw - v/‖v‖·dg).

    Args:
        dw: shape and dtype of v.
        saved: of the forward pass; v and g must be as they were.
        out: arrays for dv and dg (one axis), or None for a new one.

    Returns:
        dv of the dtype of v, and dg of one axis and the compute type.

    Example:
        >>> w, saved = weight_norm(np.array([[3.0, 4.0]]), np.array([10.0]))
        >>> dv, dg = weight_norm_backward(np.array([[3.0, 4.0]]), saved)
        >>> np.abs(dv).max() < 1e-12, dg.tolist()
        (np.True_, [5.0])
    """
    owner = "weight_norm_backward"
    v = of_forward(owner, saved, Saved).source(owner)
    v = namespace(v).moveaxis(v, 0, saved.axis)
    dw = like(owner, "dw", dw, v, "v")
    first, second = outputs(owner, out, 2)
    dv = output(owner, "out[0]", first, v.shape, v.dtype, v)
    turned, target = (namespace(v).moveaxis(array, saved.axis, 0) for array in (dw, dv))
    _, dg, _ = _rows.backward(owner, turned, saved, divisor="length", out=(target, second, None))
    assert dg is not None
    return dv, dg
