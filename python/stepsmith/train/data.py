"""Batches of a data set, in an order that depends on (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from stepsmith.init import generator
from stepsmith.train.model import Array, Batch

__all__ = ["Batches", "check_array", "check_data"]

# Keeps the shuffle's stream apart from other draws of the same seed: one past the purposes that Philox knows.
_SHUFFLE = 4


class Batches:
    """Cuts arrays of equal length into batches; the last one may be smaller and is kept.

    Shuffled batches are copied into one buffer, so a batch holds until the next one is taken; others are views.

    Args:
        data: Arrays with the samples along axis 0.
        batch_size: Samples in a batch.
        shuffle: Whether each epoch has its own order.
        seed: Of the order.

    Example:
        >>> batches = Batches((np.arange(5),), batch_size=2, shuffle=False, seed=0)
        >>> [batch[0].tolist() for batch in batches.epoch(0)]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, data: Batch, batch_size: int, shuffle: bool, seed: int) -> None:
        self.data, self.batch_size, self.shuffle, self.seed = tuple(data), batch_size, shuffle, seed
        self.samples = len(data[0])
        rows = min(batch_size, self.samples)
        self._buffers = [np.empty((rows, *array.shape[1:]), array.dtype) for array in data] if shuffle else []

    def count(self, position: int = 0) -> int:
        """Number of batches of an epoch from sample `position` on."""
        return -(-(self.samples - position) // self.batch_size)

    def order(self, epoch: int) -> Array:
        """The shuffled indices of an epoch, the first is 0."""
        return generator(self.seed, _SHUFFLE, epoch).permutation(self.samples)

    def epoch(self, epoch: int, position: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from sample `position` on."""
        order = self.order(epoch) if self.shuffle else None
        for start in range(position, self.samples, self.batch_size):
            stop = min(start + self.batch_size, self.samples)
            if order is None:
                yield tuple(array[start:stop] for array in self.data)
            else:
                yield self._gather(order[start:stop])

    def _gather(self, indices: Array) -> Batch:
        n = len(indices)
        # "clip" because "raise" would fill a hidden copy of the buffer first; a permutation is never out of range.
        pairs = zip(self.data, self._buffers, strict=True)
        return [array.take(indices, axis=0, out=buffer[:n], mode="clip") for array, buffer in pairs]


def check_data(argument: str, data: Batch) -> None:
    """Check a tuple of arrays with one length.

    Raises:
        TypeError: Not a tuple or list of NumPy arrays.
        ValueError: No array, a 0-d one, no samples, or lengths that differ.
    """
    if not isinstance(data, (tuple, list)):
        raise TypeError(f"Trainer: {argument} must be a tuple of arrays, got {type(data).__name__}")
    for index, array in enumerate(data):
        check_array(f"{argument}[{index}]", array)
    lengths = [len(array) if array.ndim else 0 for array in data]
    if len(set(lengths)) > 1:
        raise ValueError(f"Trainer: arrays of {argument} must have one length, got {lengths}")
    if not lengths or lengths[0] == 0:
        raise ValueError(f"Trainer: {argument} must not be empty, got shapes {[array.shape for array in data]}")


def check_array(argument: str, array: Array) -> None:
    """`TypeError` unless a NumPy array."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"Trainer: {argument} must be a NumPy array, got {type(array).__name__}")
