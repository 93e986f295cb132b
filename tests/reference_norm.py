"""The NumPy oracle of rust/norm: what each norm must equal bit for bit."""

from itertools import pairwise
from typing import Any

import numpy as np

from reference_storage import Array, compute_type, encode, wide
from reference_sums import BLOCK, fixed_sum

SEGMENT = 16 * BLOCK
PIECE, PIECES, TOGETHER = 8 * 1024, 64, 8


def moments(x: Array, centred: bool) -> tuple[float, float]:
    """Mean and sum of squares of a row in float64: two passes over a segment, segments merged in order."""
    count, mean, squares = 0.0, 0.0, 0.0
    for at in range(0, x.size, SEGMENT):
        part = x[at : at + SEGMENT]
        own = fixed_sum(part) / part.size if centred else 0.0
        deviation = part - own
        own_squares = fixed_sum(deviation * deviation)
        if not count:
            count, mean, squares = float(part.size), own, own_squares
            continue
        total, delta = count + part.size, own - mean
        mean = mean + delta * (part.size / total)
        squares = squares + own_squares + delta * delta * (count * part.size / total)
        count = total
    return mean, squares


def split(x: float, dtype: Any) -> tuple[Any, Any]:
    near = dtype(x)
    rest = x - float(near)
    return near, dtype(rest if np.isfinite(rest) else 0.0)


