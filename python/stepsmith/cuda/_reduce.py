"""Sums of arrays by their fixed tree."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepsmith.cuda._call import is_wide, numbers, taken
from stepsmith.cuda._launch import MOST_BLOCKS, THREADS, launch

__all__ = ["reduce"]

BLOCK = 4096
"""Elements that a warp adds up."""


def reduce(owner: str, names: Sequence[str], arrays: Sequence[Any], kind: str) -> float:
    """As `_core.reduce`, for "sum"; waits for the GPU."""
    if kind != "sum":
        raise ValueError(f"kind must be 'sum', got '{kind}'")
    return sum((_sum(taken(owner, {}, {name: x})[name], x) for name, x in zip(names, arrays)), 0.0)


def _sum(read: Any, x: Any) -> float:
    blocks = -(-x.size // BLOCK)
    if not blocks:
        return 0.0
    partials, name = numbers(blocks), f"sum_blocks_{'f64' if is_wide(x) else 'f32'}"
    launch("sums", name, min(-(-blocks * 32 // THREADS), MOST_BLOCKS), (read, np.uint64(x.size), partials))
    launch("sums", "fold_sums", 1, (partials, np.uint64(blocks)))
    return float(partials[0])
