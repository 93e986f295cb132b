"""Windows that slide over planes: their numbers, checked, and the shapes that they make."""

from __future__ import annotations

from dataclasses import dataclass

from stepsmith import _check
from stepsmith.nn.buffer import Array

__all__ = ["AxisShape", "Pair", "WindowShape", "Windows", "check_planes", "pair"]

Pair = tuple[int, int]
AxisShape = tuple[int, int, int, int, int]
WindowShape = tuple[Pair, AxisShape, AxisShape]


def pair(owner: str, name: str, value: int | tuple[int, int], low: int = 1) -> Pair:
    """Two integers of at least `low`, for rows and columns, or one for both."""
    if not isinstance(value, tuple | list):
        number = _check.integer(owner, name, value, low=low)
        return number, number
    if len(value) != 2:
        raise ValueError(f"{owner}: {name} must be an integer or two of them, got {value!r}")
    rows, columns = (_check.integer(owner, f"{name}[{i}]", number, low=low) for i, number in enumerate(value))
    return rows, columns


def check_planes(owner: str, x: Array, channels: int | None = None) -> None:
    """Fails unless `x` has shape (samples, channels, rows, columns)."""
    if x.ndim != 4 or (channels is not None and x.shape[1] != channels):
        wanted = "channels" if channels is None else channels
        raise ValueError(f"{owner}: input must have shape (samples, {wanted}, rows, columns), got {x.shape}")


@dataclass(frozen=True, slots=True)
class Windows:
    """A window of `kernel` taps, `dilation` apart, every `stride` elements of planes with `padding` around them."""

    owner: str
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def of(self, x: Array, features: int) -> tuple[WindowShape, tuple[int, int, int, int]]:
        """What the core wants to know of an input, and the shape of an output of so many channels."""
        samples, channels, *sizes = x.shape
        heights, widths = zip(sizes, self.kernel, self.stride, self.padding, self.dilation)
        rows, columns = (self._output(axis, size) for axis, size in enumerate(sizes))
        return ((samples, channels), heights, widths), (samples, features, rows, columns)

    def reach(self) -> Pair:
        """Rows and columns from the first tap to the last, both counted."""
        rows, columns = (step * (taps - 1) + 1 for step, taps in zip(self.dilation, self.kernel))
        return rows, columns

    def _output(self, axis: int, size: int) -> int:
        reach, padding = self.reach()[axis], self.padding[axis]
        if size + 2 * padding < reach:
            name = ("rows", "columns")[axis]
            raise ValueError(f"{self.owner}: input must have at least {reach - 2 * padding} {name}, got {size}")
        return (size + 2 * padding - reach) // self.stride[axis] + 1
