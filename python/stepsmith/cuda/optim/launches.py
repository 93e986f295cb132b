"""The launches of a step: what comes before the write pass, and the write pass itself."""

from collections.abc import Iterable
from functools import cache
from typing import Any, Protocol

import numpy as np

from stepsmith import _core
from stepsmith._backend import cupy
from stepsmith.cuda._launch import THREADS, launch
from stepsmith.cuda.optim.cut import blocks
from stepsmith.cuda.optim.table import Table

__all__ = ["Launches"]

_OFTEN = 8
"""Blocks for each multiprocessor: more than fit, so that none waits for others at the end."""

_WARPS = THREADS // 32

_ROOM = 2 * 16 * THREADS
"""Bytes of shared memory in which a block keeps the numbers of a coded state array."""


@cache
def _multiprocessors(device: int) -> int:
    return int(cupy().cuda.Device(device).attributes["MultiProcessorCount"])


class Chunked(Protocol):
    """Rows in chunks, those of rows computed in float32 first, and how many chunks there are of each type."""

    chunks: Any
    chunk_counts: tuple[int, int]


class Launches:
    """Launches the kernels of a rule over a table, by the one `PASS` that says everything."""

    def __init__(self, rule: str, record: "np.ndarray[Any, np.dtype[np.void]]") -> None:
        self._name = "adam" if rule == "adamw" else rule
        traits = _core.traits().get(rule)
        self._program = "internal" if traits is None else self._name
        self._slots = 4 if traits is None else len(_core.rules()[rule][0])
        self.measures, self._is_factored = traits or (False, False)
        self._record = record
        self._most = _OFTEN * _multiprocessors(cupy().cuda.runtime.getDevice())

    def write(self, table: Chunked, ends: bool = True) -> None:
        """The read-write pass over everything, the last launch of a step that it ends."""
        self._over_chunks(self._name, table.chunks, table.chunk_counts, shared=self._shared, ends=ends)

    def examine(self, table: Chunked) -> None:
        """The one read of the gradients: are they finite, and what is their norm?"""
        self._over_chunks("examine", table.chunks, table.chunk_counts, _WARPS, program="examine")

    def multiply(self, rows: Chunked) -> None:
        """The sum of the products of all parameters and gradients."""
        record, count = self._record, sum(rows.chunk_counts)
        record["chunks"], record["chunk_count"] = rows.chunks.data.ptr, count
        launch("dot", "dot", max(min(blocks(count, _WARPS), self._most), 1), (record,))

    def clip_units(self, table: Table) -> None:
        """A factor for each unit."""
        grid = min(blocks(table.unit_block_count, _WARPS), self._most)
        for name in ("unit_sums", "unit_factors"):
            launch("units", name, grid, (self._record,))

    def measure(self, table: Table) -> None:
        """Norms of whole tensors, and before those means of rows and columns where they stand for a second moment."""
        if self._is_factored:
            self._over_chunks(f"sums_{self._name}", *table.sum_groups, must_run=False)
            self._over_chunks(f"means_{self._name}", *table.mean_groups, must_run=False)
        chunks, name = (table.chunks, table.chunk_counts), f"measure_{self._name}"
        self._over_chunks(name, *chunks, _WARPS, shared=self._shared)

    @property
    def _shared(self) -> int:
        return int(self._record["has_codes"]) * self._slots * _ROOM

    def _over_chunks(
        self,
        name: str,
        chunks: Any,
        counts: Iterable[int],
        per_block: int = 1,
        *,
        program: str | None = None,
        shared: int = 0,
        must_run: bool = True,
        ends: bool = True,
    ) -> None:
        """A kernel for each compute type that has chunks, one type behind the other; the last one knows that it is."""
        record, at = self._record, chunks.data.ptr
        runs = [(kind, count, at) for kind, count in zip(("f32", "f64"), counts)]
        runs[1] = "f64", runs[1][1], at + 8 * runs[0][1]
        runs = [run for run in runs if run[1]] or runs[: int(must_run)]
        for kind, count, place in runs:
            record["chunks"], record["chunk_count"], record["is_last"] = (
                place,
                count,
                ends and (kind, count, place) == runs[-1],
            )
            grid = max(min(blocks(count, per_block), self._most), 1)
            launch(program or self._program, f"{name}_{kind}", grid, (record,), shared=shared)
