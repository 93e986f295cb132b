"""The rows of the tensors that have a gradient, in the device's memory, and how a step is cut."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepsmith import _core
from stepsmith._backend import cupy
from stepsmith.cuda._arrays import DTYPES
from stepsmith.cuda.optim.cut import BLOCK, before, blocks, by_type
from stepsmith.cuda.optim.places import Order, Place, alignment, check, order_of, place_of
from stepsmith.cuda.optim.structs import PASS
from stepsmith.cuda.optim.tensors import GRAD, Tensors

__all__ = ["Table"]

_THREADS, _WARPS = 256, 8
_HEIGHT = 64
"""Rows of a matrix whose squares are added up before blocks of them are."""


class Table:
    """Made anew when a gradient is another kind of array than before; if it only lies elsewhere, its row changes."""

    def __init__(self, tensors: Tensors, has_units: bool, zeroes_grads: bool) -> None:
        self._tensors, self._has_units, self._zeroes_grads = tensors, has_units, zeroes_grads
        self._masks: list[Any] = [None] * len(tensors.params)
        self._cohorts: Sequence[int] = [0] * len(tensors.params)
        self._places: list[Any] = []
        self._bound: Sequence[Any] | None = None
        self._kinds: list[Any] | None = None
        self._is_uploaded = False

    def set_masks(self, masks: Sequence[bytes | None]) -> None:
        """Bits in C order for each tensor, or None."""
        bits = [None if mask is None else cupy().asarray(np.frombuffer(mask, np.uint8)) for mask in masks]
        self._masks, self._kinds = bits, None

    def set_cohorts(self, cohorts: Sequence[int]) -> None:
        """For each tensor the scalars that hold for it."""
        self._cohorts, self._is_uploaded = cohorts, False

    @property
    def is_masked(self) -> bool:
        """Is some tensor pruned?"""
        return any(mask is not None for mask in self._masks)

    # Gradients.

    def has(self, grads: Sequence[Any]) -> bool:
        """Is everything in the device's memory for just these arrays?"""
        return self._is_uploaded and self._kinds is not None and _places_of(grads) == self._places

    def take(self, grads: Sequence[Any], is_bound: bool = False) -> None:
        """Checks the gradients, None for a tensor without one, and makes their rows; nothing is uploaded.

        Those that are bound stay where they are, and need no look if they were the last ones.
        """
        if is_bound and grads is self._bound and self._kinds is not None:
            return
        try:
            places = _places_of(grads)
        except AttributeError:
            self._check(grads)  # something among them is no array of CuPy
            raise
        if self._kinds is None or places != self._places:
            self._take(grads, places)
        self._bound = grads if is_bound else None

    def _take(self, grads: Sequence[Any], places: list[Any]) -> None:
        kinds = [None if place is None else place[1:] for place in places]
        if kinds != self._kinds:
            self._check(grads)
            self._kinds = None
            self._make([k for k, grad in enumerate(grads) if grad is not None], grads)
        self._places, self._bound, self._is_uploaded = [], None, False
        there = [place for place in places if place is not None]
        self._refuse_shared([(at, item, shape, strides) for at, item, shape, strides, *_ in there])
        self._place([place[0] for place in there])
        self._places, self._kinds = places, kinds

    def _refuse_shared(self, places: Sequence[Place]) -> None:
        if self._zeroes_grads:
            _core.Territory(self._tensors.owner, self._names, places)
        self._tensors.refuse_shared(self._names, places)

    def _check(self, grads: Sequence[Any]) -> None:
        owner, params = self._tensors.owner, self._tensors.params
        there = [(grad, param) for grad, param in zip(grads, params) if grad is not None]
        names = [f"grads['{name}']" for name, grad in zip(self._tensors.names, grads) if grad is not None]
        for name, (grad, _) in zip(names, there):
            check(owner, name, grad, params[0])
        wrong = [
            f"{name} must have shape {param.shape}, got {grad.shape}"
            for name, (grad, param) in zip(names, there)
            if grad.shape != param.shape
        ]
        if wrong:
            raise ValueError(f"{owner}: {'; '.join(wrong)}")

    # Rows.

    def _make(self, present: list[int], grads: Sequence[Any]) -> None:
        """Rows without the addresses of gradients, and everything that depends on their lengths alone."""
        tensors, masks = self._tensors, self._masks
        self._present, self._names = present, [f"grads['{tensors.names[k]}']" for k in present]
        rows = self.rows = tensors.base[np.array(present, np.intp)]
        orders = [tensors.order(k, place_of(grads[k]), masks[k] is not None) for k in present]
        reading = [order_of([place_of(grads[k])], False) for k in present]
        walks = self._set_orders(orders, reading)
        items = np.array([grads[k].itemsize for k in present], np.uint64)
        self._alignments = np.array([alignment(int(item)) for item in items], np.uint64)
        self._starts = np.array([order.starts[GRAD] for order in orders], np.int64).astype(np.uint64)
        self._dense = np.array([order.dense[GRAD] for order in orders], bool)
        self._reads_dense = np.array([order.axes == 0 for order in reading], bool)
        self._may_be_plain = np.zeros(len(present), bool)
        for i, (k, order) in enumerate(zip(present, orders)):
            row, mask = rows[i], masks[k]
            row["tensor"], row["kept"] = k, 0 if mask is None else mask.data.ptr
            row["data"], row["quads"] = tensors.addresses(k, order), tensors.quads(k, order)
            row["dtypes"][GRAD] = DTYPES[grads[k].dtype]
            native = row["dtypes"][GRAD] == row["compute"]
            self._may_be_plain[i] = native and order.axes == 0 and tensors.is_plain(k)
        self._has_codes = bool(rows["codes"].any())
        self._walks = cupy().asarray(np.array(walks or [0], np.int64))
        rows["walk"] += np.uint64(self._walks.data.ptr)
        rows["grad_walk"] += np.uint64(self._walks.data.ptr)
        self._cut()
        self._make_room()

    def _set_orders(self, orders: list[Order], reading: list[Order]) -> list[int]:
        """The walks of all rows one after another; rows get their places among them."""
        walks: list[int] = []
        for row, order, own in zip(self.rows, orders, reading):
            for name, found in (("", order), ("grad_", own)):
                row[f"{name}axes"], row[f"{name}walk"] = found.axes, 8 * len(walks)
                walks += found.numbers
        return walks

    def _cut(self) -> None:
        """Chunks of all rows, those that are computed in float32 first."""
        rows = self.rows
        counts = blocks(rows["len"].astype(np.int64), BLOCK)
        rows["block"], rows["first"] = before(counts), before(rows["len"])
        self.chunks, self.chunk_counts = by_type(rows["compute"], counts)
        self.block_count = int(counts.sum())
        units = rows["len"].astype(np.int64) // rows["unit"].astype(np.int64)
        unit_blocks = units * blocks(rows["unit"].astype(np.int64), BLOCK) * self._has_units
        rows["unit_block"], self.unit_block_count = before(unit_blocks), int(unit_blocks.sum())
        self._units = units * self._has_units

        self._group()

    def _group(self) -> None:
        """Groups of the sweeps over rows and columns, and of those that average their means; see kernels/factor.cuh."""
        rows = self.rows
        factored = rows["height"] > 0
        count, height, width = (rows[name].astype(np.int64) * factored for name in ("count", "height", "width"))
        strips = count * blocks(height, _HEIGHT) * blocks(width, 128)
        sums, means = blocks(count * height + strips, _WARPS), count + blocks(count * width, _THREADS)
        self.sum_groups, self.mean_groups = by_type(rows["compute"], sums), by_type(rows["compute"], means)

    def _make_room(self) -> None:
        """What kernels write for each other, in one allocation."""
        rows, factored = self.rows, self.rows["height"] > 0
        matrices = rows["count"].astype(np.int64) * factored
        heights, widths = rows["height"].astype(np.int64), rows["width"].astype(np.int64)
        parts = {
            "unit_factors": self._units,
            "ratios": matrices * heights,
            "columns": matrices * widths,
            "partials": matrices * blocks(heights, _HEIGHT) * widths,
        }
        common = {"partials": 2 * (self.block_count + self.unit_block_count), "norms": 2 * len(rows)}
        total = sum(int(part.sum()) for part in parts.values()) + sum(common.values())
        self._room = cupy().empty(max(total, 1), np.float64)
        at = self._room.data.ptr
        for name, numbers in parts.items():
            places = np.uint64(at) + np.uint64(8) * before(numbers).astype(np.uint64)
            places = np.where(numbers > 0, places, np.uint64(0))
            target = {"ratios": ("mean_sums", 0), "columns": ("mean_sums", 1)}.get(name)
            if target is None:
                rows[name] = places
            else:
                rows[target[0]][:, target[1]] = places
            at += 8 * int(numbers.sum())
        self.partials, self.norms = at, at + 8 * common["partials"]

    def _place(self, addresses: list[int]) -> None:
        """Sets where gradients lie."""
        rows, at = self.rows, np.array(addresses, np.uint64)
        rows["grad"], rows["data"][:, GRAD] = at, at + self._starts
        is_quad = self._dense & ((at + self._starts) % self._alignments == 0)
        rows["quads"] = rows["quads"] & ~(1 << GRAD) | is_quad.astype(np.int32) << GRAD
        rows["grad_quads"] = self._reads_dense & (at % self._alignments == 0)
        there = (rows["dtypes"] != 0) @ (1 << np.arange(rows["dtypes"].shape[1]))
        rows["plain"] = self._may_be_plain & (rows["quads"] == there)

    def upload(self) -> None:
        """Brings the rows to the device, unless they are there."""
        if not self._is_uploaded:
            self.rows["cohort"] = np.asarray(self._cohorts, np.uint32)[self._present]
            self._on_device = cupy().asarray(self.rows.view(np.uint8))
            self._is_uploaded = True

    def fill(self, record: "np.ndarray[Any, np.dtype[np.void]]") -> None:
        """Says in a `PASS` where everything is."""
        assert record.dtype == PASS
        record["rows"], record["row_count"] = self._on_device.data.ptr, len(self.rows)
        record["block_count"], record["unit_block_count"] = self.block_count, self.unit_block_count
        record["partials"], record["norms"] = self.partials, self.norms
        record["has_codes"] = self._has_codes

    @property
    def kept(self) -> tuple[Any, ...]:
        """What a recorded step needs to find unchanged."""
        return self._on_device, self.chunks, self._walks, self._room, self._masks


def _places_of(grads: Sequence[Any]) -> list[Any]:
    """Of each gradient where it lies and what it is."""
    return [
        None
        if grad is None
        else ((data := grad.data).ptr, grad.itemsize, grad.shape, grad.strides, grad.dtype, data.device_id)
        for grad in grads
    ]
