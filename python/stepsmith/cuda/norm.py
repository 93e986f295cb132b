"""Norms of rows on a GPU."""

from typing import Any

import numpy as np

from stepsmith.cuda._arrays import DIVISOR, divisor
from stepsmith.cuda._call import check_lengths, dense, numbers, taken, zeros
from stepsmith.cuda._places import Runs, sum_places
from stepsmith.cuda._rows import launch_rows

__all__ = ["norm_rows", "norm_rows_backward"]

NORM = np.dtype(
    [
        ("rows", np.uint64),
        ("len", np.uint64),
        ("groups", DIVISOR),
        ("run", DIVISOR),
        ("eps", np.float64),
        ("divided", np.int32),
    ],
    align=True,
)
"""``struct RowNorm`` of kernels/norm_shape.cuh."""

DIVISORS = ("deviation", "root_mean_square", "length")
"""``enum Divided`` there."""

PIECE, PIECES, TOGETHER = 8 * 1024, 64, 8
"""Of rust/norm: how rows are cut into pieces."""

Four = tuple[Any | None, Any | None, Any | None, Any | None]
Shape = tuple[int, int, int, int]


def _row_norm(shape: Shape, divided: str, eps: float) -> Any:
    if divided not in DIVISORS:
        raise ValueError(f"divisor must be one of {', '.join(DIVISORS)}, got '{divided}'")
    rows, length, groups, run = shape
    return np.array((rows, length, divisor(groups), divisor(run), eps, DIVISORS.index(divided)), NORM)


def _places(shape: Shape) -> int:
    """How many weights there are."""
    _, length, groups, run = shape
    return groups * (length // run) if run else length


def norm_rows(
    owner: str, written: tuple[Any, Any | None], read: Four, shape: Shape, divisor: str, eps: float
) -> list[Any]:
    """As `_core.norm_rows`."""
    norm, (rows, length, _, run) = _row_norm(shape, divisor, eps), shape
    x, residual, weight, bias = read
    out, total = written
    given = {"x": x, "residual": residual, "weight": weight, "bias": bias}
    arrays = taken(owner, {"out": out, "sum": total}, given)
    check_lengths(rows * length, {"x": x, "residual": residual, "out": out, "sum": total})
    check_lengths(_places(shape), {"weight": weight, "bias": bias})
    mean, rstd = numbers(rows), numbers(rows)
    by_row = [arrays[name] for name in ("out", "sum", "x", "residual")]
    args = (norm, *by_row, dense(weight), dense(bias), mean, rstd)
    launch_rows("norm_rows", "norm_rows", by_row, (rows, length), args, run)
    return [mean, rstd]


def norm_rows_backward(
    owner: str, dx: Any, read: Four, statistics: tuple[Any, Any], shape: Shape, divisor: str
) -> list[Any]:
    """As `_core.norm_rows_backward`."""
    norm, (rows, length, groups, run) = _row_norm(shape, divisor, 0.0), shape
    dy, x, weight, dsum = read
    arrays = taken(owner, {"dx": dx}, {"dy": dy, "x": x, "weight": weight, "dh": dsum})
    check_lengths(rows * length, {"dy": dy, "x": x, "dh": dsum, "dx": dx})
    check_lengths(_places(shape), {"weight": weight})
    check_lengths(rows, {"mean": statistics[0], "rstd": statistics[1]})
    count = _places(shape) if weight is not None else 0
    sums = [zeros(count), zeros(count)]
    if count and rows * length:
        places = (groups, run) if run else (1, 1)
        runs = Runs(rows, length, *places, _turn(rows, length))
        sums = sum_places(runs, arrays["dy"], arrays["x"], statistics, False)
    by_row = [arrays[name] for name in ("dx", "dy", "x", "dh")]
    args = (norm, *by_row, dense(weight), *statistics)
    launch_rows("norm_rows_backward", "norm_rows_backward", by_row, (rows, length), args, run)
    return sums


def _turn(rows: int, length: int) -> int:
    """Rows that are worth a turn, as ``RowNorm::turn``."""
    worth = max(PIECE // max(length, 1), 1)
    return -(-max(-(-rows // PIECES), worth) // TOGETHER) * TOGETHER
