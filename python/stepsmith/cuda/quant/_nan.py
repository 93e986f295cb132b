"""What becomes of NaN: the kernels keep the place of the first one, the host asks for it."""

from typing import Any

import numpy as np

from stepsmith._backend import cupy
from stepsmith.cuda._arrays import argument
from stepsmith.cuda._launch import launch_over

__all__ = ["FirstNan", "absmax", "check_nan"]

NONE = 2**64 - 1


class FirstNan:
    """The place of the first NaN that kernels find in an array, if one is refused; asking for it waits for them."""

    def __init__(self, is_refused: bool) -> None:
        self._place = cupy().full(1, NONE, np.uint64) if is_refused else None

    @property
    def pointer(self) -> Any:
        """Where kernels keep it."""
        return np.uint64(0) if self._place is None else self._place

    def check(self, owner: str, x: Any) -> None:
        """Raise a ValueError if there is one."""
        if self._place is not None:
            _refuse(owner, x, int(self._place[0]))


def _refuse(owner: str, x: Any, place: int) -> None:
    if place != NONE:
        index = [int(k) for k in np.unravel_index(place, x.shape)]
        raise ValueError(f"{owner}: x must not have NaN (nan='zero' takes it for 0), got one at index {index}")


def _survey(x: Any) -> tuple[int, int]:
    """The bits of the largest magnitude, infinity being the largest number, and the place of the first NaN."""
    found = cupy().empty(2, np.uint64)
    found[0], found[1] = 0, NONE
    launch_over("quantize", "survey", x.size, (argument(x), np.uint64(x.size), found[:1], found[1:]), 16)
    largest, place = found.get().tolist()
    return largest, place


def check_nan(owner: str, x: Any) -> None:
    """Raise a ValueError at the first NaN."""
    _refuse(owner, x, _survey(x)[1])


def absmax(owner: str, x: Any, zeroes_nan: bool) -> float:
    """As `_core.absmax`."""
    largest, place = _survey(x)
    if not zeroes_nan:
        _refuse(owner, x, place)
    return float(np.uint32(largest).view(np.float32))