class RowNorm:
    """A norm of rows: forward and backward of an array of (rows, elements) and weights spread over it."""

    def __init__(self, divisor: str, eps: float = 0.0) -> None:
        self.divisor, self.eps = divisor, eps

    def forward(self, x: Array, weight: Array | None, bias: Array | None) -> tuple[Array, Array, Array]:
        """y, mean, rstd; weight and bias broadcast to the shape of x."""
        compute = compute_type(x.dtype)
        mean, rstd = np.zeros(len(x)), np.zeros(len(x))
        y = np.empty(x.shape, compute)
        for i, row in enumerate(wide(x).reshape(x.shape)):
            mean[i], squares = moments(row, self.divisor == "deviation")
            scaled = squares if self.divisor == "length" else np.float64(squares) / row.size + self.eps
            rstd[i] = 1.0 / np.sqrt(np.float64(scaled))
            y[i] = self.normalize(row.astype(compute), mean[i], rstd[i])
        if weight is not None:
            y = y * weight
        if bias is not None:
            y = y + bias
        return encode(y, x.dtype), mean, rstd

    def normalize(self, row: Array, mean: float, rstd: float) -> Array:
        compute = row.dtype.type
        near, rest = split(mean, compute)
        return ((row - near) - rest) * compute(rstd)

    def backward(
        self, dy: Array, x: Array, weight: Array | None, mean: Array, rstd: Array, dsum: Array | None = None
    ) -> Array:
        """dx; weight broadcasts to the shape of x."""
        compute = compute_type(x.dtype)
        dx = np.empty(x.shape, compute)
        wide_dy, wide_x = wide(dy).reshape(x.shape), wide(x).reshape(x.shape)
        weights = None if weight is None else np.broadcast_to(weight, x.shape)
        for i in range(len(x)):
            g = wide_dy[i] if weights is None else wide_dy[i] * weights[i].astype(np.float64)
            gx = g * ((wide_x[i] - mean[i]) * rstd[i])
            sum_g, sum_gx = segments(g), segments(gx)
            n = 1 if self.divisor == "length" else x.shape[1]
            mean_g = compute(sum_g / n if self.divisor == "deviation" else 0.0)
            own = wide_dy[i].astype(compute)
            own = own if weights is None else own * weights[i]
            x_hat = self.normalize(wide_x[i].astype(compute), mean[i], rstd[i])
            dx[i] = (own - mean_g - x_hat * compute(sum_gx / n)) * compute(rstd[i])
        if dsum is not None:
            dx = dx + wide(dsum).reshape(x.shape).astype(compute)
        return encode(dx, x.dtype)

    def by_place(self, dy: Array, x: Array, mean: Array, rstd: Array, run: int | None, groups: int) -> list[Array]:
        """Sums of dy·x̂ and of dy over the elements of each place: each row's in order, pieces in order."""
        wide_dy = wide(dy).reshape(x.shape)
        x_hat = (wide(x).reshape(x.shape) - mean[:, None]) * rstd[:, None]
        return [self.places(terms, run, groups) for terms in (wide_dy * x_hat, wide_dy)]

    def places(self, terms: Array, run: int | None, groups: int) -> Array:
        rows, length = terms.shape
        turn = max(-(-rows // PIECES), PIECE // max(length, 1), 1)
        turn = -(-turn // TOGETHER) * TOGETHER
        count = length if run is None else groups * (length // run)
        total = np.zeros(count)
        for start in range(0, rows, turn):
            part = np.zeros(count)
            for row in range(start, min(start + turn, rows)):
                if run is None:
                    part = part + terms[row]
                    continue
                first = row % groups * (length // run)
                for at, at_end in runs(length, run):
                    part[first + at // run] += fixed_sum(terms[row, at:at_end])
            total = total + part
        return total


def runs(length: int, run: int) -> list[tuple[int, int]]:
    """Where a channel or a segment of the row begins and ends."""
    cuts = sorted({*range(0, length, run), *range(0, length, SEGMENT), length})
    return list(pairwise(cuts))


def segments(terms: Array) -> float:
    """The sum over a row: segment by segment from +0.0."""
    total = 0.0
    for at in range(0, terms.size, SEGMENT):
        total = total + fixed_sum(terms[at : at + SEGMENT])
    return total


# Batch norm: rust/norm/{channels,columns,batch}.rs.

HEIGHT = 64
FEW, BROAD = 8 * HEIGHT, 1024


def merged(moments: list[tuple[float, Array, Array]]) -> tuple[float, Array, Array]:
    """Counts, means and sums of squares of channels, one after another."""
    count, mean, squares = moments[0]
    for other, other_mean, other_squares in moments[1:]:
        total, delta = count + other, other_mean - mean
        mean = mean + delta * (other / total)
        squares = squares + other_squares + delta * delta * (count * other / total)
        count = total
    return count, mean, squares


def pieces(samples: int, channels: int, inner: int) -> list[slice]:
    """Which samples are taken together: those of a piece."""
    worth = max(-(-samples * channels * inner // PIECES), PIECE)
    tall = -(-worth // max(channels * inner, 1))
    if inner == 1:
        tall = -(-worth // min(max(channels, 1), BROAD))
        tall = samples if samples <= FEW else -(-tall // HEIGHT) * HEIGHT
    return [slice(start, start + tall) for start in range(0, samples, max(tall, 1))]


def column_moments(block: Array) -> tuple[float, Array, Array]:
    """Of a block of (samples, channels), in order from +0.0."""
    mean = np.zeros(block.shape[1])
    for row in block:
        mean = mean + row
    mean = mean / len(block)
    squares = np.zeros(block.shape[1])
    for row in block:
        squares = squares + (row - mean) * (row - mean)
    return float(len(block)), mean, squares


def run_moments(sample: Array) -> list[tuple[float, Array, Array]]:
    """Of a sample's (channels, inner), segment by segment."""
    parts = [sample[:, at : at + SEGMENT] for at in range(0, sample.shape[1], SEGMENT)]
    both = [[moments(row, True) for row in part] for part in parts]
    return [
        (float(part.shape[1]), np.array([m for m, _ in of_part]), np.array([s for _, s in of_part]))
        for part, of_part in zip(parts, both, strict=True)
    ]


def channel_moments(x: Array) -> tuple[Array, Array]:
    """Mean and centred sum of squares of each channel of (samples, channels, inner)."""
    values, all_pieces = wide(x).reshape(x.shape), []
    for piece in pieces(*x.shape):
        part = values[piece]
        if x.shape[2] == 1:
            blocks = [column_moments(part[at : at + HEIGHT, :, 0]) for at in range(0, len(part), HEIGHT)]
        else:
            blocks = [moments for sample in part for moments in run_moments(sample)]
        all_pieces.append(merged(blocks))
    return merged(all_pieces)[1:]


def channel_sums(terms: Array) -> Array:
    """Sum of each channel of (samples, channels, inner) in float64."""
    total = np.zeros(terms.shape[1])
    for piece in pieces(*terms.shape):
        part = np.zeros(terms.shape[1])
        for sample in terms[piece]:
            if terms.shape[2] == 1:
                part = part + sample[:, 0]
                continue
            for at in range(0, terms.shape[2], SEGMENT):
                part = part + np.array([fixed_sum(row[at : at + SEGMENT]) for row in sample])
        total = total + part
    return total


def spread(numbers: Array) -> Array:
    """One number a channel over (samples, channels, inner)."""
    return numbers[:, None]


def batch_normalize(x: Array, mean: Array, rstd: Array, weight: Array | None, bias: Array | None) -> Array:
    """y in the compute type."""
    compute = compute_type(x.dtype)
    near, rest = (np.array(parts) for parts in zip(*(split(m, compute) for m in mean), strict=True))
    own = wide(x).reshape(x.shape).astype(compute)
    y = ((own - spread(near)) - spread(rest)) * spread(rstd.astype(compute))
    y = y if weight is None else y * spread(weight)
    return y if bias is None else y + spread(bias)


def batch_differentiate(dy: Array, x: Array, mean: Array, rstd: Array, weight: Array | None) -> list[Array]:
    """dx, dweight and dbias in training."""
    compute = compute_type(x.dtype)
    wide_dy = wide(dy).reshape(x.shape)
    x_hat = (wide(x).reshape(x.shape) - spread(mean)) * spread(rstd)
    sums = [channel_sums(terms) for terms in (wide_dy * x_hat, wide_dy)]
    count, factor = x.shape[0] * x.shape[2], np.ones(len(mean)) if weight is None else weight.astype(np.float64)
    mean_gx, mean_g = ((factor * total / count).astype(compute) for total in sums)
    g = wide_dy.astype(compute)
    g = g if weight is None else g * spread(weight)
    own = batch_normalize(x, mean, rstd, None, None)
    dx = (g - spread(mean_g) - own * spread(mean_gx)) * spread(rstd.astype(compute))
    return [encode(dx, x.dtype), *sums]
