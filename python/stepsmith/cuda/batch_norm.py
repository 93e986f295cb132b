"""Batch norm on a GPU."""

from typing import Any

import numpy as np

from stepsmith.cuda._arrays import ABSENT, DIVISOR, divisor
from stepsmith.cuda._call import check_lengths, dense, is_wide, numbers, taken, zeros
from stepsmith.cuda._launch import THREADS, launch, launch_over
from stepsmith.cuda._places import COLUMN_THREADS, Runs, sum_places
from stepsmith.cuda._rows import launch_teams

__all__ = ["batch_norm", "batch_norm_backward"]

CHANNELS = np.dtype([(name, np.uint64) for name in ("samples", "channels", "inner", "tall", "pieces")])
"""``struct Channels`` of kernels/channel_shape.cuh."""

STATISTICS = np.dtype([("momentum", np.float64), ("eps", np.float64), ("training", np.int32), ("moves", np.int32)])
MAP = np.dtype([("channels", DIVISOR), ("inner", DIVISOR), ("spread", np.int32)], align=True)
"""Structs of kernels/batch_norm.cuh."""

SAME, NEXT, ANY_ONE = range(3)
"""``enum Spread`` there."""

HEIGHT, FEW, BROAD = 64, 8 * 64, 1024
PIECE, PIECES = 8 * 1024, 64
"""Of rust/norm: how samples are cut into pieces."""

NUMBERS = 5
"""Rows of the table of channels."""

Shape = tuple[int, int, int]
NOTHING = np.uint64(0)


def batch_norm(
    owner: str,
    out: Any,
    read: tuple[Any, Any | None, Any | None],
    running: tuple[Any, Any] | None,
    momentum: float,
    eps: float,
    training: bool,
    shape: Shape,
) -> list[Any]:
    """As `_core.batch_norm`."""
    (x, weight, bias), (mean, variance) = read, running or (None, None)
    new = (mean, variance) if training else (None, None)
    written = {"out": out, "running_mean": new[0], "running_var": new[1]}
    arrays = taken(owner, written, {"x": x, "weight": weight, "bias": bias, "mean": mean, "variance": variance})
    check_lengths(_size(shape), {"x": x, "out": out})
    of_channels = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
    check_lengths(shape[1], of_channels)
    if running is None and not training:
        raise ValueError("running_mean must be given, got None")
    kind, values = "f64" if is_wide(x) else "f32", shape[0] * shape[2]
    parts = _moments(kind, arrays["x"], shape) if training else (NOTHING, NOTHING)
    own = numbers(shape[1]), numbers(shape[1])
    table = numbers(NUMBERS, shape[1], dtype=np.float64 if is_wide(x) else np.float32)
    moves = training and running is not None and values > 1
    statistics = np.array((momentum, eps, training, moves), STATISTICS)
    args = (_channels(shape), statistics, *parts, arrays["mean"], arrays["variance"], *own, table)
    launch("batch_norm", f"batch_statistics_{kind}", -(-shape[1] // THREADS), args)
    _map(kind, (arrays["out"], arrays["x"], ABSENT), table, weight, bias, shape)
    return list(own)


def batch_norm_backward(
    owner: str,
    dx: Any | None,
    read: tuple[Any, Any, Any | None],
    statistics: tuple[Any, Any],
    training: bool,
    shape: Shape,
) -> list[Any]:
    """As `_core.batch_norm_backward`."""
    dy, x, weight = read
    arrays = taken(owner, {"dx": dx}, {"dy": dy, "x": x, "weight": weight})
    check_lengths(_size(shape), {"dy": dy, "x": x, "dx": dx})
    check_lengths(shape[1], {"weight": weight, "mean": statistics[0], "rstd": statistics[1]})
    if _size(shape) == 0:
        return [zeros(shape[1]), zeros(shape[1])]
    sums = sum_places(_runs(shape), arrays["dy"], arrays["x"], statistics, True)
    if dx is None:
        return sums
    kind = "f64" if is_wide(x) else "f32"
    table = numbers(NUMBERS, shape[1], dtype=np.float64 if is_wide(x) else np.float32)
    args = (_channels(shape), *statistics, *sums, dense(weight), np.int32(training), table)
    launch("batch_norm", f"batch_gradients_{kind}", -(-shape[1] // THREADS), args)
    inputs = (arrays["x"], arrays["dy"]) if training else (arrays["dy"], ABSENT)
    _map(kind, (arrays["dx"], *inputs), table, weight, None, shape)
    return sums


def _size(shape: Shape) -> int:
    return shape[0] * shape[1] * shape[2]


def _tall(shape: Shape) -> int:
    """Samples of a piece, as ``Channels::pieces``."""
    samples, channels, inner = shape
    worth = max(-(-_size(shape) // PIECES), PIECE)
    if inner != 1:
        return max(-(-worth // max(channels * inner, 1)), 1)
    if samples <= FEW:
        return FEW
    return -(-worth // min(max(channels, 1), BROAD) // HEIGHT) * HEIGHT


def _channels(shape: Shape) -> Any:
    tall = _tall(shape)
    return np.array((*shape, tall, -(-shape[0] // tall)), CHANNELS)


def _runs(shape: Shape) -> Runs:
    """Each channel of each sample as a row, or each sample if channels are the last axis."""
    samples, channels, inner = shape
    if inner == 1:
        return Runs(samples, channels, 1, 1, _tall(shape))
    return Runs(samples * channels, inner, channels, inner, _tall(shape) * channels)


def _moments(kind: str, x: Any, shape: Shape) -> tuple[Any, Any]:
    """Means and centred sums of squares of each piece and channel."""
    samples, channels, inner = shape
    of_shape = _channels(shape)
    pieces = int(of_shape["pieces"])
    if _size(shape) == 0:
        return zeros(pieces * channels), zeros(pieces * channels)
    both = numbers(pieces, channels), numbers(pieces, channels)
    if inner != 1:
        launch_teams("channels", f"run_moments_{kind}", pieces * channels, inner, (of_shape, x, *both))
        return both
    blocks = -(-samples // HEIGHT)
    of_blocks = numbers(blocks, channels), numbers(blocks, channels)
    threads = blocks * -(-channels // 4)
    launch(
        "channels",
        f"column_moments_{kind}",
        -(-threads // COLUMN_THREADS),
        (of_shape, x, *of_blocks),
        COLUMN_THREADS,
    )
    launch("channels", "merge_blocks", -(-pieces * channels // THREADS), (of_shape, *of_blocks, *both))
    return both


def _map(
    kind: str, arrays: tuple[Any, Any, Any], table: Any, weight: Any | None, bias: Any | None, shape: Shape
) -> None:
    """One output element of each element."""
    _, channels, inner = shape
    spread = SAME if inner % 4 == 0 else NEXT if inner == 1 and channels % 4 == 0 else ANY_ONE
    of_map = np.array((divisor(channels), divisor(inner), spread), MAP)
    args = (of_map, *arrays, table, dense(weight), dense(bias), np.uint64(_size(shape)))
    launch_over("batch_norm", f"channel_map_{kind}", _size(shape), args, 8)
