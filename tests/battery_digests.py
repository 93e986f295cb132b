"""Digests of what quantization makes: the arrays of each case, the same at several numbers of threads.

Run by battery.py, a process for each CPU level; test_quant_bits.py compares the levels.
"""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np

import stepsmith as ss
import test_cast
import test_fake_quantize
import test_matmul
from battery import THREADS
from helpers import Array
from quant_cases import CASES, DTYPES, numbers

Arrays = Callable[[], list[Array]]


def quant() -> Iterator[tuple[Any, Arrays]]:
    """Codes and decoded numbers of every scheme."""
    for case in CASES:
        for shape in case.shapes[-2:]:
            for dtype in DTYPES:
                yield (case.scheme, shape, dtype), partial(quantized, numbers(shape, dtype), case.scheme)


def quantized(x: Array, scheme: ss.quant.Scheme) -> list[Array]:
    q = ss.quant.quantize(x, scheme)
    return [*q.parts.values(), q.dequantize()]


def casts() -> Iterator[tuple[Any, Arrays]]:
    for given in test_cast.ALL:
        x = np.tile(test_cast.every(given), 3 if given.itemsize > 1 else 300)
        for dtype in test_cast.ALL:
            yield (given, dtype), partial(cast, x, dtype)


def cast(x: Array, dtype: np.dtype[Any]) -> list[Array]:
    """NaN's bits are outside the promise."""
    y = ss.cast(x, dtype)
    with np.errstate(invalid="ignore"):
        y[np.isnan(y)] = 1
    return [y]


def fake() -> Iterator[tuple[Any, Arrays]]:
    for shape, axis in test_fake_quantize.SHAPES[-8:]:
        for dtype in test_fake_quantize.DTYPES[:2]:
            yield (shape, axis, dtype), partial(faked, *test_fake_quantize.draw(shape, axis, dtype), axis)


def faked(x: Array, dy: Array, scale: Array, point: Array, axis: int | None) -> list[Array]:
    y, saved = ss.quant.fake_quantize(x, scale, point, -8, 7, axis)
    return [y, *ss.quant.fake_quantize_backward(dy, saved)]


def products() -> Iterator[tuple[Any, Arrays]]:
    # 320 elements are whole tiles at each level, 208 are whole vectors of the widest only.
    for scheme, length in product((*test_matmul.FLOATS, *test_matmul.INTEGERS), (513, 320, 208)):
        q, x = test_matmul.weights(scheme, (520, length)), test_matmul.inputs(9, length)
        for activations in ("float32", "int8")[: 1 + (scheme in test_matmul.INTEGERS)]:
            yield (scheme, length, activations), partial(multiplied, q, x, activations)


def multiplied(q: ss.quant.QuantizedArray, x: Array, activations: str) -> list[Array]:
    """Of the whole batch, of parts of it and of eight times as much."""
    whole = q.matmul(x, activations=activations)
    parts = [q.matmul(x[a:b], activations=activations) for a, b in ((0, 1), (1, 3), (3, 9))]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert q.matmul(np.tile(x, (8, 1)), activations=activations).tobytes() == whole.tobytes() * 8
    return [whole]


def digests(cases: Callable[[], Iterator[tuple[Any, Arrays]]]) -> dict[str, Any]:
    """A line for each case; all numbers of threads must agree on it."""
    lines, wrong = [], []
    for what, arrays in cases():
        found = []
        for threads in THREADS:
            with ss.threads(threads):
                found.append([x.tobytes() for x in arrays()])
        lines.append(f"{what} {hashlib.sha256(b''.join(found[0])).hexdigest()}")
        wrong += [f"{what} threads {n}" for n, other in zip(THREADS, found) if other != found[0]]
    return {"wrong": wrong, "lines": lines}


PARTS = {f.__name__: partial(digests, f) for f in (quant, casts, fake, products)}
COUNTS = {
    "quant": 2 * len(CASES) * len(DTYPES),
    "casts": 36,
    "fake": 16,
    "products": 3 * (len(test_matmul.FLOATS) + 2 * len(test_matmul.INTEGERS)),
}
"""Lines of a part."""
