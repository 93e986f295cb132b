"""Rows of lists of arrays outside of an optimizer, kept for as long as the same arrays come again."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from stepsmith._backend import cupy
from stepsmith.cuda._arrays import DTYPES
from stepsmith.cuda.optim.cut import BLOCK, before, blocks, by_type
from stepsmith.cuda.optim.places import Order, Place, alignment, order_of, place_of
from stepsmith.cuda.optim.structs import CONTROL, NEWS, NOTHING, OPERANDS, PASS, REPORT, ROW, SHADOW, STATE

__all__ = ["GRAD", "PARAM", "SHADOW", "STATE", "Call", "Rows", "rows_of"]

PARAM, GRAD = 0, 1

Operands = Mapping[int, Any]
"""The arrays of a row by their places; one of no parameter is only read."""

Key = tuple[tuple[int, int, Place], ...]
"""Place, code of the dtype and memory of each operand."""


class Rows:
    """What the device must know of the arrays: rows, the order of their elements, chunks."""

    def __init__(self, keys: Sequence[Key], by_memory: bool) -> None:
        self.rows = np.zeros(len(keys), ROW)
        self._walks: list[int] = []
        for row, key in zip(self.rows, keys):
            self._fill(row, key, by_memory)
        counts = blocks(self.rows["len"].astype(np.int64), BLOCK)
        self.rows["block"], self.rows["first"] = before(counts), before(self.rows["len"])
        self.rows["tensor"] = self.rows["cohort"] = np.arange(len(keys))
        self.block_count = int(counts.sum())
        self.chunks, self.chunk_counts = by_type(self.rows["compute"], counts)
        walks = cupy().asarray(np.array(self._walks or [0], np.int64))
        for name in ("walk", "grad_walk"):
            self.rows[name] += np.uint64(walks.data.ptr)
        self._kept = cupy().asarray(self.rows.view(np.uint8)), walks

    def _fill(self, row: Any, key: Key, by_memory: bool) -> None:
        there: list[Place | None] = [None] * OPERANDS
        for place, dtype, memory in key:
            row["dtypes"][place], there[place] = dtype, memory
        row["compute"] = 2 if row["dtypes"][key[0][0]] == 2 else 1
        row["len"] = row["unit"] = prod(key[0][2][2])
        order = order_of(there, by_memory)
        self._set_order(row, "", order)
        for place, _, (address, item, _, _) in key:
            row["data"][place] = at = address + order.starts[place]
            if order.dense[place] and at % alignment(item) == 0:
                row["quads"] |= 1 << place
        self._fill_grad(row, there[GRAD])
        native = {int(dtype) for place, dtype, _ in key if place != SHADOW} == {int(row["compute"])}
        all_quads = row["quads"] == sum(1 << place for place, _, _ in key)
        row["plain"] = native and bool(all_quads) and order.axes == 0 and not row["dtypes"][SHADOW]

    def _fill_grad(self, row: Any, grad: Place | None) -> None:
        """The gradient in C order."""
        if grad is None:
            return
        order = order_of([grad], False)
        self._set_order(row, "grad_", order)
        row["grad"] = grad[0] + order.starts[0]
        row["grad_quads"] = order.axes == 0 and row["grad"] % alignment(grad[1]) == 0

    def _set_order(self, row: Any, name: str, order: Order) -> None:
        row[f"{name}axes"], row[f"{name}walk"] = order.axes, 8 * len(self._walks)
        self._walks += order.numbers

    def fill(self, record: "np.ndarray[Any, np.dtype[np.void]]") -> None:
        """Says in a `PASS` where everything is."""
        record["rows"], record["row_count"] = self._kept[0].data.ptr, len(self.rows)
        record["block_count"] = self.block_count


@lru_cache(maxsize=16)
def _rows(keys: tuple[Key, ...], by_memory: bool, _place: tuple[int, int]) -> Rows:
    return Rows(keys, by_memory)


def rows_of(all_operands: Sequence[Operands], by_memory: bool) -> Rows:
    """The rows of these arrays, which were made on the current device and stream before or are made now."""
    keys = tuple(
        tuple((place, DTYPES[array.dtype], place_of(array)) for place, array in operands.items())
        for operands in all_operands
    )
    runtime = cupy().cuda
    return _rows(keys, by_memory, (runtime.runtime.getDevice(), runtime.get_current_stream().ptr))


class Call:
    """One run of kernels over rows: what it is told, and what it finds."""

    def __init__(self, rows: Rows, scalars: Sequence[float] = (), **settings: Any) -> None:
        self.rows, count = rows, len(rows.rows)
        control = np.zeros(1, CONTROL)
        control["first_bad"] = NOTHING
        # The scalar of each row, and 1 for its sign; the number of the update stands before them.
        slot = np.concatenate([np.zeros(1), np.column_stack([scalars, np.ones(len(scalars))]).reshape(-1)])
        parts = {"control": control, "news": np.zeros(1, NEWS), "report": np.zeros(1, REPORT), "table": slot}
        self._memory = cupy().asarray(np.concatenate([part.view(np.uint8) for part in parts.values()]))
        room = cupy().empty(2 * (rows.block_count + count) + 1, np.float64)
        self._kept, at = room, self._memory.data.ptr
        self.record = record = np.zeros((), PASS)
        for name, part in parts.items():
            record[name], at = at, at + part.nbytes
        record["partials"], record["norms"] = room.data.ptr, room.data.ptr + 16 * rows.block_count
        record["slot_width"], record["scalar_count"] = len(slot), 1
        record["grad_scale"] = record["first"] = record["second"] = 1.0
        for name, value in settings.items():
            record[name] = value
        rows.fill(record)

    def found(self, name: str) -> Any:
        """A number of the `CONTROL`, as an array without axes on the device."""
        at = CONTROL.fields[name][1] // 8  # type: ignore[index]
        return self._memory[: CONTROL.itemsize].view(np.float64)[at].copy()
