"""Micro-batches of an epoch, in an order and of sizes that depend on the clock alone."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from stepsmith._backend import is_on_gpu, same_stream
from stepsmith.init import generator
from stepsmith.train.clock import Clock
from stepsmith.train.model import Batch, brought
from stepsmith.train.prefetch import Prefetched
from stepsmith.train.sources import Indexed, Room, Source, Stream

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
        size: Samples of a micro-batch: a number, or a function of the step (from 0).
        accumulate: Micro-batches a step of the optimizer; the last step of an epoch may have fewer.
        shuffle: Whether each epoch has an order of its own.
        seed: Of order and augmentation.
        steps: Steps after which an epoch ends, if not with the data; None for no such limit.
        augment: Changes a batch; its Generator is keyed by (seed, epoch, position of the batch's first sample).
        prefetch: Micro-batches to prepare ahead in a thread.
        weigh: Gives a batch, after its augmentation, weights of its samples.
        drop_last: Whether an epoch of samples with numbers leaves out the rest that is too small for a micro-batch.
        device: Of the model; arrays of NumPy are brought there when they are used, after all that is done to them.
    """

    source: Source
    size: int | Callable[[int], int]
    accumulate: int = 1
    shuffle: bool = True
    seed: int = 0
    steps: int | None = None
    augment: Augment | None = None
    prefetch: int = 0
    weigh: Callable[[Batch], Batch] | None = None
    drop_last: bool = False
    device: str = "cpu"

    @cached_property
    def _rooms(self) -> deque[Room]:
        """For each micro-batch that is in use, waits or is being made."""
        return deque({} for _ in range(self.prefetch + 2 if self.prefetch else 1))

    def epoch(self, clock: Clock) -> Generator[Micro]:
        """What is left of the running epoch.

        A micro-batch holds until the next one is drawn, or with `prefetch` that many later.
        """
        micros = self._micros(clock.epoch, clock.position, clock.step, clock.epoch_steps, clock.drawn)
        micros = micros if self.prefetch == 0 else self._ahead(micros)
        return micros if self.device == "cpu" else self._brought(micros)

    def _brought(self, micros: Generator[Micro]) -> Generator[Micro]:
        """On the thread of whoever uses them, so that copies and work go by one stream."""
        with closing(micros):
            for micro in micros:
                yield micro._replace(batch=[brought(array, self.device) for array in micro.batch])

    def _ahead(self, micros: Iterator[Micro]) -> Generator[Micro]:
        if self.device != "cpu":
            micros = _within(same_stream(), micros)
        with closing(Prefetched(micros, self.prefetch)) as ahead:
            yield from ahead

    def _micros(self, epoch: int, position: int, step: int, epoch_steps: int, drawn: int) -> Generator[Micro]:
        """Cut batches into windows of the optimizer's steps."""
        left = math.inf if self.steps is None else self.steps - epoch_steps
        if left <= 0:
            return
        in_window, accumulate = 0, self.accumulate
        is_plain = self.augment is None and self.weigh is None
        for batch, is_end in self._batches(epoch, position, step, drawn):
            samples = len(batch[0])
            in_window += 1
            is_last = is_end or in_window == accumulate
            yield Micro(batch if is_plain else self._prepared(batch, epoch, position), samples, is_last)
            position += samples
            if is_last:
                in_window = 0
                left -= 1
                if left <= 0:
                    return

    def _batches(self, epoch: int, position: int, step: int, drawn: int) -> Iterator[tuple[Batch, bool]]:
        """Batches, each with whether the data end after it."""
        if isinstance(self.source, Stream):
            return _with_end(self.source.batches(position, drawn))
        return self._cuts(self.source, epoch, position, step)

    def _cuts(self, source: Indexed, epoch: int, position: int, step: int) -> Iterator[tuple[Batch, bool]]:
        order = source.order(self.seed, epoch) if self.shuffle else None
        samples, rooms, sizes = source.samples, self._rooms, self._sizes(step)
        stop = self._stop(position, next(sizes), samples)
        while stop > position:
            room = rooms[0]
            cut = source.slice(position, stop, room) if order is None else source.take(order[position:stop], room)
            following = self._stop(stop, next(sizes), samples)
            yield cut, following == stop
            rooms.rotate()
            position, stop = stop, following

    def _stop(self, start: int, size: int, samples: int) -> int:
        """Where the micro-batch ends that begins at `start`; there, if there is none."""
        stop = start + size
        if stop <= samples:
            return stop
        return start if self.drop_last else samples

    def _sizes(self, step: int) -> Iterator[int]:
        """The sizes of coming micro-batches: those of a window are equal."""
        size = self.size
        if isinstance(size, int):
            return itertools.repeat(size)
        return (size(number) for number in itertools.count(step) for _ in range(self.accumulate))

    def _prepared(self, batch: Batch, epoch: int, position: int) -> Batch:
        if self.augment is not None:
            # Copies, because a batch may be a view of the user's data.
            own = [array.copy() if is_on_gpu(array) else np.array(array) for array in batch]
            batch = self.augment(own, generator(self.seed, _AUGMENT, epoch, position))
        return batch if self.weigh is None else self.weigh(batch)


def _within(context: AbstractContextManager[Any], micros: Iterator[Micro]) -> Iterator[Micro]:
    """The same, made in a context of the thread that draws them."""
    with context:
        yield from micros


def _with_end(batches: Iterator[Batch]) -> Iterator[tuple[Batch, bool]]:
    """Each item with whether it is the last, found by drawing one ahead."""
    ahead = next(batches, None)
    while ahead is not None:
        batch, ahead = ahead, next(batches, None)
        yield batch, ahead is None
