"""Which threads work on a row: how kernels over rows are launched."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from stepsmith.cuda._launch import THREADS, launch

__all__ = ["launch_rows", "launch_streaming", "launch_teams"]

BLOCK = 4096
SEGMENT = 16 * BLOCK
"""Elements of a row that are summed at once, in blocks."""
MOST_OF_WARP, MOST_OF_BLOCK = 1024, 2 * BLOCK
"""Elements of the longest row that a warp and a block hold in registers."""


def launch_rows(
    program: str, name: str, arrays: Iterable[Any], shape: tuple[int, int], args: tuple[Any, ...], run: int = 0
) -> None:
    """Runs a kernel over rows: one that reads a row once where there is one for these arrays.

    Args:
        program: has the kernels `name`_f32 and `name`_f64 for all arrays, `name`_of_warps_f32 and `name`_of_blocks_f32
            for rows of whole quads.
        name: of the kernels.
        arrays: arguments whose elements belong to rows; absent ones do not count.
        shape: rows and elements of a row.
        args: of the kernels, without the last one, how many threads share a row.
        run: elements of a row that share a weight, 0 if each has its own.
    """
    (rows, length), given = shape, [array for array in arrays if array["dtype"]]
    is_wide = any(array["item"] == 8 for array in given)
    is_plain = length % 4 == 0 and run % 4 == 0 and rows < 1 << 31 and all(array["quads"] for array in given)
    if is_wide or not is_plain or length > MOST_OF_BLOCK:
        kind, shift = "f64" if is_wide else "f32", _shift_of_team(length)
    elif length > MOST_OF_WARP:
        launch(program, f"{name}_of_blocks_f32", rows, (*args, np.uint32(0)), 128 * -(-length // BLOCK))
        return
    else:
        kind, shift = "of_warps_f32", min(_shift(length // 4), 5)
    _launch(program, f"{name}_{kind}", rows, shift, args)


def launch_streaming(program: str, name: str, shape: tuple[int, int], args: tuple[Any, ...]) -> None:
    """Runs a kernel that reads a row for each of its passes, over rows of that length."""
    _launch(program, name, shape[0], _shift_of_team(shape[1]), args)


def launch_teams(program: str, name: str, count: int, length: int, args: tuple[Any, ...]) -> None:
    """Runs a kernel of which whole warps work on each of `count` runs of `length` elements."""
    _launch(program, name, count, max(_shift_of_team(length), 5), args)


def _launch(program: str, name: str, count: int, shift: int, args: tuple[Any, ...]) -> None:
    # A barrier of a row's warps is one of its block.
    threads = 1 << shift if shift > 5 else THREADS
    launch(program, name, -(-(count << shift) // threads), (*args, np.uint32(shift)), threads)


def _shift(count: int) -> int:
    """The power of two that is not less."""
    return max(count - 1, 0).bit_length()


def _shift_of_team(length: int) -> int:
    """Threads of a row as a power of two: some of a warp for a short one, a warp for each block of a long one."""
    blocks = -(-min(length, SEGMENT) // BLOCK)
    return 5 + _shift(blocks) if blocks > 1 else min(_shift(-(-length // 4)), 5)
