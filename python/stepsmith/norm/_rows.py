"""The two passes that all norms of rows share."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith import _core
from stepsmith._backend import require_array
from stepsmith._outputs import apart, check_written, output, outputs, unwritten
from stepsmith.norm._saved import Rows, Saved, of_forward

__all__ = ["backward", "forward", "like", "of_places"]

Array = NDArray[Any]


def forward(
    owner: str,
    x: Array,
    rows: Rows,
    *,
    weight: Array | None = None,
    bias: Array | None = None,
    residual: Array | None = None,
    eps: float = 0.0,
    out: object = None,
    total: object = None,
) -> tuple[Array, Array | None, Saved]:
    """The normalized array, the sum with the residual if there is one, and what the backward pass needs."""
    name, h = "out", None
    if residual is not None:
        name, h = "out[0]", output(owner, "out[1]", total, x.shape, x.dtype)
    y = output(owner, name, out, x.shape, x.dtype)
    check_written(owner, {name: y, "out[1]": h})
    mean, rstd = np.empty(rows.count), np.empty(rows.count)
    has_weight = weight is not None
    if bias is not None and weight is None:
        weight = np.ones_like(bias)
    weight = unwritten(weight, (y, h))
    # Where there is no element no weight belongs to one.
    read = apart((x, residual, weight, bias) if x.size else (x, residual, None, None), (y, h))
    _core.norm_rows(owner, (y, h), read, (mean, rstd), rows.shape, rows.divisor, eps)
    source = x if h is None else h
    kept = None if np.may_share_memory(source, y) else source
    return y, h, Saved(kept, weight, mean, rstd, has_weight, bias is not None, rows)


def backward(
    owner: str,
    dy: object,
    saved: Saved,
    *,
    divisor: str = "deviation",
    dsum: object = None,
    out: tuple[object, ...] | None = None,
) -> tuple[Array, Array | None, Array | None]:
    """Gradients of the rows, of the weight and of the bias."""
    if of_forward(owner, saved, Saved).rows.divisor != divisor:
        raise ValueError(f"{owner}: saved must be that of {owner.removesuffix('_backward')}, got another norm's")
    x, weight = saved.source(owner), saved.weight
    dy = like(owner, "dy", dy, x)
    other = None if dsum is None else like(owner, "dh", dsum, x)
    given = outputs(owner, out, 3)
    dx = output(owner, "out[0]", given[0], x.shape, x.dtype)
    dweight = of_places(owner, "out[1]", given[1], weight if saved.has_weight else None)
    dbias = of_places(owner, "out[2]", given[2], weight if saved.has_bias else None)
    check_written(owner, {"out[0]": dx, "out[1]": dweight, "out[2]": dbias})
    places = 0 if weight is None else weight.size
    sums = np.zeros(places), np.zeros(places)
    read, statistics = apart((dy, x, weight, other), (dx,)), (saved.mean, saved.rstd)
    if x.size:
        _core.norm_rows_backward(owner, dx, read, statistics, sums, saved.rows.shape, saved.rows.divisor)
    for gradient, total in zip((dweight, dbias), sums, strict=True):
        if gradient is not None:
            gradient[...] = total.reshape(gradient.shape)
    return dx, dweight, dbias


def of_places(owner: str, name: str, given: object, of: Array | None) -> Array | None:
    """Where the gradient of a weight or bias goes; None if there was none."""
    if of is not None:
        return output(owner, name, given, of.shape, of.dtype)
    if given is not None:
        raise ValueError(f"{owner}: {name} must be None for what the forward pass did without, got an array")
    return None


def like(owner: str, name: str, value: object, x: Array, other: str = "x") -> Array:
    """The value, which must be an array of the dtype and shape of another one."""
    array = require_array(owner, name, value)
    if array.dtype != x.dtype:
        raise TypeError(f"{owner}: {name} must have the dtype of {other}, {x.dtype}, got {array.dtype}")
    if array.shape != x.shape:
        raise ValueError(f"{owner}: {name} must have the shape of {other}, {x.shape}, got {array.shape}")
    return array
