"""Products with quantized weights: the same sums in the same order, in NumPy."""

from typing import Any

import numpy as np

from reference_quant import GOLDEN
from stepsmith.quant import FP4, NF4

Array = np.ndarray[Any, Any]
F = np.float32
LANES = 16


def codes_of(q: Any) -> Array:
    """What is multiplied: codes as numbers, before they are scaled, in the shape of the weight."""
    rows, length = q.shape
    if isinstance(q.scheme, NF4 | FP4):
        levels = GOLDEN[f"{q.scheme.name}-256/levels"]
        return levels[np.stack([q.codes >> 4, q.codes & 15], -1).reshape(-1)[: rows * length]].reshape(q.shape)
    if q.scheme.bits == 8:
        return q.codes.astype(F)
    if rows * length == 0:
        return np.zeros(q.shape, F)
    nibbles = np.stack([q.codes & 15, q.codes >> 4], -1).astype(np.int8)
    nibbles = np.where(nibbles > 7, nibbles - 16, nibbles).astype(F)
    if q.scheme.group_size is None:
        return nibbles.reshape(-1)[: rows * length].reshape(q.shape)
    return nibbles.reshape(rows, -1)[:, :length]


def steps_of(q: Any, row: int) -> list[tuple[int, int, np.float32]]:
    """Runs of a row that share a scale: first, end, scale."""
    length, scheme = q.shape[1], q.scheme
    if isinstance(scheme, NF4 | FP4):
        size, start = scheme.block_size, row * length
        ends = [*range(size - start % size, length, size), length]
        return [(a, b, q.scales[(start + a) // size]) for a, b in zip([0, *ends], ends) if a < b]
    if scheme.group_size is not None:
        size = scheme.group_size
        return [(a, min(a + size, length), q.scales[row, a // size]) for a in range(0, length, size)]
    return [(0, length, q.scales.reshape(-1)[row if scheme.axis is not None else 0])]


def fold(lanes: Array) -> Array:
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    return lanes[..., 0]


def matmul_floats(q: Any, x: Array) -> Array:
    """Of x in float32, of two axes."""
    codes, out = codes_of(q), np.zeros((len(x), q.shape[0]), F)
    for row in range(q.shape[0]):
        total = np.zeros((len(x), LANES), F)
        for first, end, scale in steps_of(q, row):
            sums = np.zeros_like(total)
            for at in range(first, end, LANES):
                part = slice(at, min(at + LANES, end))
                sums[:, : part.stop - at] += codes[row, part] * x[:, part]
            total += sums * scale
        out[:, row] = fold(total)
    return out


def matmul_integers(q: Any, x: Array) -> Array:
    """The same with each row of x quantized."""
    scale = np.abs(x).max(axis=1, keepdims=True, initial=0) / F(127)
    scale = np.where(scale < np.finfo(F).tiny, F(1), scale)
    activations, codes = np.clip(np.rint(x / scale), -127, 127).astype(np.int64), codes_of(q).astype(np.int64)
    out = np.zeros((len(x), q.shape[0]), F)
    for row in range(q.shape[0]):
        for first, end, step in steps_of(q, row):
            out[:, row] += (activations[:, first:end] @ codes[row, first:end]).astype(F) * step
    return out * scale
