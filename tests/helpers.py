"""What several test files need: bit equality, test data, layouts, runs in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
HERE = Path(__file__).parent
BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def different(got: Array, want: Array) -> Array:
    """Indices of elements whose bits differ; NaN equals NaN."""
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    if got.tobytes() == want.tobytes():
        return np.zeros(0, np.intp)
    got, want = np.array(got, order="C").reshape(-1), np.array(want, order="C").reshape(-1)
    bits = BITS[got.dtype.itemsize]
    same = (got.view(bits) == want.view(bits)) | (np.isnan(got) & np.isnan(want))
    return np.flatnonzero(~same)


def assert_same_bits(got: Array, want: Array, what: str = "") -> None:
    wrong = different(got, want)
    if wrong.size:
        i = wrong[0]
        pair = f"{got.reshape(-1)[i]!r} instead of {want.reshape(-1)[i]!r}"
        raise AssertionError(f"{what} {wrong.size} of {got.size} elements differ, first at {i}: {pair}")


def values(rng: np.random.Generator, shape: int | tuple[int, ...], dtype: np.dtype[Any] | type) -> Array:
    """Numbers over some 30 binary orders of magnitude, with zeros of both signs among them."""
    x = rng.standard_normal(shape) * 2.0 ** rng.uniform(-24, 4, shape)
    x = np.where(rng.random(shape) < 0.02, np.copysign(0.0, x), x)
    return np.asarray(x, np.float32).astype(dtype) if np.dtype(dtype).itemsize == 2 else np.asarray(x).astype(dtype)


def flat_state(row: Any) -> dict[str, Array]:
    """Slot → array of a tensor's state; codes and scales of one that has codes, ours or the oracle's."""
    flat: dict[str, Array] = {}
    for slot, x in row.items():
        flat |= {f"{slot}.{part}": y for part, y in x.parts.items()} if hasattr(x, "parts") else {slot: x}
    return flat


def misaligned(array: Array) -> Array:
    """A copy whose elements start at odd addresses."""
    raw = np.zeros(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64 + 1
    view = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert array.size == 0 or array.itemsize == 1 or not view.flags.aligned
    return view


def offset(array: Array) -> Array:
    """A copy that starts one element after a cache line's first."""
    raw = np.zeros(array.size * array.itemsize + 128, np.uint8)
    start = -raw.ctypes.data % 64 + array.itemsize
    view = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


LAYOUTS = ("C", "F", "strided", "negative", "misaligned", "offset")


def laid_out(array: Array, layout: str) -> Array:
    """The same logical array in other clothes."""
    if layout == "strided":
        wide = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
        view = wide[(..., *(slice(None, None, 2),) * array.ndim)]
        view[...] = array
        return view
    if layout == "negative":
        back = (..., *(slice(None, None, -1),) * array.ndim)
        return array[back].copy()[back]
    ways = {"C": np.copy, "F": lambda x: np.array(x, order="F"), "misaligned": misaligned, "offset": offset}
    return ways[layout](array)


def run_python(code: str, *, environment: dict[str, str | None] | None = None, timeout: float = 120) -> str:
    """Standard output of a program in a process of its own; it must end well."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environ(environment or {}),
        cwd=HERE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def environ(changes: dict[str, str | None]) -> dict[str, str]:
    """The environment without any wish about threads and levels, then the changes (None takes one away)."""
    wishes = ("STEPSMITH_ISA", "STEPSMITH_NUM_THREADS", "OMP_NUM_THREADS")
    kept = {key: value for key, value in os.environ.items() if key not in wishes}
    return {key: value for key, value in {**kept, **changes}.items() if value is not None}
