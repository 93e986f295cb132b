"""Affine codes on a GPU."""

from typing import Any

import numpy as np

from stepsmith._backend import cupy
from stepsmith.cuda._call import taken
from stepsmith.cuda._launch import THREADS, launch, launch_over
from stepsmith.cuda.quant._nan import FirstNan, check_nan
from stepsmith.cuda.quant.blocks import geometry

__all__ = ["affine_dequantize", "affine_quantize", "affine_quantize_given", "affine_steps"]

Grid = tuple[int, int, int, float | None, bool]
"""Bits, least and largest code, divisor, whether numbers are multiplied by 1 / scale."""
Cut = tuple[bool, int, int, int]
"""False, indices, elements of an index, all elements; or True, rows, elements of a row, elements of a group."""

GRID = np.dtype(
    [
        ("qmin", np.int32),
        ("qmax", np.int32),
        ("divisor", np.float32),
        ("is_reciprocal", np.int32),
        ("bits", np.uint32),
    ]
)
"""``struct AffineGrid`` of kernels/affine_grid.cuh."""
PLACE = np.dtype([("run", np.uint64), ("channels", np.uint64), ("row", np.uint64), ("runs_of_row", np.uint64)])
"""``struct Place`` of kernels/affine_place.cuh."""

LONGEST = 4096
"""Elements of the longest run that one warp works on."""


def _grid(grid: Grid) -> Any:
    bits, qmin, qmax, divisor, is_reciprocal = grid
    return np.array((qmin, qmax, divisor or 0.0, is_reciprocal, bits if bits in (2, 4) else 8), GRID)


def _place(cut: Cut) -> tuple[int, int, Any]:
    """Rows whose codes begin with a byte, elements of a row, and which scale belongs to an element."""
    has_groups, first, second, third = cut
    if not has_groups:
        return 1, third, np.array((max(second, 1), first, 0, first), PLACE)
    runs = -(-second // third)
    if second % third == 0:
        return 1, first * second, np.array((third, 0, 0, first * runs), PLACE)
    return first, second, np.array((third, 0, second, runs), PLACE)


def _is_run_by_run(cut: Cut, grid: Any) -> bool:
    """Is each scale that of one short run whose codes fill bytes?"""
    has_groups, first, second, third = cut
    if has_groups:
        return min(second, third) <= LONGEST
    return first * second == third and second <= LONGEST and (first == 1 or second * int(grid["bits"]) % 8 == 0)


def _points(zero_points: Any) -> Any:
    return zero_points if zero_points.size else np.uint64(0)


def affine_quantize(
    owner: str,
    grid: Grid,
    cut: Cut,
    x: Any,
    codes: Any,
    scales: Any,
    zero_points: Any,
    zeroes_nan: bool,
    checks_first: bool,
) -> None:
    """As `_core.affine_quantize`."""
    by_run, nan = _is_run_by_run(cut, _grid(grid)), FirstNan(not zeroes_nan)
    read = taken(owner, {}, {"x": x})["x"]
    if by_run and checks_first and not zeroes_nan:
        check_nan(owner, x)
        nan = FirstNan(False)
    if by_run:
        _run_by_run(grid, cut, read, (codes, scales, _points(zero_points)), nan)
        return nan.check(owner, x)
    below, above = cupy().zeros((2, scales.size), np.uint32)
    args = read, np.uint64(x.size), _place(cut)[2], below, above, nan.pointer
    launch_over("affine", "affine_ranges", x.size, args, 16)
    nan.check(owner, x)
    affine_steps(grid, below.view(np.float32), above.view(np.float32), scales, zero_points)
    return affine_quantize_given(owner, grid, cut, x, codes, scales, zero_points, True, False)


def _run_by_run(grid: Grid, cut: Cut, x: Any, written: tuple[Any, Any, Any], nan: FirstNan) -> None:
    """Measures and codes each run."""
    rows, length, place = _place(cut)
    quads = -(-min(int(place["run"]), max(length, 1)) // 4)
    lanes = min(1 << (quads - 1).bit_length(), 32)
    runs = rows * int(place["runs_of_row"])
    args = x, np.uint64(rows), np.uint64(length), place, _grid(grid), np.uint32(lanes), *written, nan.pointer
    launch("affine", "affine_blocks", min(-(-runs * lanes // THREADS), 1 << 16), args)


def affine_quantize_given(
    owner: str,
    grid: Grid,
    cut: Cut,
    x: Any,
    codes: Any,
    scales: Any,
    zero_points: Any,
    zeroes_nan: bool,
    checks_first: bool,
) -> None:
    """As `_core.affine_quantize_given`."""
    if checks_first and not zeroes_nan:
        check_nan(owner, x)
    nan = FirstNan(not zeroes_nan and not checks_first)
    args = taken(owner, {}, {"x": x})["x"], *_how(grid, cut), scales, _points(zero_points), codes, nan.pointer
    launch_over("affine", "affine_quantize", x.size, args)
    nan.check(owner, x)


def _how(grid: Grid, cut: Cut) -> tuple[Any, Any, Any]:
    """Geometry of quads, which scale belongs to an element, and codes."""
    rows, length, place = _place(cut)
    values = _grid(grid)
    return geometry((rows, length, 4), int(values["bits"])), place, values


def affine_dequantize(owner: str, grid: Grid, cut: Cut, codes: Any, scales: Any, zero_points: Any, out: Any) -> None:
    """As `_core.affine_dequantize`."""
    args = codes, *_how(grid, cut), scales, _points(zero_points), taken(owner, {"out": out}, {})["out"]
    launch_over("affine", "affine_dequantize", out.size, args)


def affine_steps(grid: Grid, below: Any, above: Any, scales: Any, zero_points: Any) -> None:
    """As `_core.affine_steps`."""
    args = _grid(grid), below, above, np.uint64(below.size), scales, _points(zero_points)
    launch_over("affine", "affine_steps", below.size, args, 1)
