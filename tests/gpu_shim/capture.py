"""Recordings: what is launched meanwhile runs when the recording is launched, and nothing may wait or allocate."""

from collections.abc import Callable


class Graph:
    """As ``cupy.cuda.graph.Graph``."""

    def __init__(self) -> None:
        self._works: list[Callable[[], None]] = []

    def launch(self, stream: object = None) -> None:
        """Does the work once more."""
        for work in self._works:
            work()

    def upload(self, stream: object = None) -> None:
        """Brings the recording to the device."""


_recording: list[Graph] = []


def begin() -> None:
    """From now on work is recorded."""
    _recording.append(Graph())


def end() -> Graph:
    """The work since `begin`."""
    return _recording.pop()


def is_capturing() -> bool:
    """Is work being recorded?"""
    return bool(_recording)


def refuse() -> None:
    """Fails while work is recorded, as CUDA does where the host would wait or memory be made."""
    if _recording:
        raise RuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing")


def do(work: Callable[[], None]) -> None:
    """Does the work, or records it."""
    if _recording:
        _recording[-1]._works.append(work)
    else:
        work()
