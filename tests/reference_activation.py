"""The NumPy oracle of rust/activation/apply.rs, bit for bit: arrays of (samples, channels, inner)."""

import numpy as np

from reference_math import activation
from reference_storage import Array, compute_type, encode, wide
from reference_sums import fixed_sum

BLOCK, PIECE, PIECES, TABLE = 2048, 16 * 1024, 64, 64 * 1024


def forward(kind: str, x: Array, bias: Array | None, **scalars: float) -> Array:
    return encode(activation(kind, np.dtype(compute_type(x.dtype)), **scalars)[0](shifted(x, bias)), x.dtype)


def backward(kind: str, dy: Array, x: Array, bias: Array | None, **scalars: float) -> tuple[Array, Array]:
    compute = compute_type(x.dtype)
    dx = activation(kind, np.dtype(compute), **scalars)[1](shifted(x, bias), wide(dy).reshape(x.shape).astype(compute))
    return encode(dx, x.dtype), channel_sums(dx)


def shifted(x: Array, bias: Array | None) -> Array:
    own = wide(x).reshape(x.shape).astype(compute_type(x.dtype))
    return own if bias is None else own + bias[:, None]


def channel_sums(terms: Array) -> Array:
    """Lines one after another in a piece, then the places of a channel, then pieces."""
    _, channels, inner = terms.shape
    line = channels * inner * max(BLOCK // max(channels * inner, 1), 1)
    flat, total = terms.reshape(-1).astype(np.float64), np.zeros(channels)
    worth = max(-(-flat.size // PIECES), PIECE)
    if inner > 1 and line > TABLE:
        for start, end in cuts(flat.size, line, worth):
            for channel, part in enumerate(run_sums(flat, start, end, channels, inner)):
                total[channel] += part
        return total
    turn = max(worth // max(line, 1), 8) * line
    channel = np.arange(line) // inner % channels
    for start in range(0, flat.size, turn):
        places = np.zeros(line)
        for at in range(start, min(start + turn, flat.size), line):
            part = flat[at : at + line]
            places[: part.size] += part
        for place, number in zip(channel, places, strict=True):
            total[place] += number
    return total


def cuts(size: int, line: int, worth: int) -> list[tuple[int, int]]:
    """Pieces where sums belong to channels: whole lines, or parts of a long one."""
    if line <= worth:
        turn = max(worth // line, 8) * line
        return [(start, min(start + turn, size)) for start in range(0, size, turn)]
    cut = -(-worth // BLOCK) * BLOCK
    return [
        (at, min(at + cut, start + line)) for start in range(0, size, line) for at in range(start, start + line, cut)
    ]


def run_sums(flat: Array, start: int, end: int, channels: int, inner: int) -> Array:
    """Sums of each channel's runs in a piece, which blocks cut, in order."""
    sums, sample, at = np.zeros(channels), channels * inner, start
    while at < end:
        place = at % sample
        block_end = min(at + BLOCK, at - place + sample, end)
        while at < block_end:
            run_end = min(at - at % inner + inner, block_end)
            sums[at % sample // inner] += fixed_sum(flat[at:run_end])
            at = run_end
    return sums
