"""Outputs that are given or made, inputs that an output overlaps, and the one rounding on the way out."""

from itertools import combinations
from typing import Any, TypeVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from stepsmith._backend import addresses, assign, is_on_gpu, namespace, require_array, require_same_kind
from stepsmith._recycled import empty

__all__ = [
    "FLOATS",
    "Four",
    "apart",
    "check_weight",
    "check_written",
    "compute_dtype",
    "is_same",
    "kept",
    "like",
    "meets",
    "of_forward",
    "of_places",
    "output",
    "outputs",
    "overlaps_itself",
    "require_floats",
    "store",
    "unwritten",
]

Array = NDArray[Any]
Four = tuple[Array | None, Array | None, Array | None, Array | None]
Kind = TypeVar("Kind")

_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = (_FLOAT32, _FLOAT64, _BFLOAT16, np.dtype(np.float16))


def require_floats(owner: str, name: str, value: object) -> Array:
    """The value, which must be an array of one of the four dtypes."""
    array = require_array(owner, name, value)
    if array.dtype not in FLOATS:
        rule = "float32, float64, bfloat16 or float16 in native byte order"
        raise TypeError(f"{owner}: {name} must be {rule}, got {array.dtype}")
    return array


def outputs(owner: str, out: object, count: int) -> tuple[Any, ...]:
    """What was given for each of several results, Nones if nothing was."""
    if out is None:
        return (None,) * count
    if not isinstance(out, tuple | list):
        raise TypeError(f"{owner}: out must be a tuple of {count} arrays or Nones, got {type(out).__name__}")
    if len(out) != count:
        raise ValueError(f"{owner}: out must be a tuple of {count} arrays or Nones, got {len(out)}")
    return tuple(out)


def check_written(owner: str, arrays: dict[str, Array | None]) -> None:
    """Given outputs must be writable and share no element, so that an error comes before the first is written."""
    given = [(name, addresses(array)) for name, array in arrays.items() if array is not None]
    for name, array in given:
        if not array.flags.writeable:
            raise ValueError(f"{owner}: {name} must be writable, got a read-only array")
        if overlaps_itself(array):
            raise ValueError(f"{owner}: {name} must not repeat elements, got an array in which indices share memory")
    for (first, a), (second, b) in combinations(given, 2):
        if np.may_share_memory(a, b) and np.shares_memory(a, b):
            raise ValueError(
                f"{owner}: {first} and {second} must not share elements, got arrays that overlap in memory"
            )


def unwritten(array: Array | None, written: tuple[Array | None, ...]) -> Array | None:
    """The array, or a copy if an output takes its memory and a backward pass will read it."""
    if array is None:
        return None
    for out in written:
        if meets(array, out):
            return array.copy()
    return array


def output(
    owner: str, name: str, given: object, shape: tuple[int, ...], dtype: np.dtype[Any], of: Array | None = None
) -> Array:
    """The given array, which must fit, or a new one; of CuPy if `of` is, of NumPy else."""
    if given is None:
        return empty(shape, dtype, of)
    return _fitting(owner, name, given, shape, dtype, of)


def compute_dtype(x: Array) -> np.dtype[Any]:
    """Float64 for float64, else float32."""
    return _FLOAT64 if x.dtype == _FLOAT64 else _FLOAT32


def check_weight(
    owner: str, name: str, value: object, shape: tuple[int, ...], dtype: np.dtype[Any], of: Array | None = None
) -> Array | None:
    """A weight or bias, which must have the shape, the compute type and the kind of `of`; None stays None."""
    return None if value is None else _fitting(owner, name, value, shape, dtype, of)


def _fitting(
    owner: str, name: str, value: object, shape: tuple[int, ...], dtype: np.dtype[Any], of: Array | None
) -> Array:
    """The array, which must have the dtype, the shape and the kind of `of`."""
    array = require_array(owner, name, value)
    if of is not None:
        require_same_kind(owner, name, array, of, "the other arrays")
    if array.dtype != dtype:
        raise TypeError(f"{owner}: {name} must have dtype {dtype}, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{owner}: {name} must have shape {shape}, got {array.shape}")
    return array


