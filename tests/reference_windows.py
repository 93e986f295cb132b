"""Convolutions and pools by direct loops over windows."""

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]


def spread(array: Array, padding: Pair, value: float) -> Array:
    """The planes with a border."""
    borders = [(0, 0)] * (array.ndim - 2) + [(number, number) for number in padding]
    return np.pad(array, borders, constant_values=value)


def windows(sizes: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """Row and column of each output, and the index of its window in planes of these sizes, padding included."""
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    for r in range((sizes[0] - reach[0]) // stride[0] + 1):
        for s in range((sizes[1] - reach[1]) // stride[1] + 1):
            start = r * stride[0], s * stride[1]
            yield r, s, (..., *(slice(a, a + n, d) for a, n, d in zip(start, reach, dilation, strict=True)))


def output_sizes(sizes: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Pair:
    *_, (r, s, _) = windows(sizes, kernel, stride, dilation)
    return r + 1, s + 1


def convolve(x: Array, weight: Array, bias: Array, dy: Array | None, stride: Pair, padding: Pair, dilation: Pair):
    """y, and with dy (dx, dweight, dbias); groups are the input's channels over the weight's."""
    padded, kernel, per_group = spread(x, padding, 0.0), weight.shape[2:], weight.shape[1]
    features = len(weight) // (x.shape[1] // per_group)
    sizes = padded.shape[2:]
    y = np.zeros((len(x), len(weight), *output_sizes(sizes, kernel, stride, dilation)), x.dtype)
    dx, dweight, dbias = np.zeros_like(padded), np.zeros_like(weight), np.zeros_like(bias)
    for o, w in enumerate(weight):
        channels = slice(o // features * per_group, (o // features + 1) * per_group)
        for r, s, index in windows(sizes, kernel, stride, dilation):
            window = padded[:, channels][index]
            y[:, o, r, s] = bias[o] + (window * w).sum((1, 2, 3))
            if dy is not None:
                g = dy[:, o, r, s][:, None, None, None]
                dx[:, channels][index] += g * w
                dweight[o] += (g * window).sum(0)
                dbias[o] += g.sum()
    inner = tuple(slice(p, p + n) for p, n in zip(padding, x.shape[2:], strict=True))
    return y, (dx[(..., *inner)], dweight, dbias)


def convolve_in_order(x: Array, weight: Array, bias: Array, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """y of one group, operation by operation: from +0.0 over channels, rows and columns of the window."""
    padded, kernel = spread(x, padding, 0.0), weight.shape[2:]
    rows, columns = output_sizes(padded.shape[2:], kernel, stride, dilation)
    y = np.zeros((len(x), len(weight), rows, columns), x.dtype)
    for c, i, j in np.ndindex(weight.shape[1:]):
        at = i * dilation[0], j * dilation[1]
        met = padded[:, c, at[0] :: stride[0], at[1] :: stride[1]][:, None, :rows, :columns]
        y += weight[:, c, i, j][:, None, None] * met
    return bias[:, None, None] + y


def max_pool(x: Array, dy: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> tuple[Array, Array]:
    """y and dx; NaN is the largest, and the first of the largest gets the gradient."""
    padded = spread(x, padding, -np.inf)
    inside = spread(np.ones(x.shape, bool), padding, False)
    y, dx = np.zeros_like(dy), np.zeros_like(padded)
    for r, s, index in windows(padded.shape[2:], kernel, stride, dilation):
        for n, c in np.ndindex(x.shape[:2]):
            window, valid = padded[n, c][index[1:]], inside[n, c][index[1:]]
            y[n, c, r, s] = np.max(window)
            best = np.isnan(window) if np.isnan(window).any() else (window == window.max()) & valid
            if best.any():
                dx[n, c][index[1:]][np.unravel_index(best.argmax(), best.shape)] += dy[n, c, r, s]
    return y, dx[..., padding[0] : padding[0] + x.shape[2], padding[1] : padding[1] + x.shape[3]]


def avg_pool(x: Array, dy: Array, kernel: Pair, stride: Pair, padding: Pair, counts: bool) -> tuple[Array, Array]:
    """Y and dx."""
    padded, inside = spread(x, padding, 0.0), spread(np.ones(x.shape), padding, float(counts))
    y, dx = np.zeros_like(dy), np.zeros_like(padded)
    for r, s, index in windows(padded.shape[2:], kernel, stride, (1, 1)):
        count = inside[index].sum((2, 3))
        y[:, :, r, s] = padded[index].sum((2, 3)) / count
        dx[index] += (dy[:, :, r, s] / count)[..., None, None]
    return y, dx[..., padding[0] : padding[0] + x.shape[2], padding[1] : padding[1] + x.shape[3]]
