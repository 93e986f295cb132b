"""CuPy arrays as arguments of a kernel: address, storage type, and strides where they are not dense."""

from math import prod
from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["ABSENT", "ARRAY", "DIVISOR", "DTYPES", "MOST_AXES", "argument", "divisor", "merged"]

MOST_AXES = 8

ARRAY = np.dtype(
    [
        ("address", np.uint64),
        ("dtype", np.int32),
        ("axes", np.int32),
        ("quads", np.int32),
        ("item", np.int32),
        ("shape", np.int64, MOST_AXES),
        ("strides", np.int64, MOST_AXES),
    ]
)
"""``struct Array`` of kernels/arrays.cuh."""

DIVISOR = np.dtype([("n", np.uint64), ("inverse", np.uint64)], align=True)
"""``struct Divisor`` of kernels/divide.cuh."""

DTYPES = {
    np.dtype(np.float32): 1,
    np.dtype(np.float64): 2,
    np.dtype(ml_dtypes.bfloat16): 3,
    np.dtype(np.float16): 4,
}
"""``enum DType`` of kernels/storage.cuh; 0 is no array."""

ABSENT = np.zeros((), ARRAY)


def merged(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """The same elements in C order with as few axes as go; strides in bytes."""
    axes: list[tuple[int, int]] = []
    for length, stride in zip(shape, strides):
        if length == 1:
            continue
        if axes and axes[-1][1] == length * stride:
            axes[-1] = axes[-1][0] * length, stride
        else:
            axes.append((length, stride))
    return [length for length, _ in axes], [stride for _, stride in axes]


def argument(array: Any, dtype: int | None = None) -> "np.ndarray[Any, np.dtype[np.void]]":
    """The array as a kernel takes it, by value; None is an array that is not there. A number says what bytes stand for.

    Raises:
        ValueError: more axes that cannot be merged than a kernel takes.
    """
    if array is None:
        return ABSENT
    item = array.dtype.itemsize
    shape, strides = merged(array.shape, array.strides)
    if prod(shape) <= 1 or (len(shape) == 1 and strides[0] == item):
        shape, strides = [], []
    if len(shape) > MOST_AXES:
        raise ValueError(f"an array on a GPU must have at most {MOST_AXES} axes that do not join, got {array.shape}")
    value = np.zeros((), ARRAY)
    value["address"], value["dtype"], value["item"], value["axes"] = (
        array.data.ptr,
        DTYPES[array.dtype] if dtype is None else dtype,
        item,
        len(shape),
    )
    value["quads"] = not shape and array.data.ptr % (4 * item if item < 8 else 16) == 0
    value["shape"][: len(shape)], value["strides"][: len(shape)] = shape, strides
    return value


def divisor(n: int) -> tuple[int, int]:
    """A number that a kernel divides by."""
    return n, (-(-(1 << 64) // n)) % (1 << 64) if n > 1 else 0
