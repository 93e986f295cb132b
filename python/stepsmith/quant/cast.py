"""Casts between stored types, 8-bit floats among them."""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from stepsmith import _check, _core
from stepsmith._backend import require_array
from stepsmith._outputs import FLOATS, check_written, is_same, meets, output
from stepsmith._recycled import empty

__all__ = ["FLOAT8", "cast"]

Array = NDArray[Any]

FLOAT8 = (np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2))
"""8-bit floats."""

CASTS = FLOATS + FLOAT8


def cast(x: Array, dtype: DTypeLike, out: Array | None = None, saturate: bool = True) -> Array:
    """An array as another floating-point type, each number rounded to the nearest one, half to even.

    float64 becomes a narrower type by way of float32; the same type is copied. NaN stays NaN and keeps its sign. In
    bfloat16 and float16 what is too large becomes infinity, as in NumPy. In the 8-bit floats it becomes the largest
    finite number (448 and 57344), infinity too, or without `saturate` what ml_dtypes makes of it: NaN in
    float8_e4m3fn, which has no infinity, infinity in float8_e5m2.

    Args:
        x: float32, float64, bfloat16, float16, float8_e4m3fn or float8_e5m2, of any shape and layout.
        dtype: one of these.
        out: of that dtype and the shape of `x`, of any layout; it may be the memory of `x` if its elements lie where
            those of `x` do and are as large.
        saturate: for the 8-bit floats.

    Returns:
        `out`, or a new array in C order.

    Raises:
        TypeError, ValueError: another dtype, an `out` that does not fit or overlaps `x` otherwise. Nothing has been
            written then.

    Example:
        >>> import ml_dtypes
        >>> x = np.array([0.3, -1000.0], np.float32)
        >>> ss.cast(x, ml_dtypes.float8_e4m3fn).tolist()
        [0.3125, -448.0]
    """
    _require("x", require_array("cast", "x", x).dtype)
    wanted = _require("dtype", np.dtype(dtype))
    _check.boolean("cast", "saturate", saturate)
    if isinstance(x, np.ma.MaskedArray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError("cast: x and out must be plain NumPy arrays, got a masked array, whose mask would be ignored")
    given = empty(x.shape, wanted) if out is None else output("cast", "out", out, x.shape, wanted)
    check_written("cast", {"out": given})
    if x.dtype == wanted:
        _copy(x, given)
    else:
        _core.cast("cast", *_as_stored(x), *_as_stored(given), saturate)
    return given


def _copy(x: Array, out: Array) -> None:
    if meets(x, out) and not is_same(x, out) and np.shares_memory(x, out):
        raise ValueError("cast: x and out must not share elements, got arrays that overlap in memory")
    np.copyto(out, x)


def _require(name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype not in CASTS:
        rule = "float32, float64, bfloat16, float16, float8_e4m3fn or float8_e5m2 in native byte order"
        raise TypeError(f"cast: {name} must be {rule}, got {dtype}")
    return dtype


def _as_stored(array: Array) -> tuple[Array, str | None]:
    """The array, or its bytes and what they mean."""
    return (array.view(np.uint8), array.dtype.name) if array.dtype in FLOAT8 else (array, None)
