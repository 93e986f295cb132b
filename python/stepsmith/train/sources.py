"""Where samples come from: arrays, anything that can be indexed, or anything that yields batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stepsmith._backend import device_of, is_on_gpu, moved, namespace, one_core
from stepsmith._interchange import asarray
from stepsmith.init import generator
from stepsmith.train.model import Array, Batch

__all__ = ["Arrays", "Dataset", "Indexed", "Room", "Source", "Stream", "check_arrays", "open_source", "split"]

# Keep the draws of one seed apart; the purposes that Philox knows end at 3.
_SHUFFLE, _SPLIT = 4, 5


Room = dict[int, list[Array]]
"""Number of samples → arrays for them, to be filled again."""


class Indexed(ABC):
    """A source whose samples have numbers.

    Args:
        total: Samples of all the data.
        rows: Numbers of those that belong to this source; None for all.
    """

    def __init__(self, total: int, rows: Array | None = None) -> None:
        self.rows = rows
        self.samples = total if rows is None else len(rows)

    @abstractmethod
    def take(self, rows: Array, into: Room) -> Batch:
        """The samples of these numbers; the room keeps the arrays that they lie in."""

    @abstractmethod
    def only(self, rows: Array) -> Indexed:
        """The same data, but these samples of it."""

    def slice(self, start: int, stop: int, into: Room) -> Batch:
        """Samples in their own order."""
        rows = np.arange(start, stop) if self.rows is None else self.rows[start:stop]
        return self.take(rows, into)

    def order(self, seed: int, epoch: int) -> Array:
        """The shuffled numbers of an epoch, the first is 0: a function of (seed, epoch) alone."""
        order = generator(seed, _SHUFFLE, epoch).permutation(self.samples)
        return order if self.rows is None else self.rows[order]


class Arrays(Indexed):
    """A tuple of arrays with the samples along axis 0; memory-mapped ones are read as far as they are needed.

    Arrays of CuPy stay on their device, where the samples of a batch are brought together.
    """

    def __init__(self, arrays: Batch, rows: Array | None = None) -> None:
        super().__init__(len(arrays[0]), rows)
        self.arrays = tuple(arrays)

    def take(self, rows: Array, into: Room) -> Batch:
        """Copies in the buffers."""
        outs = into.get(len(rows))
        if outs is None:
            if len(into) > 1:  # a whole batch and the last one of an epoch; sizes that grow leave no trail
                into.clear()
            outs = into[len(rows)] = [namespace(a).empty((len(rows), *a.shape[1:]), a.dtype) for a in self.arrays]
        if is_on_gpu(self.arrays[0]):
            rows = moved(rows, device_of(self.arrays[0]))
            return [a.take(rows, 0, out) for a, out in zip(self.arrays, outs)]
        # "clip" because "raise" would fill a hidden copy of the buffer first; these numbers are never out of range.
        return [a.take(rows, 0, out, "clip") for a, out in zip(self.arrays, outs)]

    def only(self, rows: Array) -> Arrays:
        """The same arrays."""
        return Arrays(self.arrays, rows)

    def slice(self, start: int, stop: int, into: Room) -> Batch:
        """Views where the arrays are taken as they are."""
        if self.rows is not None:
            return super().slice(start, stop, into)
        return [array[start:stop] for array in self.arrays]


class Dataset(Indexed):
    """An object with ``__len__`` and ``__getitem__``, whose items are samples: tuples of arrays and numbers."""

    def __init__(self, data: Any, rows: Array | None = None) -> None:
        super().__init__(len(data), rows)
        self.data = data

    def take(self, rows: Array, into: Room) -> Batch:
        """The samples one by one, stacked."""
        samples = [self._sample(int(row)) for row in rows]
        return [namespace(column[0]).stack(column) for column in zip(*samples, strict=True)]

    def _sample(self, row: int) -> tuple[Array, ...]:
        sample = self.data[row]
        if not isinstance(sample, tuple | list):
            raise TypeError(f"Trainer: data[{row}] must be a tuple such as (x, y), got {type(sample).__name__}")
        return tuple([part if is_on_gpu(part) else np.asarray(part) for part in sample])

    def only(self, rows: Array) -> Dataset:
        """The same object."""
        return Dataset(self.data, rows)


class Stream:
    """Anything that yields batches: tuples of arrays or PyTorch tensors, each batch with memory of its own.

    What can be iterated anew begins anew in each epoch. A plain iterator goes on through all epochs; a resumed run
    draws again and throws away what it had.

    Args:
        data: The iterable.
    """

    def __init__(self, data: Iterable[Batch]) -> None:
        self.data = data
        self.is_plain = isinstance(data, Iterator)
        self._drawn = 0
        self._recent: deque[tuple[int, Batch]] = deque(maxlen=1)

    def keep(self, batches: int) -> None:
        """So many that a plain iterator has given may not have been trained when a fit breaks off."""
        self._recent = deque(self._recent, maxlen=max(batches, self._recent.maxlen or 0))

    def batches(self, position: int, drawn: int) -> Iterator[Batch]:
        """An epoch's batches after `position` samples of it, or after `drawn` batches of a plain iterator."""
        batches = self._onward(drawn) if self.is_plain else _after(iter(self.data), position)
        return (_arrays_of(batch) for batch in batches)

    def _onward(self, drawn: int) -> Iterator[Batch]:
        """From batch number `drawn` on, those first that a fit drew and broke off before it trained them."""
        again = [batch for number, batch in self._recent if number >= drawn]
        if self._drawn - len(again) > drawn:
            raise ValueError(f"Trainer: data must go on after {drawn} batches, got an iterator that is past them")
        yield from again
        for batch in self.data:
            self._drawn += 1
            if self._drawn > drawn:
                self._recent.append((self._drawn - 1, batch))
                yield batch
        if self._drawn < drawn:
            raise ValueError(f"Trainer: data must yield the {drawn} batches already done, got {self._drawn}")


