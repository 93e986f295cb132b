"""The oracle of storage: stored elements in the compute type and back, and how rules choose between numbers."""

from typing import Any

import ml_dtypes
import numpy as np

from reference_codes import CodedType

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64), "bf16": BFLOAT16, "f16": np.dtype(np.float16)}

Array = np.ndarray[Any, Any]


def compute_type(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    return np.float64 if dtype == np.float64 else np.float32


def decode(array: Array, compute: type[np.floating[Any]]) -> Array:
    """Stored elements in the compute type; float64 is rounded once where that is float32."""
    return array.astype(compute)


def encode(array: Array, dtype: np.dtype[Any], words: Array | None = None) -> Array:
    """Rounded to storage; float64 becomes a 16-bit type by way of float32."""
    if isinstance(dtype, CodedType):
        return dtype.encode(array, words)
    return array.astype(np.float32).astype(dtype) if dtype.itemsize == 2 else array.astype(dtype)


def wide(array: Array, compute: type[np.floating[Any]] | None = None) -> Array:
    """float64 of the values that the elements have in the compute type, in C order."""
    return decode(array, compute or compute_type(array.dtype)).astype(np.float64).reshape(-1)


def larger(a, b):
    return np.where(a > b, a, b)


def sign(x):
    one = x.dtype.type(1)
    return np.where(x > 0, one, np.where(x < 0, -one, one - one))
