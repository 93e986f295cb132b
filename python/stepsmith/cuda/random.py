"""Random numbers on a GPU."""

from typing import Any

import numpy as np

from stepsmith.cuda._arrays import argument
from stepsmith.cuda._launch import launch_over

__all__ = ["uniform"]


def uniform(out: Any, seed: int, step: int, stream: int, start: int) -> None:
    """As `_core.uniform`."""
    args = argument(out), np.uint64(out.size), np.uint64(seed), np.uint32(step), np.uint32(stream), np.uint64(start)
    launch_over("uniform", "uniform", out.size, args)
