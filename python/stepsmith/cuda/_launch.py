"""Grids and launches."""

from functools import cache
from typing import Any

from stepsmith._backend import cupy
from stepsmith.cuda._module import kernel

__all__ = ["THREADS", "launch", "launch_over", "launch_resident"]

THREADS = 256
"""Of a block, unless a kernel wants others."""

RESIDENT = 8
"""Blocks of 256 threads that a multiprocessor has room for."""

MOST_BLOCKS = 1 << 16
"""Of a grid; kernels go on from there by strides."""


def launch(
    program: str, name: str, blocks: int, args: tuple[Any, ...], threads: int = THREADS, shared: int = 0
) -> None:
    """Runs a kernel on the current stream; nothing for a grid without blocks."""
    if blocks:
        kernel(program, name)((blocks,), (threads,), args, shared_mem=shared)


def launch_over(program: str, name: str, count: int, args: tuple[Any, ...], per_thread: int = 4) -> None:
    """Runs a kernel with a thread for each few of `count` elements."""
    launch(program, name, min(-(-count // (THREADS * per_thread)), MOST_BLOCKS), args)


def launch_resident(program: str, name: str, blocks: int, args: tuple[Any, ...]) -> None:
    """Runs a kernel whose blocks begin with a table: with no more of them than the device has room for."""
    room = RESIDENT * _multiprocessors(cupy().cuda.runtime.getDevice())
    launch(program, name, min(blocks, room), args)


@cache
def _multiprocessors(device: int) -> int:
    count: int = cupy().cuda.Device(device).attributes["MultiProcessorCount"]
    return count