def _arrays_of(batch: Any) -> Batch:
    if not isinstance(batch, tuple | list):
        raise TypeError(f"Trainer: data must yield tuples such as (inputs, targets), got {type(batch).__name__}")
    return [asarray(part) for part in batch]


def _after(iterator: Iterator[Batch], position: int) -> Iterator[Batch]:
    """What follows `position` samples, which must end a batch."""
    seen = 0
    while seen < position:
        batch = next(iterator, None)
        if batch is None:
            raise ValueError(f"Trainer: data must be longer than the {position} samples already done of it")
        seen += len(batch[0])
    if seen > position:
        raise ValueError(f"Trainer: data must yield the batches of before, got one that ends at {seen}, not {position}")
    return iterator


Source = Indexed | Stream


def open_source(argument: str, data: Any) -> Source:
    """The source for what a user hands in.

    Raises:
        TypeError: What is none of the kinds, or a tuple with something else than arrays.
        ValueError: No samples, or arrays of different lengths.
    """
    if _is_array(data) or isinstance(data, Mapping):
        got = "one array" if _is_array(data) else f"a {type(data).__name__}"
        raise TypeError(f"Trainer: {argument} must be a tuple of arrays such as (X, y), got {got}")
    if isinstance(data, tuple) or (isinstance(data, list) and all(_is_array(item) for item in data)):
        check_arrays(argument, data)
        return Arrays(data)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        if len(data) == 0:
            raise ValueError(f"Trainer: {argument} must not be empty, got a length of 0")
        return Dataset(data)
    if isinstance(data, Iterable):
        return Stream(data)
    kinds = "a tuple of arrays, an object with __len__ and __getitem__, or an iterable of batches"
    raise TypeError(f"Trainer: {argument} must be {kinds}, got {type(data).__name__}")


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) or is_on_gpu(value)


def check_arrays(argument: str, data: Sequence[Any]) -> None:
    """Check that all are arrays of one kind and one length."""
    for index, array in enumerate(data):
        if not _is_array(array):
            raise TypeError(f"Trainer: {argument}[{index}] must be a NumPy array, got {type(array).__name__}")
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"Trainer: {argument}[{index}] must be an array without a mask, got a masked one")
    one_core("Trainer", {f"{argument}[{index}]": array for index, array in enumerate(data)})
    lengths = [len(array) if array.ndim else 0 for array in data]
    if len(set(lengths)) > 1:
        raise ValueError(f"Trainer: arrays of {argument} must have one length, got {lengths}")
    if not lengths or lengths[0] == 0:
        raise ValueError(f"Trainer: {argument} must not be empty, got shapes {[array.shape for array in data]}")


def split(source: Source, fraction: float, seed: int) -> tuple[Indexed, Indexed]:
    """Training and validation part, drawn at random: a function of (seed, number of samples) alone.

    Raises:
        TypeError: A stream, whose samples have no numbers.
        ValueError: A part without samples.
    """
    if isinstance(source, Stream):
        raise TypeError("Trainer: validation must be data of its own beside an iterable, got a fraction")
    held = round(fraction * source.samples)
    if not 0 < held < source.samples:
        rule = f"must leave samples on both sides of {source.samples}"
        raise ValueError(f"Trainer: validation {rule}, got {fraction}")
    order = generator(seed, _SPLIT).permutation(source.samples)
    return source.only(np.sort(order[held:])), source.only(np.sort(order[:held]))
