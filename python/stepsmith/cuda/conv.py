"""Convolutions on a GPU: columns of our own, products of cuBLAS."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepsmith._backend import cupy
from stepsmith.cuda._arrays import DIVISOR, argument, divisor
from stepsmith.cuda._call import check_lengths, dense, is_wide, numbers, taken
from stepsmith.cuda._launch import launch_over
from stepsmith.cuda.window import WindowShape, windows_of

__all__ = ["convolve", "convolve_backward"]

SAMPLES = np.dtype([("first", np.uint64), ("count", np.uint64), ("channels", np.uint64), ("row", DIVISOR)])
"""``struct Samples`` of kernels/columns.cuh."""

COLUMNS = 16 * 1024 * 1024
"""Elements of the columns that are made at a time, at least those of a sample."""


@dataclass(frozen=True)
class _Conv:
    """A convolution: windows over the input, and how many outputs its groups of channels have."""

    shape: WindowShape
    features: int
    groups: int
    suffix: str

    @property
    def samples(self) -> int:
        """Of the batch."""
        return self.shape[0][0]

    @property
    def channels(self) -> int:
        """Of the input, in all groups."""
        return self.shape[0][1]

    @property
    def taps(self) -> int:
        """Of a window in one channel."""
        return self.shape[1][1] * self.shape[2][1]

    @property
    def plane(self) -> int:
        """Elements of a plane of the input."""
        return self.shape[1][0] * self.shape[2][0]

    @property
    def windows(self) -> int:
        """Elements of a plane of the output."""
        windows = windows_of(self.shape)
        return int(windows["rows"]["output"] * windows["columns"]["output"])

    def matrices(self, rows: Any) -> Any:
        """Rows of all groups as a matrix for each; a plain one where there is one group, which is not copied then."""
        return rows if self.groups == 1 else rows.reshape(self.groups, -1, rows.shape[1])

    def parts(self) -> Iterator[tuple[int, int]]:
        """Samples that are worked on at a time: the first and how many."""
        each = max(COLUMNS // max(self.channels * self.taps * self.windows, 1), 1)
        return ((first, min(each, self.samples - first)) for first in range(0, self.samples, each))

    def unfolded(self, x: Any, part: tuple[int, int]) -> Any:
        """What the taps meet, (channels·taps, samples·windows)."""
        columns = numbers(self.channels * self.taps, part[1] * self.windows, dtype=self._dtype)
        self._unfold(columns, x, part, self.shape, self.channels)
        return columns

    def turned(self, dy: Any, part: tuple[int, int]) -> Any:
        """Planes of outputs as (features, samples·windows)."""
        rows = numbers(self.features, part[1] * self.windows, dtype=self._dtype)
        self._unfold(rows, dy, part, self._of_outputs, self.features)
        return rows

    def _unfold(self, columns: Any, x: Any, part: tuple[int, int], shape: WindowShape, channels: int) -> None:
        args = columns, argument(x), windows_of(shape), self._of(part, channels)
        launch_over("columns", f"unfold_{self.suffix}", channels * part[1] * self.windows, args, per_thread=1)

    def fold(self, dx: Any, columns: Any, part: tuple[int, int]) -> None:
        """Adds what the taps met up in the input's planes."""
        self._fold(dx, columns, dense(None), part, self.shape, self.channels)

    def turn_back(self, y: Any, rows: Any, bias: Any, part: tuple[int, int]) -> None:
        """(features, samples·windows) and a bias as planes of outputs."""
        self._fold(y, rows, bias, part, self._of_outputs, self.features)

    def _fold(self, y: Any, columns: Any, bias: Any, part: tuple[int, int], shape: WindowShape, channels: int) -> None:
        args = argument(y), columns, bias, windows_of(shape), self._of(part, channels)
        items = channels * part[1] * shape[1][0] * shape[2][0]
        channels_of = np.array(divisor(channels), DIVISOR)
        launch_over("columns", f"fold_{self.suffix}", items, (*args, channels_of), per_thread=1)

    @property
    def _of_outputs(self) -> WindowShape:
        """The outputs as planes with a window for each element."""
        return (self.samples, self.features), (1, 1, 1, 0, 1), (self.windows, 1, 1, 0, 1)

    def _of(self, part: tuple[int, int], channels: int) -> Any:
        first, count = part
        return np.array((first, count, channels, divisor(max(count * self.windows, 1))), SAMPLES)

    def dense(self, array: Any) -> Any:
        """A parameter as dense numbers of the compute type."""
        return cupy().ascontiguousarray(array, self._dtype)

    @property
    def _dtype(self) -> Any:
        return np.float64 if self.suffix == "f64" else np.float32


