"""The two passes that all norms of rows share."""

from typing import Any

from numpy.typing import NDArray

from stepsmith._backend import core_of, namespace
from stepsmith._outputs import (
    Four,
    apart,
    check_written,
    like,
    meets,
    of_forward,
    of_places,
    output,
    outputs,
    unwritten,
)
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
    name, h = "out", None
    if residual is not None:
        name, h = "out[0]", output(owner, "out[1]", total, x.shape, x.dtype, x)
    y = output(owner, name, out, x.shape, x.dtype, x)
    has_weight = weight is not None
    if bias is not None and weight is None:
        weight = namespace(x).ones_like(bias)
    # Where there is no element no weight belongs to one.
    read: Four = (x, residual, weight, bias) if x.size else (x, residual, None, None)
    source: Array | None = x if h is None else h
    if out is not None or total is not None:
        check_written(owner, {name: out, "out[1]": total})
        weight = unwritten(weight, (out, total))
        read = apart(read, (out, total))
        source = None if meets(source, out) else source
    mean, rstd = core_of(x).norm_rows(owner, (y, h), read, rows[:4], rows.divisor, eps)
    return y, h, Saved(source, weight, mean, rstd, has_weight, bias is not None, rows)


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
    dx = output(owner, "out[0]", given[0], x.shape, x.dtype, x)
    dweight = of_places(owner, "out[1]", given[1], weight if saved.has_weight else None)
    dbias = of_places(owner, "out[2]", given[2], weight if saved.has_bias else None)
    if out is not None:
        check_written(owner, {"out[0]": given[0], "out[1]": given[1], "out[2]": given[2]})
    sums = None
    if x.size:
        read, statistics = apart((dy, x, weight, other), (given[0],)), (saved.mean, saved.rstd)
        sums = core_of(x).norm_rows_backward(owner, dx, read, statistics, saved.rows[:4], saved.rows.divisor)
    for k, gradient in enumerate((dweight, dbias)):
        if gradient is not None:
            gradient[...] = 0 if sums is None else sums[k].reshape(gradient.shape)
    return dx, dweight, dbias
