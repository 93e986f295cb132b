"""How far decoded numbers are from those that were quantized."""

from math import inf, log10, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stepsmith._backend import is_on_gpu, namespace

__all__ = ["QuantizationError", "compare"]

Array = NDArray[Any]

CHUNK = 16 * 1024
"""Elements of a chunk, which stays in a cache as float64."""
GPU_CHUNK = 4 * 1024 * 1024
"""The same on a GPU, where each chunk waits for the host."""


class QuantizationError(NamedTuple):
    """Figures of the error e = y - x, where x was quantized and y is what the codes stand for."""

    max: float
    """Largest |e|; 0 for an empty array."""
    rms: float
    """sqrt(Σe² / n); 0 for an empty array."""
    sqnr: float
    """Signal to quantization noise in dB, 10·log10(Σx² / Σe²); infinite where nothing was lost."""
    cosine: float
    """Σxy / sqrt(Σx²·Σy²); 1 where x and y are all zero, 0 where one of them is."""


def compare(x: Array, y: Array) -> QuantizationError:
    """Figures of two arrays of one shape, in float64, chunk by chunk in C order."""
    largest, noise, signal, decoded, product = 0.0, 0.0, 0.0, 0.0, 0.0
    own, chunk = namespace(x), GPU_CHUNK if is_on_gpu(x) else CHUNK
    flat_x, flat_y = (_flat(array) for array in (x, y))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, x.size, chunk):
            of_x, of_y = (own.asarray(flat[start : start + chunk], np.float64) for flat in (flat_x, flat_y))
            error = of_y - of_x
            largest = float(np.maximum(largest, float(own.abs(error).max())))
            noise += float(own.square(error).sum())
            signal += float(own.square(of_x).sum())
            decoded += float(own.square(of_y).sum())
            product += float((of_x * of_y).sum())
    rms = sqrt(noise / max(x.size, 1))
    return QuantizationError(largest, rms, _decibels(signal, noise), _cosine(product, signal, decoded))


def _flat(array: Array) -> Any:
    """What is cut into chunks in C order; CuPy has no other view of a strided array than a copy."""
    return array.reshape(-1) if array.flags.c_contiguous or is_on_gpu(array) else array.flat


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return inf
    return 10 * (log10(signal) - log10(noise)) if signal else -inf


def _cosine(product: float, a: float, b: float) -> float:
    if a == 0 or b == 0:
        return 1.0 if a == b else 0.0
    return product / (sqrt(a) * sqrt(b))
