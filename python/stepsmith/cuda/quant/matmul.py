"""Products with quantized weights on a GPU."""

from functools import cache
from typing import Any

import numpy as np

from stepsmith._backend import cupy
from stepsmith.cuda._call import taken
from stepsmith.cuda._launch import MOST_BLOCKS, THREADS, launch
from stepsmith.cuda.quant._nan import NONE
from stepsmith.cuda.quant.blocks import numbers_of
from stepsmith.cuda.quant.cast import cast

__all__ = ["matmul_codes"]

SHARES = ("all", "rows", "groups", "blocks")
"""``enum Sharing`` of kernels/matmul.cuh."""
MATRIX = np.dtype(
    [
        ("rows", np.uint64),
        ("len", np.uint64),
        ("size", np.uint64),
        ("sharing", np.int32),
        ("bits", np.int32),
        ("high_first", np.int32),
    ],
    align=True,
)
"""``struct Matrix`` there."""


def matmul_codes(
    owner: str,
    kind: str,
    codes: Any,
    scales: Any,
    shape: tuple[int, int],
    shares: tuple[str, int],
    x: Any,
    out: Any,
    quantizes: bool,
) -> None:
    """As `_core.matmul_codes`."""
    to = taken(owner, {"out": out}, {"x": x})["out"]
    if not out.size:
        return None
    (rows, length), batch = shape, out.size // shape[0]
    is_table = not kind.startswith("int")
    bits = 8 if kind == "int8" else 4
    matrix = np.array((rows, length, max(shares[1], 1), SHARES.index(shares[0]), bits, is_table), MATRIX)
    single = _single(owner, x)
    if quantizes:
        x_codes, x_scales = _quantized_rows(owner, single, batch, length)
        args = matrix, codes, scales, x_codes, x_scales, np.uint64(batch), to
        return _launch("matmul_integers", rows * batch, args)
    args = matrix, codes, scales, _table(kind), single, np.uint64(batch), to
    if batch == 1:
        return _launch("matmul_one", -(-rows // 2), args)
    return _launch("matmul_four", -(-rows * -(-batch // 4) // 2), args)


def _launch(name: str, warps: int, args: tuple[Any, ...]) -> None:
    launch("matmul", name, min(-(-warps * 32 // THREADS), MOST_BLOCKS), args)


def _single(owner: str, x: Any) -> Any:
    """The numbers as float32 in C order."""
    if x.dtype == np.float32 and x.flags.c_contiguous:
        return x
    single = cupy().empty(x.shape, np.float32)
    if x.size:
        cast(owner, x, None, single, None, True)
    return single


def _quantized_rows(owner: str, x: Any, rows: int, length: int) -> tuple[Any, Any]:
    """Codes and scales of rows; a ValueError names the first number that is not finite, which waits for the device."""
    codes, scales = cupy().empty(x.size, np.int8), cupy().empty(rows, np.float32)
    bad = cupy().full(1, NONE, np.uint64)
    _launch("quantize_rows", rows, (x, np.uint64(rows), np.uint64(length), codes, scales, bad))
    place = int(bad[0])
    if place != NONE:
        index = [int(k) for k in np.unravel_index(place, x.shape)]
        raise ValueError(f"{owner}: x must be finite to be quantized, got NaN or infinity at index {index}")
    return codes, scales


def _table(kind: str) -> Any:
    """The numbers of codes of four bits."""
    if kind == "int8":
        return np.uint64(0)
    return _integers(cupy().cuda.runtime.getDevice()) if kind == "int4" else numbers_of(kind)


@cache
def _integers(_device: int) -> Any:
    """The numbers of codes of four bits with a sign."""
    return cupy().asarray(np.array([*range(8), *range(-8, 0)], np.float32))
