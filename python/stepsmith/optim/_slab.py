"""State arrays: views of one zeroed allocation, so that many small tensors share pages and none can be resized.

The allocation is memory, or a file that is mapped into memory and may be larger than that.
"""

import os
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from stepsmith._backend import address_of, cupy, is_on_gpu, namespace

__all__ = ["FILE", "Spec", "allocate", "map_file", "place", "state_dtype_of", "wide_dtype_of"]

Array = NDArray[Any]

_ALIGNMENT = 64
"""Bytes of a cache line: no vector of a state array straddles two."""

FILE = "state.bin"
"""Name of the file in a state directory."""


class Spec(NamedTuple):
    """A state array to be made."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    like: Array | None = None
    """Its axes lie in memory in this array's order, C order without one."""


def wide_dtype_of(param: Array) -> np.dtype[Any]:
    """The type in which the parameter is computed."""
    return np.dtype(np.float64 if param.dtype == np.float64 else np.float32)


def state_dtype_of(param: Array, state_dtype: str) -> np.dtype[Any]:
    """bfloat16, or the type in which the parameter is computed."""
    return np.dtype(ml_dtypes.bfloat16) if state_dtype == "bfloat16" else wide_dtype_of(param)


def allocate(specs: Sequence[Spec], like: object = None) -> list[Array]:
    """Zeros, one array after another in one allocation; on a GPU if `like` is an array there."""
    return place(specs, namespace(like).zeros(_bytes(specs), np.uint8))


def map_file(owner: str, specs: Sequence[Spec], directory: str | os.PathLike[str]) -> Array:
    """Room for them in a new file of the directory, which must be empty or new; a full disk is an OSError here."""
    folder = Path(directory)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{owner}: state_dir must be an empty or a new directory, got {str(folder)!r}")
    folder.mkdir(parents=True, exist_ok=True)
    file, size = folder / FILE, _bytes(specs)
    try:
        with file.open("xb") as opened:
            _reserve(opened.fileno(), size)
        return np.memmap(file, np.uint8, mode="r+", shape=(size,))
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _reserve(descriptor: int, size: int) -> None:
    """Zeros that have a place on the disk, so that none is missing when a step writes them."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)


def _sizes(specs: Sequence[Spec]) -> list[int]:
    return [-(-prod(spec.shape) * spec.dtype.itemsize // _ALIGNMENT) * _ALIGNMENT for spec in specs]


def _bytes(specs: Sequence[Spec]) -> int:
    return sum(_sizes(specs)) + _ALIGNMENT


def place(specs: Sequence[Spec], slab: Array) -> list[Array]:
    """Views of the slab, one after another."""
    offset = -address_of(slab) % _ALIGNMENT
    views = []
    for spec, size in zip(specs, _sizes(specs)):
        views.append(_view(slab, offset, spec))
        offset += size
    return views


def _view(slab: Any, offset: int, spec: Spec) -> Array:
    strides = _strides_like(spec)
    if is_on_gpu(slab):
        view: Array = cupy().ndarray(spec.shape, spec.dtype, slab.data + offset, strides)
        return view
    return np.ndarray(spec.shape, spec.dtype, buffer=slab, offset=offset, strides=strides)


def _strides_like(spec: Spec) -> tuple[int, ...]:
    """Strides without gaps, the axes in the order of the memory of the array it is like."""
    shape = spec.shape
    order = list(range(len(shape)))
    if spec.like is not None:
        outer = [-abs(stride) for stride in spec.like.strides]
        order.sort(key=lambda axis: outer[axis])
    strides = [0] * len(shape)
    for place, axis in enumerate(order):
        strides[axis] = spec.dtype.itemsize * prod(shape[inner] for inner in order[place + 1 :])
    return tuple(strides)
