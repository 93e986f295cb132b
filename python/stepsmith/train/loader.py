"""Micro-batches of an epoch, in an order and of sizes that depend on the clock alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from stepsmith.init import generator
from stepsmith.nn.buffer import Buffer
from stepsmith.train.clock import Clock
from stepsmith.train.model import Array, Batch
from stepsmith.train.prefetch import Prefetched
from stepsmith.train.sources import Indexed, Source, Stream

__all__ = ["Augment", "Loader", "Micro"]

Augment = Callable[[Batch, np.random.Generator], Batch]

# Keeps these draws apart from others of the same seed; see sources.py.
_AUGMENT = 6


class Micro(NamedTuple):
    """What goes through the model at once."""

    batch: Batch
    samples: int
    is_last: bool
    """The optimizer takes its step after this one."""


@dataclass(frozen=True)
class Loader:
    """How an epoch is cut.

    Attributes:
        source: Of the samples.
        size: Samples of a micro-batch at a step (from 0).
        accumulate: Micro-batches a step of the optimizer; the last step of an epoch may have fewer.
        shuffle: Whether each epoch has an order of its own.
        seed: Of order and augmentation.
        steps: Steps after which an epoch ends, if not with the data; None for no such limit.
        augment: Changes a batch; its Generator is keyed by (seed, epoch, position of the batch's first sample).
        prefetch: Micro-batches to prepare ahead in a thread.
        weigh: Gives a batch, after its augmentation, weights of its samples.
    """

    source: Source
    size: Callable[[int], int]
    accumulate: int = 1
    shuffle: bool = True
    seed: int = 0
    steps: int | None = None
    augment: Augment | None = None
    prefetch: int = 0
    weigh: Callable[[Batch], Batch] | None = None

    @cached_property
    def _buffers(self) -> deque[list[Buffer]]:
        """For each micro-batch that is in use, waits or is being made."""
        return deque([] for _ in range(self.prefetch + 2 if self.prefetch else 1))

    def epoch(self, clock: Clock) -> Generator[Micro]:
        """What is left of the running epoch.

        A micro-batch holds until the next one is drawn, or with `prefetch` that many later.
        """
        micros = self._micros(clock.epoch, clock.position, clock.step, clock.epoch_steps, clock.drawn)
        if self.prefetch == 0:
            yield from micros
            return
        with closing(Prefetched(micros, self.prefetch)) as ahead:
            yield from ahead

    def _micros(self, epoch: int, position: int, step: int, epoch_steps: int, drawn: int) -> Iterator[Micro]:
        """Cut batches into windows of the optimizer's steps."""
        left = None if self.steps is None else self.steps - epoch_steps
        if left is not None and left <= 0:
            return
        in_window, sizes = 0, _Sizes(self.size, self.accumulate, step)
        for batch, is_end in self._batches(epoch, position, drawn, sizes):
            samples = len(batch[0])
            in_window += 1
            is_last = is_end or in_window == self.accumulate
            yield Micro(self._prepared(batch, epoch, position), samples, is_last)
            position += samples
            if is_last:
                in_window = 0
                left = None if left is None else left - 1
                if left == 0:
                    return

    def _batches(self, epoch: int, position: int, drawn: int, sizes: _Sizes) -> Iterator[tuple[Batch, bool]]:
        """Batches, each with whether the data end after it."""
        if isinstance(self.source, Stream):
            return _with_end(self.source.batches(position, drawn))
        return self._cuts(self.source, epoch, position, sizes)

    def _cuts(self, source: Indexed, epoch: int, position: int, sizes: _Sizes) -> Iterator[tuple[Batch, bool]]:
        order = source.order(self.seed, epoch) if self.shuffle else None
        while position < source.samples:
            stop = min(position + sizes.next(), source.samples)
            yield _cut(source, order, position, stop, self._buffers[0]), stop == source.samples
            self._buffers.rotate()
            position = stop

    def _prepared(self, batch: Batch, epoch: int, position: int) -> Batch:
        if self.augment is not None:
            # Copies, because a batch may be a view of the user's data.
            own = [np.array(array) for array in batch]
            batch = self.augment(own, generator(self.seed, _AUGMENT, epoch, position))
        return batch if self.weigh is None else self.weigh(batch)


class _Sizes:
    """The sizes of coming micro-batches: those of a window are equal."""

    def __init__(self, size: Callable[[int], int], accumulate: int, step: int) -> None:
        self.size, self.accumulate, self.step, self.number = size, accumulate, step, 0

    def next(self) -> int:
        """Of the next one."""
        step = self.step + self.number // self.accumulate
        self.number += 1
        return self.size(step)


def _cut(source: Indexed, order: Array | None, start: int, stop: int, into: list[Buffer]) -> Batch:
    return source.slice(start, stop, into) if order is None else source.take(order[start:stop], into)


def _with_end(batches: Iterator[Batch]) -> Iterator[tuple[Batch, bool]]:
    """Each item with whether it is the last, found by drawing one ahead."""
    ahead = next(batches, None)
    while ahead is not None:
        batch, ahead = ahead, next(batches, None)
        yield batch, ahead is None
