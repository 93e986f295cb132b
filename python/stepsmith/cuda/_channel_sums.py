"""Where channels are, and where the sums over their elements are cut: as rust/activation/bias.rs."""

from typing import Any

import numpy as np

from stepsmith.cuda._arrays import DIVISOR, divisor
from stepsmith.cuda._call import numbers
from stepsmith.cuda._launch import MOST_BLOCKS, THREADS, launch, launch_over

__all__ = ["Shape", "launch_pass", "line_of"]

LINE = np.dtype([("len", np.uint64), ("channels", DIVISOR), ("inner", DIVISOR), ("has_table", np.int32)], align=True)
PIECES = np.dtype([("count", np.uint64), ("turn", np.uint64), ("cut", np.uint64), ("in_turn", np.uint64)])

BLOCK, PIECE, MOST_PIECES, TABLE = 2048, 16 * 1024, 64, 64 * 1024
"""Of rust/activation: where sums are cut."""

FEW, MOST_THREADS = 512, 512
"""Blocks below which each has more threads, as many as there are registers for."""

Shape = tuple[int, int, int]
"""Samples, channels, elements of a channel in a sample."""


def line_of(shape: Shape) -> Any:
    """As ``Line::new``."""
    _, channels, inner = shape
    sample = channels * inner
    length = sample * max(BLOCK // max(sample, 1), 1)
    return np.array((length, divisor(channels), divisor(inner), inner == 1 or length <= TABLE), LINE)


def launch_pass(program: str, name: str, suffix: str, head: tuple[Any, ...], line: Any, size: int, sums: Any) -> None:
    """Runs a pass over `size` elements, and adds its terms to the sums of channels, where there are some."""
    pieces = _pieces(line, size)
    args = *head, np.uint64(size), pieces
    if not sums.size:
        return launch_over(program, f"{name}_{suffix}", size, (*args, np.uint64(0)), 8)
    length, count, channels = int(line["len"]), int(pieces["count"]), sums.size
    own = numbers(count, length if line["has_table"] else channels)
    if line["has_table"]:
        blocks = min(-(-(-(-length // 4) * count) // THREADS), MOST_BLOCKS)
        launch(program, f"{name}_{suffix}", blocks, (*args, own))
    else:
        threads = THREADS if count * channels >= FEW else MOST_THREADS
        launch(program, f"{name}_runs_{suffix}", min(count * channels, MOST_BLOCKS), (*args, own), threads)
    return launch(program, "add_sums", -(-channels // THREADS), (own, np.uint64(count), line, sums))


def _pieces(line: Any, size: int) -> Any:
    """As ``pieces`` with sums."""
    length = int(line["len"])
    worth = max(-(-size // MOST_PIECES), PIECE)
    turn = cut = max(worth // max(length, 1), 8) * length
    if length > worth and not line["has_table"]:
        turn, cut = length, -(-worth // BLOCK) * BLOCK
    in_turn = -(-turn // cut)
    return np.array((-(-size // turn) * in_turn, turn, cut, in_turn), PIECES)