def _conv_of(shape: WindowShape, channels: tuple[int, int], x: Any) -> _Conv:
    """The convolution, whose groups must divide its channels."""
    features, groups = channels
    for name, count in (("channels", shape[0][1]), ("features", features)):
        if groups < 1 or count % groups:
            raise ValueError(f"{name} must have {-(-count // max(groups, 1)) * max(groups, 1)} entries, got {count}")
    return _Conv(shape, features, groups, "f64" if is_wide(x) else "f32")


def convolve(
    owner: str,
    out: Any,
    read: tuple[Any, Any | None, Any | None],
    shape: WindowShape,
    channels: tuple[int, int],
) -> None:
    """As `_core.convolve`, but for the order of its sums."""
    x, weight, bias = read
    conv = _conv_of(shape, channels, x)
    taken(owner, {"out": out}, {"x": x, "weight": weight, "bias": bias})
    check_lengths(conv.samples * conv.channels * conv.plane, {"x": x})
    check_lengths(conv.features * conv.channels // conv.groups * conv.taps, {"weight": weight})
    check_lengths(conv.features, {"bias": bias})
    check_lengths(conv.samples * conv.features * conv.windows, {"out": out})
    weight = conv.matrices(conv.dense(weight).reshape(conv.features, -1))
    bias = dense(None if bias is None else conv.dense(bias))
    for part in conv.parts():
        product = cupy().matmul(weight, conv.matrices(conv.unfolded(x, part)))
        conv.turn_back(out, product, bias, part)


def convolve_backward(
    owner: str,
    written: tuple[Any | None, Any, Any | None],
    read: tuple[Any, Any, Any],
    shape: WindowShape,
    channels: tuple[int, int],
) -> None:
    """As `_core.convolve_backward`, but for the order of its sums."""
    (dx, dweight, dbias), (x, weight, dy) = written, read
    conv = _conv_of(shape, channels, x)
    taken(owner, {"dx": dx, "dweight": dweight, "dbias": dbias}, {"x": x, "weight": weight, "dy": dy})
    check_lengths(conv.samples * conv.channels * conv.plane, {"dx": dx, "x": x})
    check_lengths(conv.features * conv.channels // conv.groups * conv.taps, {"dweight": dweight, "weight": weight})
    check_lengths(conv.features, {"dbias": dbias})
    check_lengths(conv.samples * conv.features * conv.windows, {"dy": dy})
    weight = conv.matrices(conv.dense(weight).reshape(conv.features, -1))
    sums, biases = cupy().zeros(dweight.size, weight.dtype), cupy().zeros(conv.features, np.float64)
    for part in conv.parts():
        rows = conv.turned(dy, part)
        sums += _weight_gradient(conv, rows, conv.unfolded(x, part)).reshape(-1)
        biases += rows.sum(axis=1, dtype=np.float64)
        if dx is not None:
            columns = cupy().matmul(weight.swapaxes(-1, -2), conv.matrices(rows))
            conv.fold(dx, columns, part)
    dweight[...] = sums.reshape(dweight.shape)
    if dbias is not None:
        dbias[...] = biases.reshape(dbias.shape)


def _weight_gradient(conv: _Conv, rows: Any, columns: Any) -> Any:
    """Rows times transposed columns, for each group; of several groups the other way round, which copies the rows."""
    if conv.groups == 1:
        return cupy().matmul(rows, columns.T)
    return cupy().matmul(conv.matrices(columns), conv.matrices(rows).swapaxes(1, 2)).swapaxes(1, 2)
