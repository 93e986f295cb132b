"""An iterator that works ahead in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Prefetched"]

T = TypeVar("T")


class Prefetched(Generic[T]):
    """Draws up to `depth` items ahead of who iterates over it; `close` ends the thread.

    An error of the source arrives where its item would have been.

    Example:
        >>> ahead = Prefetched(iter(range(5)), depth=2)
        >>> list(ahead)
        [0, 1, 2, 3, 4]
        >>> ahead.close()
    """

    def __init__(self, source: Iterator[T], depth: int) -> None:
        # An item, or what ended the source.
        self._queue: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(source,), name="stepsmith-prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item[0]

    def close(self) -> None:
        """End the thread, which finishes the item that it is at."""
        self._closed.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.01)
            except queue.Empty:
                continue
        self._thread.join()

    def _work(self, source: Iterator[T]) -> None:
        end: BaseException | None = None
        try:
            for item in source:
                self._queue.put((item,))
                if self._closed.is_set():
                    return
        except BaseException as error:
            end = error
        self._queue.put(end)
