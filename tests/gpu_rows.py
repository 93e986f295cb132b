"""Rows of a step on a GPU as the tests fill them, field by field, for kernels alone."""

from typing import Any

import numpy as np

from stepsmith.cuda._arrays import DTYPES
from stepsmith.cuda._launch import launch
from stepsmith.cuda.optim.structs import CONTROL, NOTHING, OPERANDS, PASS, ROW
from stepsmith.optim._slab import wide_dtype_of

BLOCK = 4096
Array = Any


def on_gpu(cupy: Any, array: Any) -> Any:
    """The array on the device with the strides that it has here."""
    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    low = base.__array_interface__["data"][0]
    offset = array.__array_interface__["data"][0] - low
    device = cupy.asarray(np.frombuffer(base.tobytes("A"), np.uint8))
    return cupy.ndarray(array.shape, array.dtype, device.data + offset, array.strides)


class Rows:
    """Tensors with whatever a kernel reads of them, and a pass over them for each compute type."""

    def __init__(self, cupy: Any, tensors: list[dict[str, Any]], **settings: Any) -> None:
        self._cupy, self._alive = cupy, []
        self.table, self.blocks, self.unit_blocks, first = np.zeros(len(tensors), ROW), 0, 0, 0
        for k, tensor in enumerate(tensors):
            first = self._fill(k, first, tensor)
        self.control = np.zeros(1, CONTROL)
        self.control["first_bad"] = NOTHING
        self.settings = {"grad_scale": 1.0, "first": 1.0, "second": 1.0, "max_norm": np.inf, **settings}
        self.numbers = self._room(2 * (self.blocks + self.unit_blocks))
        self.norms = self._room(2 * len(tensors))
        self._table = self._keep(cupy.asarray(self.table.view(np.uint8)))
        self._control = self._keep(cupy.asarray(self.control.view(np.uint8)))

    def _keep(self, array: Array) -> Array:
        self._alive.append(array)
        return array

    def _room(self, count: int) -> Array:
        return self._keep(self._cupy.full(max(count, 1), np.nan, np.float64))

    def _fill(self, k: int, first: int, tensor: dict[str, Any]) -> int:
        row, grad, param = self.table[k], tensor["grad"], tensor.get("param", tensor["grad"])
        size, shape = int(grad.size), grad.shape
        row["len"], row["tensor"], row["block"], row["first"] = size, k, self.blocks, first
        unit = size // shape[0] if len(shape) > 1 and size else size
        row["unit"], row["unit_block"] = unit, self.unit_blocks
        row["compute"] = DTYPES[wide_dtype_of(param)]
        arrays = [param, grad, *tensor.get("state", ())]
        steps = [(array.shape, array.strides) for array in arrays if array is not None]
        for slot, array in enumerate(arrays):
            if array is not None:
                row["data"][slot], row["dtypes"][slot] = array.data.ptr, DTYPES[array.dtype]
        row["axes"] = len(shape)
        walk = np.zeros((len(shape), 1 + OPERANDS), np.int64)
        for slot, (_, strides) in enumerate(steps):
            walk[:, 0], walk[:, 1 + slot] = shape, strides
        row["walk"] = self._keep(self._cupy.asarray(walk)).data.ptr if shape else 0
        self._fill_grad(row, grad)
        self._fill_means(row, tensor.get("means"), shape)
        if tensor.get("kept") is not None:
            bits = np.packbits(tensor["kept"].reshape(-1), bitorder="little")
            row["kept"] = self._keep(self._cupy.asarray(bits)).data.ptr
        self.blocks += -(-size // BLOCK)
        count = size // unit if unit else 0
        self.unit_blocks += count * -(-unit // BLOCK)
        tensor["unit_factors"] = self._room(count)
        row["unit_factors"] = tensor["unit_factors"].data.ptr
        return first + size

    def _fill_grad(self, row: Any, grad: Array) -> None:
        self._keep(grad)
        row["grad"] = grad.data.ptr
        if grad.flags.c_contiguous and grad.data.ptr % grad.itemsize == 0:
            row["grad_quads"] = grad.data.ptr % min(4 * grad.itemsize, 16) == 0
            return
        walk = np.array([grad.shape, grad.strides], np.int64).T
        row["grad_axes"], row["grad_walk"] = grad.ndim, self._keep(self._cupy.asarray(walk.copy())).data.ptr

    def _fill_means(self, row: Any, means: Any, shape: tuple[int, ...]) -> None:
        if means is None:
            return
        row["height"], row["width"], row["count"] = shape[-2], shape[-1], np.prod(shape[:-2], dtype=int)
        rows, columns = int(row["count"] * row["height"]), int(row["count"] * row["width"])
        row["means"], row["mean_dtype"] = [mean.data.ptr for mean in means], DTYPES[means[0].dtype]
        row["mean_sums"] = [self._room(count).data.ptr for count in (rows, columns)]
        row["partials"] = self._room(columns * -(-shape[-2] // 64)).data.ptr

    def set_scalars(self, scalars: list[float], sign: float = 1.0) -> None:
        """Those of the first update, the same for all tensors."""
        slot = [0.0, *map(float, scalars), sign]
        self.settings["table"] = self._keep(self._cupy.asarray(np.array(slot))).data.ptr
        self.settings |= {"slot_width": len(slot), "scalar_count": len(scalars)}

    def passes(self) -> list[tuple[str, Any]]:
        """For each compute type that occurs its name and what its kernels are told."""
        found = []
        for name, compute in (("f32", 1), ("f64", 2)):
            rows = [k for k in range(len(self.table)) if self.table[k]["compute"] == compute]
            if rows or (name == "f64" and not found):
                found.append((name, self._pass(rows, len(found))))
        found[-1][1]["is_last"] = 1
        return found

    def _pass(self, rows: list[int], _place: int) -> Any:
        chunks = [k << 32 | b for k in rows for b in range(-(-int(self.table[k]["len"]) // BLOCK))]
        return self.told(np.array(chunks, np.uint64))

    def told(self, chunks: Any) -> Any:
        """What kernels over these chunks are told."""
        told = np.zeros((), PASS)
        device = self._keep(self._cupy.asarray(np.append(chunks, np.uint64(0))))
        addresses = {"rows": self._table, "chunks": device, "control": self._control}
        addresses |= {"partials": self.numbers, "norms": self.norms}
        for name, array in addresses.items():
            told[name] = array.data.ptr
        told["chunk_count"], told["row_count"] = len(chunks), len(self.table)
        told["block_count"], told["unit_block_count"] = self.blocks, self.unit_blocks
        for name, value in self.settings.items():
            told[name] = value
        return told

    def run(self, program: str, kernel: str, blocks: int = 3) -> None:
        """A kernel for each compute type, with fewer blocks than chunks."""
        for name, told in self.passes():
            launch(program, f"{kernel}_{name}", blocks, (told,))

    def run_once(self, program: str, kernel: str, blocks: int = 3) -> None:
        """A kernel for all compute types."""
        launch(program, kernel, blocks, (self.passes()[-1][1],))

    def found(self) -> Any:
        """The control as it is now."""
        return self._control.get().view(CONTROL)[0]


def groups_of(table: Any, compute: int, warps: int = 8, threads: int = 256) -> tuple[Any, Any]:
    """Chunks of the kernels that sum squares and that average means: a group a block of threads."""
    sums, means = [], []
    for k, row in enumerate(table):
        if row["compute"] != compute or not row["height"] * row["len"]:
            continue
        height, width, count = (int(row[name]) for name in ("height", "width", "count"))
        items = count * height + count * -(-height // 64) * -(-width // 128)
        sums += [k << 32 | group for group in range(-(-items // warps))]
        means += [k << 32 | group for group in range(count + -(-count * width // threads))]
    return np.array(sums, np.uint64), np.array(means, np.uint64)
