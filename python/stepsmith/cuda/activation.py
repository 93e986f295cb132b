"""Activations on a GPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepsmith import _core
from stepsmith.cuda._arrays import DIVISOR, divisor
from stepsmith.cuda._call import check_lengths, dense, is_wide, numbers, taken
from stepsmith.cuda._launch import MOST_BLOCKS, THREADS, launch, launch_over

__all__ = ["KINDS", "activate"]

KINDS = (
    "gelu",
    "gelu_tanh",
    "silu",
    "sigmoid",
    "tanh",
    "softplus",
    "hardtanh",
    "softsign",
    "relu",
    "leaky_relu",
    "elu",
)
"""``enum Kind`` of kernels/activation.cuh."""

ACTIVATION = np.dtype([("scalars", np.float64, 3), ("kind", np.int32), ("is_backward", np.int32)])
LINE = np.dtype([("len", np.uint64), ("channels", DIVISOR), ("inner", DIVISOR), ("has_table", np.int32)], align=True)
PIECES = np.dtype([("count", np.uint64), ("turn", np.uint64), ("cut", np.uint64), ("in_turn", np.uint64)])

BLOCK, PIECE, MOST_PIECES, TABLE = 2048, 16 * 1024, 64, 64 * 1024
"""Of rust/activation: where sums are cut."""

Shape = tuple[int, int, int]


def activate(
    owner: str,
    kind: str,
    scalars: Sequence[float],
    out: Any,
    read: tuple[Any, Any | None, Any | None],
    dbias: Any,
    shape: Shape,
) -> None:
    """As `_core.activate`."""
    if kind not in KINDS:
        raise ValueError(f"kind must be the name of an activation, got '{kind}'")
    x, bias, dy = read
    size = shape[0] * shape[1] * shape[2]
    arrays = taken(owner, {"out": out}, {"x": x, "bias": bias, "dy": dy})
    check_lengths(size, {"x": x, "dy": dy, "out": out})
    check_lengths(shape[1], {"bias": bias, "dbias": dbias if dbias.size else None})
    check_lengths(len(_core.ACTIVATIONS[kind]), {"scalars": np.asarray(scalars)})
    if size == 0:
        return
    line = _line(shape if bias is not None else (1, 1, size))
    pieces, suffix = _pieces(line, size), "f64" if is_wide(x) else "f32"
    activation = np.zeros((), ACTIVATION)
    activation["scalars"][: len(scalars)] = scalars
    activation["kind"], activation["is_backward"] = KINDS.index(kind), dy is not None
    head = (arrays["out"], arrays["x"], arrays["dy"], dense(bias), line, activation, np.uint64(size), pieces)
    if dbias.size:
        _run_with_sums(suffix, head, line, pieces, dbias)
    else:
        launch_over("activation", f"activate_{suffix}", size, (*head, np.uint64(0)), 8)


def _run_with_sums(suffix: str, head: tuple[Any, ...], line: Any, pieces: Any, dbias: Any) -> None:
    """Gradients of pieces with their sums, which are added to `dbias`."""
    length, count, channels = int(line["len"]), int(pieces["count"]), dbias.size
    name, items, places = ("activate", -(-length // 4), length)
    if not line["has_table"]:
        name, items, places = "activate_runs", 32 * channels, channels
    sums = numbers(count, places)
    launch("activation", f"{name}_{suffix}", min(-(-items * count // THREADS), MOST_BLOCKS), (*head, sums))
    launch("activation", "add_sums", -(-channels // THREADS), (sums, np.uint64(count), line, dbias))


def _line(shape: Shape) -> Any:
    """As ``Line::new``."""
    _, channels, inner = shape
    sample = channels * inner
    length = sample * max(BLOCK // max(sample, 1), 1)
    return np.array((length, divisor(channels), divisor(inner), inner == 1 or length <= TABLE), LINE)


def _pieces(line: Any, size: int) -> Any:
    """As ``pieces`` with sums."""
    length = int(line["len"])
    worth = max(-(-size // MOST_PIECES), PIECE)
    turn = cut = max(worth // max(length, 1), 8) * length
    if length > worth and not line["has_table"]:
        turn, cut = length, -(-worth // BLOCK) * BLOCK
    in_turn = -(-turn // cut)
    return np.array((-(-size // turn) * in_turn, turn, cut, in_turn), PIECES)
