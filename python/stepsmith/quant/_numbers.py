"""Numbers that callers give: one, some in a list, or an array of the kind that another one is of."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepsmith._backend import is_on_gpu, moved, namespace, require_same_kind

__all__ = ["as_numbers", "check_shape", "is_array", "one_of", "spread"]

Array = NDArray[Any]


def is_array(value: object) -> bool:
    """Is it an array, of NumPy or CuPy, and neither a number nor a list?"""
    return isinstance(value, np.ndarray) or is_on_gpu(value)


def as_numbers(owner: str, name: str, value: ArrayLike, of: Array) -> Array:
    """The array, which must be of the kind of another one; numbers that are none as one of NumPy, to look at."""
    if is_array(value):
        require_same_kind(owner, name, value, of, "the others")
        return value  # type: ignore[return-value] # it is one
    return np.asarray(value)


def check_shape(owner: str, name: str, numbers: Array, shape: tuple[int, ...]) -> None:
    """There must be one number, or one for each place of the shape."""
    if numbers.shape not in ((), shape):
        raise ValueError(f"{owner}: {name} must have shape {shape} or be one number, got shape {numbers.shape}")


def spread(owner: str, name: str, numbers: Array, shape: tuple[int, ...], of: Array, dtype: Any) -> Array:
    """A copy of the numbers where another array is, one for each place of the shape."""
    check_shape(owner, name, numbers, shape)
    own = namespace(of)
    result: Array = own.array(own.broadcast_to(own.asarray(numbers), shape), dtype, order="C")
    return result


def one_of(numbers: Array) -> Any:
    """The first of some numbers, for a message."""
    return moved(numbers.reshape(-1)[:1], "cpu")[0]