def apart(inputs: Four, given: tuple[Array | None, ...]) -> Four:
    """The inputs, with a copy of each that a given output overlaps and is not just the same array."""
    outputs = [out for out in given if out is not None]
    if not outputs:
        return inputs
    a, b, c, d = (_apart(array, outputs) for array in inputs)
    return a, b, c, d


def _apart(array: Array | None, outputs: list[Array]) -> Array | None:
    if array is None:
        return None
    met = (meets(array, out) and not is_same(array, out) for out in outputs)
    return array.copy() if any(met) else array


def meets(array: Array | None, given: Array | None) -> bool:
    """May the array share memory with a given output?"""
    return array is not None and given is not None and np.may_share_memory(addresses(array), addresses(given))


def is_same(a: Array, b: Array) -> bool:
    """Do both have the same elements in the same order?"""
    place_a, place_b = (addresses(array).__array_interface__["data"][0] for array in (a, b))
    return bool(place_a == place_b and a.strides == b.strides and a.shape == b.shape and a.dtype == b.dtype)


def of_places(owner: str, name: str, given: object, of: Array | None) -> Array | None:
    """Where the gradient of a weight or bias goes; None if there was none."""
    if of is not None:
        return output(owner, name, given, of.shape, of.dtype, of)
    if given is not None:
        raise ValueError(f"{owner}: {name} must be None for what the forward pass did without, got an array")
    return None


def like(owner: str, name: str, value: object, x: Array, other: str = "x") -> Array:
    """The value, which must be an array of the dtype and shape of another one."""
    array = require_array(owner, name, value)
    require_same_kind(owner, name, array, x, "the other arrays")
    if array.dtype != x.dtype:
        raise TypeError(f"{owner}: {name} must have the dtype of {other}, {x.dtype}, got {array.dtype}")
    if array.shape != x.shape:
        raise ValueError(f"{owner}: {name} must have the shape of {other}, {x.shape}, got {array.shape}")
    return array


def kept(owner: str, x: Array | None) -> Array:
    """The array of a forward pass, unless its output took the memory."""
    if x is None:
        raise ValueError(
            f"{owner}: saved must hold x, got that of a forward pass whose output took the memory of x; "
            "call it without out=x to go backward"
        )
    return x


def of_forward(owner: str, saved: object, kind: type[Kind]) -> Kind:
    """What the forward pass returned, which must be of this kind."""
    if not isinstance(saved, kind):
        forward = owner.removesuffix("_backward")
        raise TypeError(f"{owner}: saved must be what {forward} returned, {kind.__name__}, got {type(saved).__name__}")
    return saved


def store(result: Array, draws: Array | float) -> Array:
    """Fill the result with float64 numbers, each rounded once: where they are."""
    if is_on_gpu(result) and not is_on_gpu(draws):
        assign(result, store(np.empty(result.shape, result.dtype), draws))
        return result
    result[...] = _odd_float32(namespace(result).asarray(draws)) if result.dtype == _BFLOAT16 else draws
    return result


def _odd_float32(draws: Array) -> Array:
    """float32 numbers that round to the same bfloat16 as the draws do; ml_dtypes would round twice, through nearest.

    An inexact number becomes the odd one of its two float32 neighbours, which no rounding further takes for a tie.
    """
    own, single = namespace(draws), draws.astype(np.float32)
    even = single.view(np.uint32) & 1 == 0
    towards = own.where(draws > single, np.float32(np.inf), np.float32(-np.inf))
    odd: Array = own.where((single != draws) & even, own.nextafter(single, towards), single)
    return odd


def overlaps_itself(array: Array) -> bool:
    """Whether two of its elements share memory."""
    if array.flags.c_contiguous or array.size < 2:
        return False
    reach, nested = array.itemsize, True
    axes = sorted((abs(stride), length) for stride, length in zip(array.strides, array.shape) if length > 1)
    for stride, length in axes:
        nested = nested and stride >= reach
        reach += stride * (length - 1)
    if nested:
        return False
    # Axes that interleave are rare: then every address counts.
    offsets = np.zeros((), np.intp)
    for stride, length in axes:
        offsets = np.add.outer(offsets, stride * np.arange(length))
    return bool((np.diff(np.sort(offsets, axis=None)) < array.itemsize).any())
