"""The arrays of one call: checked for what meets what before anything is written, and a kernel's arguments."""

from collections.abc import Mapping
from itertools import combinations, product
from typing import Any

import numpy as np

from stepsmith._backend import addresses, cupy, is_on_gpu
from stepsmith._outputs import is_same, overlaps_itself
from stepsmith.cuda._arrays import DTYPES, argument

__all__ = ["Arguments", "check_lengths", "dense", "is_wide", "numbers", "taken", "zeros"]

Arguments = dict[str, Any]


def taken(owner: str, written: Mapping[str, Any], read: Mapping[str, Any]) -> Arguments:
    """Arguments by name; an output may be an input, element by element, but nothing else may meet what is written.

    Raises:
        TypeError: no array of CuPy, or another dtype than the four.
        ValueError: an array on another device, or arrays that share elements.
    """
    arrays = {name: array for name, array in {**read, **written}.items() if array is not None}
    device = cupy().cuda.runtime.getDevice()
    for name, array in arrays.items():
        _check(owner, name, array, device)
    outputs = {name: array for name, array in written.items() if array is not None}
    _check_apart(owner, outputs, {name: array for name, array in read.items() if array is not None})
    return {name: argument(array) for name, array in {**read, **written}.items()}


def _check(owner: str, name: str, array: Any, device: int) -> None:
    if not is_on_gpu(array):
        kind = f"{type(array).__module__}.{type(array).__qualname__}"
        raise TypeError(f"{owner}: {name} must be an array of CuPy as the others are, got {kind}")
    if array.dtype not in DTYPES:
        rule = "float32, float64, bfloat16 or float16 in native byte order"
        raise TypeError(f"{owner}: {name} must be {rule}, got {array.dtype}")
    if array.data.device_id != device:
        raise ValueError(f"{owner}: {name} must be on the current device, {device}, got one on {array.data.device_id}")


def _check_apart(owner: str, outputs: dict[str, Any], inputs: dict[str, Any]) -> None:
    for name, array in outputs.items():
        if not array.flags.c_contiguous and overlaps_itself(addresses(array)):
            raise ValueError(f"{owner}: {name} must not repeat elements, got an array in which indices share memory")
    arrays = {**inputs, **outputs}
    spans = {name: _span(array) for name, array in arrays.items()}
    for first, second in (*combinations(outputs, 2), *product(outputs, inputs)):
        (low, high), (other_low, other_high) = spans[first], spans[second]
        if max(low, other_low) >= min(high, other_high) or (
            second in inputs and _is_rewritten(inputs[second], outputs)
        ):
            continue
        if np.shares_memory(addresses(arrays[first]), addresses(arrays[second])):
            rule = "must not share elements, got arrays that overlap in memory"
            raise ValueError(f"{owner}: {first} and {second} {rule}")


def _span(array: Any) -> tuple[int, int]:
    """The first and one past the last byte of an element."""
    low, high = array.data.ptr, array.data.ptr + array.nbytes
    if array.size and not array.flags.c_contiguous:
        reach = [(length - 1) * stride for length, stride in zip(array.shape, array.strides)]
        high = low + sum(max(distance, 0) for distance in reach) + array.itemsize
        low += sum(min(distance, 0) for distance in reach)
    return low, high


def _is_rewritten(array: Any, outputs: dict[str, Any]) -> bool:
    """Is one of the outputs the same array? Then each element is read before it is written."""
    return array is not None and any(array is output or is_same(array, output) for output in outputs.values())


def check_lengths(want: int, arrays: Mapping[str, Any]) -> None:
    """Raise unless each array has that many elements; None has any."""
    for name, array in arrays.items():
        if array is not None and array.size != want:
            raise ValueError(f"{name} must have {want} entries, got {array.size}")


def is_wide(array: Any) -> bool:
    """Is float64 what its elements are computed in?"""
    return bool(array.dtype == np.float64)


def dense(array: Any) -> Any:
    """Numbers in a row, from a boundary of 16 bytes on, as a kernel's pointer: the array itself or a copy."""
    if array is None:
        return np.uint64(0)
    if not array.flags.c_contiguous or array.data.ptr % 16:
        array = array.copy()
    return array


def numbers(*shape: int, dtype: Any = np.float64) -> Any:
    """Room for numbers of one call."""
    return cupy().empty(shape, dtype)


def zeros(count: int) -> Any:
    """As many zeros in float64."""
    return cupy().zeros(count, np.float64)
