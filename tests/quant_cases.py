"""The schemes that the tests of quantization run through: a row here tests one against its oracle in every way."""

from functools import lru_cache
from typing import NamedTuple

import ml_dtypes
import numpy as np

from helpers import Array
from stepsmith.quant import FP4, GGML, MX, NF4, NVFP4, Affine, Dynamic8, Float8, Scheme

DTYPES = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16))

FLAT = ((), (1,), (3,), (63,), (64,), (65,), (0,), (257,), (2, 0, 3), (5, 7, 11), (4099,), (33_001,), (150_007,))
"""Shapes that any scheme over the flattened array takes."""

ROWS32 = ((32,), (0,), (96,), (3, 0, 32), (3, 96), (2, 5, 64), (0, 32), (1029, 32), (2, 7, 9984))
"""Shapes of whole blocks of 32 along the last axis."""

ROWS256 = ((256,), (0,), (3, 512), (2, 0, 256), (2, 5, 256), (129, 256), (2, 5, 15_104))
"""Shapes of whole blocks of 256 along the last axis."""


AXES = ((3, 5), (1, 1), (2, 0, 3), (0, 2, 3), (4, 3, 1), (7, 33, 65), (65, 9, 130), (40, 1000, 3), (3, 70_001, 2))
"""Shapes of an axis 1: one element after another, short runs, long runs, and rows longer than what is read once."""

TWO = ((5, 7), (1, 1), (3, 0), (0, 4), (257, 3), (300, 65), (2, 70_001), (1000, 129))
"""Of two axes, to share a scale on either."""


ROWS = ((), (1,), (0,), (2, 0, 3), (3, 0), (31,), (5, 70), (3, 4, 33), (7, 1), (2, 2048), (9, 4099), (211, 711))
"""Shapes whose last axis is cut into blocks."""


class Case(NamedTuple):
    """A scheme and shapes that it takes, the last ones of several pieces."""

    scheme: Scheme
    shapes: tuple[tuple[int, ...], ...]
    has_zero: bool = True
    """Is zero exact in blocks that have other numbers too?"""


CASES = [
    Case(Dynamic8(), FLAT),
    Case(Dynamic8(64, signed=False), FLAT),
    Case(Dynamic8(4096), FLAT),
    Case(NF4(), FLAT),
    Case(NF4(1024), FLAT),
    Case(FP4(), FLAT),
    Case(FP4(32), FLAT),
    Case(NF4(double_quant=True), FLAT[:-1]),
    Case(FP4(32, double_quant=True), FLAT[:-2]),
    Case(Float8("e4m3fn"), FLAT),
    Case(Float8("e5m2"), FLAT),
    Case(Float8("e4m3fn", 64), FLAT),
    Case(Float8("e5m2", 4096), FLAT),
    Case(Float8("ue5m3", 256), FLAT),
    Case(MX("mxfp8_e4m3"), ROWS),
    Case(MX("mxfp8_e5m2"), ROWS),
    Case(MX("mxfp4"), ROWS),
    Case(NVFP4(), ROWS),
    *(Case(GGML(kind), ROWS32, kind != "q4_1") for kind in ("q8_0", "q4_0", "q4_1", "q5_0")),
    Case(GGML("q4_k"), ROWS256, False),
    Case(GGML("q6_k"), ROWS256),
    Case(Affine(), FLAT),
    Case(Affine(symmetric=False), FLAT),
    Case(Affine(bits=4, convention="torch"), FLAT),
    Case(Affine(bits=2, symmetric=False), FLAT),
    Case(Affine(axis=1), AXES),
    Case(Affine(bits=4, symmetric=False, axis=-2, convention="torch"), AXES),
    Case(Affine(bits=2, axis=1, scaling="full"), AXES),
    Case(Affine(bits=4, axis=0), TWO),
    Case(Affine(bits=8, symmetric=False, axis=0), TWO),
    Case(Affine(bits=8, symmetric=False, axis=-1, convention="torch"), TWO),
    Case(Affine(bits=4, axis=1, scaling="observer"), TWO),
    Case(Affine(bits=4, group_size=32), ((), (70,), *TWO)),
    Case(Affine(bits=8, symmetric=False, group_size=7), ((), (70,), *TWO)),
    Case(Affine(bits=2, symmetric=False, group_size=4, convention="torch"), TWO),
    Case(Affine(bits=4, symmetric=False, group_size=66_000), TWO),
    Case(Affine(bits=3, symmetric=False, group_size=128), TWO),
    Case(Affine(bits=6, scaling="observer"), FLAT[-4:]),
    Case(Affine(bits=5, axis=0), TWO[-4:]),
    Case(Affine(bits=7, group_size=64), TWO[-4:]),
]


@lru_cache(32)  # for each dtype and scheme the same
def drawn(shape: tuple[int, ...], seed: int) -> Array:
    """Numbers over some orders of magnitude."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.standard_normal(shape) * 2.0 ** rng.uniform(-12, 2, shape))


def numbers(shape: tuple[int, ...], dtype: np.dtype, seed: int = 0) -> Array:
    """Blocks of many kinds: spread over orders of magnitude, all zero, subnormal, huge, all alike."""
    x = drawn(shape, seed).copy()
    flat = x.reshape(-1)
    for start in range(0, flat.size, 1024):
        kind, part = start // 1024 % 7, flat[start : start + 1024]
        if kind == 1:
            part[:512] = 0.0
        elif kind == 2:
            part *= 2.0**-134
        elif kind == 3:
            part *= 2.0**100 if dtype.itemsize > 2 or dtype != np.float16 else 2.0**10
        elif kind == 4:
            part[:] = 0.375
        elif kind == 5:
            part[::3] = -0.0
        elif kind == 6:
            part *= 2.0**-149
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.asarray(x, np.float32)).astype(dtype)
