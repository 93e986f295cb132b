"""Pools on a GPU."""

from typing import Any

import numpy as np

from stepsmith.cuda._arrays import DIVISOR, divisor
from stepsmith.cuda._call import check_lengths, is_wide, numbers, taken
from stepsmith.cuda._launch import launch_over

__all__ = ["WINDOWS", "average_pool", "average_pool_backward", "max_pool", "max_pool_backward", "windows_of"]

AXIS = np.dtype(
    [
        ("input", np.int64),
        ("kernel", np.int64),
        ("padding", np.int64),
        ("output", np.int64),
        ("stride", DIVISOR),
        ("dilation", DIVISOR),
    ]
)
"""``struct Axis`` of kernels/window.cuh."""

WINDOWS = np.dtype(
    [
        ("rows", AXIS),
        ("columns", AXIS),
        ("windows", DIVISOR),
        ("width", DIVISOR),
        ("plane", DIVISOR),
        ("breadth", DIVISOR),
    ]
)

AxisShape = tuple[int, int, int, int, int]
WindowShape = tuple[tuple[int, int], AxisShape, AxisShape]


def windows_of(shape: WindowShape) -> Any:
    """The windows as a kernel takes them."""
    axes = [_axis(axis) for axis in shape[1:]]
    heights, widths = ([axis[name] for axis in axes] for name in ("input", "output"))
    sizes = widths[0] * widths[1], widths[1], heights[0] * heights[1], heights[1]
    return np.array((*axes, *(divisor(max(int(size), 1)) for size in sizes)), WINDOWS)


def _axis(shape: AxisShape) -> Any:
    length, kernel, stride, padding, dilation = shape
    reach = dilation * max(kernel - 1, 0) + 1
    fits = kernel > 0 and stride > 0 and length + 2 * padding >= reach
    output = (length + 2 * padding - reach) // stride + 1 if fits else 0
    return np.array((length, kernel, padding, output, divisor(max(stride, 1)), divisor(max(dilation, 1))), AXIS)


def _counts(shape: WindowShape, windows: Any) -> tuple[int, int]:
    """Elements and windows of all planes."""
    planes = shape[0][0] * shape[0][1]
    elements, outputs = (int(windows["rows"][name] * windows["columns"][name]) for name in ("input", "output"))
    return planes * elements, planes * outputs


def max_pool(owner: str, out: Any, x: Any, shape: WindowShape) -> None:
    """As `_core.max_pool`."""
    windows = windows_of(shape)
    elements, count = _counts(shape, windows)
    arrays = taken(owner, {"out": out}, {"x": x})
    check_lengths(elements, {"x": x})
    check_lengths(count, {"out": out})
    _run("max_pool", "max_pool", x, count, arrays["out"], arrays["x"], windows)


def max_pool_backward(owner: str, dx: Any, x: Any, dy: Any, shape: WindowShape) -> None:
    """As `_core.max_pool_backward`."""
    windows = windows_of(shape)
    elements, count = _counts(shape, windows)
    arrays = taken(owner, {"dx": dx}, {"x": x, "dy": dy})
    check_lengths(elements, {"dx": dx, "x": x})
    check_lengths(count, {"dy": dy})
    which = numbers(count, dtype=np.int32)
    _run("max_pool", "note_larger", x, count, which, arrays["x"], windows)
    _run("max_pool", "give", x, elements, arrays["dx"], which, arrays["dy"], windows)


def average_pool(owner: str, out: Any, x: Any, shape: WindowShape, counts_padding: bool) -> None:
    """As `_core.average_pool`."""
    windows = windows_of(shape)
    elements, count = _counts(shape, windows)
    arrays = taken(owner, {"out": out}, {"x": x})
    check_lengths(elements, {"x": x})
    check_lengths(count, {"out": out})
    _run("average_pool", "average_pool", x, count, arrays["out"], arrays["x"], windows, np.int32(counts_padding))


def average_pool_backward(owner: str, dx: Any, dy: Any, shape: WindowShape, counts_padding: bool) -> None:
    """As `_core.average_pool_backward`."""
    windows = windows_of(shape)
    elements, count = _counts(shape, windows)
    arrays = taken(owner, {"dx": dx}, {"dy": dy})
    check_lengths(elements, {"dx": dx})
    check_lengths(count, {"dy": dy})
    _run("average_pool", "spread", dy, elements, arrays["dx"], arrays["dy"], windows, np.int32(counts_padding))


def _run(program: str, name: str, of: Any, count: int, *args: Any) -> None:
    """A kernel with a thread for each of so many elements, which it takes as its last argument."""
    suffix = "f64" if is_wide(of) else "f32"
    launch_over(program, f"{name}_{suffix}", count, (*args, np.uint64(count)), per_thread=1)
