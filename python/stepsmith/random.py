"""Random numbers by counter: Philox4x32-10, the same bits in any order, at any thread count and after a resume."""

import math
import operator
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from stepsmith import _check
from stepsmith._backend import core_of, is_on_gpu

__all__ = ["uniform"]


def uniform(
    shape: SupportsIndex | tuple[int, ...],
    *,
    seed: int,
    step: int,
    stream: int,
    start: int = 0,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Uniform float32 numbers in [0, 1) that depend on (seed, step, stream, element) alone.

    Element e takes word e mod 4 of the Philox4x32-10 block with the counter (e // 4 low, e // 4 high, step, stream) and
    the key seed; the number is (word >> 8)·2⁻²⁴.

    Args:
        shape: of the result; its element i in C order is element start + i of the stream.
        seed: the key, 0 to 2⁶⁴ - 1.
        step: third counter word, 0 to 2³² - 1.
        stream: fourth counter word, purpose·2²⁴ + index of the tensor or layer.
        start: the first element.
        out: C-contiguous float32 array of that shape to fill, of NumPy or CuPy.

    Raises:
        TypeError, ValueError: for an argument of the wrong kind, range, dtype or layout.

    Follows: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    Example:
        >>> a = uniform(8, seed=1, step=0, stream=0)
        >>> b = uniform(4, seed=1, step=0, stream=0, start=4)
        >>> bool((a[4:] == b).all())
        True
    """
    seed = _check.integer("uniform", "seed", seed, low=0, high=2**64 - 1)
    step = _check.integer("uniform", "step", step, low=0, high=2**32 - 1)
    stream = _check.integer("uniform", "stream", stream, low=0, high=2**32 - 1)
    start = _check.integer("uniform", "start", start, low=0, high=2**64 - 1)
    shape = shape if isinstance(shape, tuple) else (operator.index(shape),)
    if out is None:
        out = np.empty(shape, np.float32)
    elif not (isinstance(out, np.ndarray) or is_on_gpu(out)) or out.dtype != np.float32:
        got = getattr(out, "dtype", type(out).__name__)
        raise TypeError(f"uniform: out must be a float32 NumPy array or one of CuPy, got {got}")
    elif out.shape != shape:
        raise ValueError(f"uniform: out must have shape {shape}, got {out.shape}")
    if start + math.prod(shape) > 2**64:
        raise ValueError(f"uniform: start must leave room for {math.prod(shape)} elements below 2**64, got {start}")
    core_of(out).uniform(out, seed, step, stream, start)
    return out
