"""Ctrl-C between steps, not within them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interrupts"]


class Interrupts:
    """Holds Ctrl-C back while what belongs together is done; a second one does not wait.

    Python sees a signal when a native call returns: without this an optimizer's step could be done and not counted.

    Example:
        >>> interrupts = Interrupts()
        >>> with interrupts.watched(), interrupts:
        ...     pass  # Ctrl-C raises KeyboardInterrupt after this
    """

    def __init__(self) -> None:
        self._previous: Callable[[int, FrameType | None], Any] | None = None
        self._is_held = False
        self._pending: tuple[int, FrameType | None] | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Hold signals back inside, where there is a handler to hand them to; other threads get none."""
        previous = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(previous):
            yield
            return
        self._previous = previous
        signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        assert self._previous is not None
        if self._is_held and self._pending is None:
            self._pending = number, frame
        else:
            self._pending = None
            self._previous(number, frame)

    def hold(self) -> None:
        """From now on Ctrl-C waits."""
        self._is_held = True

    def release(self) -> None:
        """Ctrl-C waits no longer; one that came meanwhile comes now."""
        self._is_held = False
        if self._pending is not None:
            pending, self._pending = self._pending, None
            assert self._previous is not None
            self._previous(*pending)

    def __enter__(self) -> None:
        self.hold()

    def __exit__(self, *_error: object) -> None:
        self.release()
