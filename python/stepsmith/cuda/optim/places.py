"""Where the elements of arrays lie, and the order in which a kernel visits those of several arrays."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from stepsmith import _core
from stepsmith._backend import require_same_kind
from stepsmith.cuda._arrays import DTYPES

__all__ = ["Order", "Place", "alignment", "check", "order_of", "place_of"]

Place = tuple[int, int, tuple[int, ...], tuple[int, ...]]
"""Address, bytes an element, shape, bytes from one element to the next along each axis."""


def place_of(array: Any) -> Place:
    """Where the array's elements lie."""
    return array.data.ptr, array.itemsize, array.shape, array.strides


def check(owner: str, name: str, array: Any, like: Any) -> None:
    """Fails unless kernels can work on the array beside another one of the same device."""
    require_same_kind(owner, name, array, like)
    if array.dtype not in DTYPES:
        rule = "must be float32, float64, bfloat16 or float16 in native byte order"
        raise TypeError(f"{owner}: {name} {rule}, got {array.dtype!r}")
    if array.device != like.device:
        want, got = f"cuda:{like.device.id}", f"cuda:{array.device.id}"
        raise ValueError(f"{owner}: {name} must be on {want} as the parameters are, got an array on {got}")
    if any(number % array.itemsize for number in (array.data.ptr, *array.strides)):
        rule = "must be aligned to its elements"
        raise ValueError(f"{owner}: {name} {rule}, got an array that begins or goes on inside an element")


def alignment(item: int) -> int:
    """What addresses must be multiples of, so that four elements are on a boundary of their own."""
    return min(4 * item, 16)


class Order(NamedTuple):
    """How several arrays of one shape are visited."""

    axes: int
    """0: every array is dense in it."""
    numbers: tuple[int, ...]
    """For each axis its length, then for each array the bytes from one element to the next."""
    starts: tuple[int, ...]
    """For each array the bytes from its first element to that of the order."""
    dense: tuple[bool, ...]
    """For each array whether it has no gaps in this order."""


def order_of(places: Sequence[Place | None], by_memory: bool) -> Order:
    """C order, or that of the first array's memory; arrays that are not there are everywhere."""
    places_there = [place for place in places if place is not None]
    _, _, shape, strides = places_there[0]
    if all(_is_c(place) for place in places_there):
        return Order(0, (), (0,) * len(places), (True,) * len(places))
    all_strides = [strides if place is None else place[3] for place in places]
    lengths, steps, starts = _core.walk(shape, all_strides, by_memory)
    dense = tuple(place is None or _is_dense(lengths, own, place[1]) for place, own in zip(places, steps))
    if all(dense) and len(lengths) <= 1:
        return Order(0, (), tuple(starts), dense)
    numbers: list[int] = []
    for axis, length in enumerate(lengths):
        numbers += [length, *(0 if place is None else own[axis] for place, own in zip(places, steps))]
    return Order(len(lengths), tuple(numbers), tuple(starts), dense)


def _is_c(place: Place) -> bool:
    _, item, shape, strides = place
    return prod(shape) == 0 or _is_dense(shape, strides, item)


def _is_dense(shape: Sequence[int], strides: Sequence[int], item: int) -> bool:
    """Does each element follow the last one, in C order?"""
    for length, stride in zip(reversed(shape), reversed(strides)):
        if length != 1 and stride != item:
            return False
        item *= length
    return True
