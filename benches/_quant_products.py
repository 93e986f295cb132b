"""Products with quantized weights beside NumPy's with the same weights in float32."""

import time
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from _functions import numbers
from _harness import Side
from _quant import Case, Work
from stepsmith import quant
from stepsmith.quant import QuantizedArray, Scheme

Array = np.ndarray[Any, Any]

LIMIT = 1e-5
"""Share of the largest output by which sums in float32 may lie from those in float64."""
BATCHES = 1, 2, 4, 8
PAUSE = 0.15
"""Seconds before a block: OpenBLAS's threads keep their cores busy for 0.11 s after a call (2^28 ticks of 2.6 GHz)."""


class Weights(NamedTuple):
    """A scheme, what becomes of the activations, and the targets at batch 1 and above."""

    scheme: Scheme
    activations: str
    targets: tuple[float, float] = 1, 1


WEIGHTS = {
    "int8": Weights(quant.Affine(axis=0), "float32", (2, 1)),
    "int4": Weights(quant.Affine(bits=4, group_size=128), "float32", (3, 1)),
    "nf4": Weights(quant.NF4(64), "float32"),
    "int8xint8": Weights(quant.Affine(axis=0), "int8"),
}


def _rounded(x: Array) -> Array:
    """Rows as integers times a scale, in float64."""
    scales = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    return np.rint(x / scales).astype(np.float64) * scales


def _right(q: QuantizedArray, x: Array, got: Array, activations: str) -> bool:
    """Are the products those of float64?"""
    want = (_rounded(x) if activations == "int8" else x.astype(np.float64)) @ q.dequantize(dtype=np.float64).T
    return bool(np.abs(got - want).max() <= LIMIT * np.abs(want).max())


@lru_cache(maxsize=1)
def _weights(scheme: Scheme, size: int) -> tuple[QuantizedArray, Array]:
    """Codes, and what they stand for."""
    q = quant.quantize(numbers((size, size)), scheme)
    return q, q.dequantize()


def _product(weights: Weights, batch: int, size: int) -> Work:
    (q, w), x = _weights(weights.scheme, size), numbers((batch, size), 1)
    out, theirs = (np.full((batch, size), np.nan, np.float32) for _ in range(2))

    def ours() -> object:
        return q.matmul(x, out=out, activations=weights.activations)

    def numpy() -> object:
        # A vector is what BLAS has a function of its own for.
        return np.matmul(w, x[0], out=theirs[0]) if batch == 1 else np.matmul(x, w.T, out=theirs)

    def right() -> bool:
        ours()
        numpy()
        return _right(q, x, out, weights.activations) and _right(q, x, theirs, "float32")

    traffic, refresh = q.nbytes + x.nbytes + out.nbytes, partial(time.sleep, PAUSE)
    return Work(ours, traffic, right, Side("numpy float32", numpy), copied=False, refresh=refresh)


def cases(size: int) -> Iterator[Case]:
    """Square weights of every kind for small batches."""
    for name, weights in WEIGHTS.items():
        for batch in BATCHES:
            target = weights.targets[batch > 1]
            yield Case(f"matmul/{name}/{batch}x{size}x{size}", partial(_product, weights, batch, size), target)
