"""Casts between stored types on a GPU; 8-bit floats come as their bytes."""

from typing import Any

import numpy as np

from stepsmith.cuda._arrays import argument
from stepsmith.cuda._launch import launch_over

__all__ = ["cast"]

FORMATS = {"float8_e4m3fn": 5, "float8_e5m2": 6, None: None}
"""``enum Format`` of kernels/cast.cuh."""


def cast(owner: str, x: Any, x_format: str | None, out: Any, out_format: str | None, saturates: bool) -> None:
    """As `_core.cast`."""
    args = argument(x, FORMATS[x_format]), argument(out, FORMATS[out_format]), np.uint64(x.size), np.int32(saturates)
    launch_over("cast", "cast", x.size, args)
