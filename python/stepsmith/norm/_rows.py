"""The two passes that all norms of rows share."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith import _core
from stepsmith._outputs import apart, like, meets, output
from stepsmith.norm._saved import Rows, Saved

__all__ = ["backward", "forward"]

Array = NDArray[Any]


def forward(
    owner: str,
    x: Array,
    rows: Rows,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    out: Array | None,
    residual: Array | None = None,
    total: Array | None = None,
) -> tuple[Array, Array | None, Saved]:
    """The normalized array, the sum with the residual if there is one, and what the backward pass needs."""
    y = output(owner, "out", out, x.shape, x.dtype)
    h = None
    if residual is not None:
        h = output(owner, "out[1]", total, x.shape, x.dtype)
    mean, rstd = np.empty(rows.count), np.empty(rows.count)
    has_weight = weight is not None
    if bias is not None and weight is None:
        weight = np.ones_like(bias)
    # Where there is no element no weight belongs to one.
    read = apart((x, residual, weight, bias) if x.size else (x, residual, None, None), (out, total))
    _core.norm_rows(owner, (y, h), read, (mean, rstd), rows.shape, rows.divisor, eps)
    source = x if h is None else h
    kept = None if meets(source, out) else source
    return y, h, Saved(kept, weight, mean, rstd, has_weight, bias is not None, rows)


def backward(
    owner: str, dy: object, saved: Saved, *, dsum: object = None, out: tuple[Array | None, ...] | None = None
) -> tuple[Array, Array | None, Array | None]:
    """Gradients of the rows, of the weight and of the bias."""
    x = saved.source(owner)
    dy = like(owner, "dy", dy, x)
    other = None if dsum is None else like(owner, "dsum", dsum, x)
    given = (None, None, None) if out is None else out
    dx = output(owner, "out[0]", given[0], x.shape, x.dtype)
    weight, places = saved.weight, 0 if saved.weight is None else saved.weight.size
    sums = np.zeros(places), np.zeros(places)
    dweight, dbias = None, None
    if weight is not None:
        if saved.has_weight:
            dweight = output(owner, "out[1]", given[1], weight.shape, weight.dtype)
        if saved.has_bias:
            dbias = output(owner, "out[2]", given[2], weight.shape, weight.dtype)
    read, statistics = apart((dy, x, weight, other), (given[0],)), (saved.mean, saved.rstd)
    if x.size:
        _core.norm_rows_backward(owner, dx, read, statistics, sums, saved.rows.shape, saved.rows.divisor)
    for gradient, total in zip((dweight, dbias), sums, strict=True):
        if gradient is not None:
            gradient[...] = total.reshape(gradient.shape)
    return dx, dweight, dbias
