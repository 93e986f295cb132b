"""Sums of arrays by their fixed tree."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepsmith.cuda._call import numbers
from stepsmith.cuda._launch import MOST_BLOCKS, THREADS, launch

__all__ = ["reduce"]

BLOCK = 4096
"""Elements that a warp adds up."""


def reduce(owner: str, names: Sequence[str], arrays: Sequence[Any], kind: str) -> float:
    """As `_core.reduce`, for "sum" and float32 in C order; waits for the GPU."""
    if kind != "sum":
        raise ValueError(f"{owner}: kind must be 'sum', got '{kind}'")
    for name, x in zip(names, arrays):
        if x.dtype != np.float32 or not x.flags.c_contiguous:
            raise TypeError(f"{owner}: {name} must be float32 in C order, got {x.dtype} with strides {x.strides}")
    return sum(map(_sum, arrays), 0.0)


def _sum(x: Any) -> float:
    blocks = -(-x.size // BLOCK)
    if not blocks:
        return 0.0
    partials = numbers(blocks)
    launch("sums", "sum_blocks", min(-(-blocks * 32 // THREADS), MOST_BLOCKS), (x, np.uint64(x.size), partials))
    launch("sums", "fold_sums", 1, (partials, np.uint64(blocks)))
    return float(partials[0])
