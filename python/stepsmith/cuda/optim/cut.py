"""How the elements of rows are cut into pieces, fixed by their number."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith._backend import cupy

__all__ = ["BLOCK", "before", "blocks", "by_type"]

BLOCK = 4096
"""Elements of a chunk, and of a block of the fixed-shape sums."""


def blocks(count: Any, size: int) -> Any:
    """How many blocks of a size hold so many."""
    return -(-count // size)


def by_type(compute: NDArray[Any], counts: NDArray[Any]) -> tuple[Any, tuple[int, int]]:
    """So many chunks of each row on the device, those computed in float32 first; how many there are of each type."""
    wide = compute == 2
    order = np.concatenate([np.flatnonzero(~wide), np.flatnonzero(wide)])
    chunks = chunks_of(order, counts[order])
    return cupy().asarray(chunks), (int(counts[~wide].sum()), int(counts[wide].sum()))


def before(counts: NDArray[Any]) -> NDArray[Any]:
    """For each entry the sum of those before it."""
    return np.concatenate([np.zeros(1, counts.dtype), np.cumsum(counts)[:-1].astype(counts.dtype)])[: len(counts)]


def chunks_of(rows: NDArray[Any], counts: NDArray[Any]) -> NDArray[np.uint64]:
    """For each row as many chunks as it has, numbered from 0: row << 32 | number."""
    numbers = np.arange(int(counts.sum())) - np.repeat(before(counts), counts)
    found: NDArray[np.uint64] = np.repeat(rows, counts).astype(np.uint64) << np.uint64(32) | numbers.astype(np.uint64)
    return found
