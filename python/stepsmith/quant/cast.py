"""Casts between stored types, 8-bit floats among them."""

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from stepsmith import _check
from stepsmith._backend import addresses, core_of, is_on_gpu, namespace, require_array
from stepsmith._outputs import FLOATS, check_written, is_same, meets, output
from stepsmith._recycled import empty

__all__ = ["FLOAT8", "cast"]

Array = NDArray[Any]

FLOAT8 = (np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2))
"""8-bit floats."""

CASTS = FLOATS + FLOAT8


def cast(
    x: Array, dtype: DTypeLike, out: Array | None = None, saturate: bool = True, x_dtype: DTypeLike | None = None
) -> Array:
    """An array as another floating-point type, each number rounded to the nearest one, half to even.

    float64 becomes a narrower type by way of float32; the same type is copied. NaN stays NaN and keeps its sign. In
    bfloat16 and float16 what is too large becomes infinity, as in NumPy. In the 8-bit floats it becomes the largest
    finite number (448 and 57344), infinity too, or without `saturate` what ml_dtypes makes of it: NaN in
    float8_e4m3fn, which has no infinity, infinity in float8_e5m2.

    CuPy has no 8-bit floats: on a GPU their bytes are uint8, also those of the result, and `x_dtype` says what those of
    `x` are.

    Args:
        x: float32, float64, bfloat16, float16, float8_e4m3fn or float8_e5m2, of any shape and layout.
        dtype: one of these.
        out: of that dtype and the shape of `x`, of any layout; it may be the memory of `x` if its elements lie where
            those of `x` do and are as large.
        saturate: for the 8-bit floats.
        x_dtype: float8_e4m3fn or float8_e5m2 for an `x` of uint8.

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
    given = _dtype_of(require_array("cast", "x", x), x_dtype)
    wanted = _require("dtype", np.dtype(dtype))
    _check.boolean("cast", "saturate", saturate)
    if isinstance(x, np.ma.MaskedArray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError("cast: x and out must be plain NumPy arrays, got a masked array, whose mask would be ignored")
    stored = np.dtype(np.uint8) if wanted in FLOAT8 and is_on_gpu(x) else wanted
    y = empty(x.shape, stored, x) if out is None else output("cast", "out", out, x.shape, stored, x)
    check_written("cast", {"out": y})
    if given == wanted:
        _copy(x, y)
    else:
        core_of(x).cast("cast", *_as_stored(x, given), *_as_stored(y, wanted), saturate)
    return y


def _dtype_of(x: Array, x_dtype: DTypeLike | None) -> np.dtype[Any]:
    """What the elements are."""
    if x_dtype is None:
        return _require("x", x.dtype)
    given = np.dtype(x_dtype)
    if given not in FLOAT8:
        raise TypeError(f"cast: x_dtype must be float8_e4m3fn or float8_e5m2, got {given}")
    if x.dtype not in (given, np.uint8):
        raise TypeError(f"cast: x must be uint8, the bytes of {given}, got {x.dtype}")
    return given


def _copy(x: Array, out: Array) -> None:
    if meets(x, out) and not is_same(x, out) and np.shares_memory(addresses(x), addresses(out)):
        raise ValueError("cast: x and out must not share elements, got arrays that overlap in memory")
    namespace(x).copyto(out, x if x.dtype == out.dtype else x.view(out.dtype))


def _require(name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype not in CASTS:
        rule = "float32, float64, bfloat16, float16, float8_e4m3fn or float8_e5m2 in native byte order"
        raise TypeError(f"cast: {name} must be {rule}, got {dtype}")
    return dtype


def _as_stored(array: Array, dtype: np.dtype[Any]) -> tuple[Array, str | None]:
    """The array, or its bytes and what they mean."""
    return (array.view(np.uint8), dtype.name) if dtype in FLOAT8 else (array, None)
