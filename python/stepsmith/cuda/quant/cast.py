"""Casts between stored types on a GPU; 8-bit floats come as their bytes."""

from typing import Any

import numpy as np

from stepsmith._backend import addresses
from stepsmith.cuda._arrays import argument
from stepsmith.cuda._launch import launch_over

__all__ = ["cast"]

FORMATS = {"float8_e4m3fn": 5, "float8_e5m2": 6, None: None}
"""``enum Format`` of kernels/cast.cuh."""


def cast(owner: str, x: Any, x_format: str | None, out: Any, out_format: str | None, saturates: bool) -> None:
    """As `_core.cast`."""
    _check_apart(owner, x, out)
    args = argument(x, FORMATS[x_format]), argument(out, FORMATS[out_format]), np.uint64(x.size), np.int32(saturates)
    launch_over("cast", "cast", x.size, args)


def _check_apart(owner: str, x: Any, out: Any) -> None:
    """Elements may be rewritten one by one, but not shared otherwise."""
    is_rewritten = (x.data.ptr, x.strides, x.itemsize) == (out.data.ptr, out.strides, out.itemsize)
    if not is_rewritten and np.shares_memory(addresses(x), addresses(out)):
        raise ValueError(f"{owner}: x and out must not share elements, got arrays that overlap in memory")
