"""Numbers that callers give: one, some in a list, or an array of the kind that another one is of."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepsmith._backend import is_on_gpu, namespace, require_same_kind

__all__ = ["as_numbers", "is_array"]

Array = NDArray[Any]


def is_array(value: object) -> bool:
    """Is it an array, of NumPy or CuPy, and neither a number nor a list?"""
    return isinstance(value, np.ndarray) or is_on_gpu(value)


def as_numbers(owner: str, name: str, value: ArrayLike, of: Array) -> Array:
    """Numbers as an array where another one is; a TypeError for an array of the other kind."""
    if is_array(value):
        require_same_kind(owner, name, value, of, "x")
    numbers: Array = namespace(of).asarray(value)
    return numbers
