"""Codes of blocks that share something, on a GPU."""

from collections.abc import Sequence
from functools import cache
from math import log2
from typing import Any, NamedTuple

import numpy as np

from stepsmith import _core
from stepsmith._backend import cupy
from stepsmith.cuda._call import taken
from stepsmith.cuda._launch import THREADS, launch_resident
from stepsmith.cuda.quant._nan import FirstNan, check_nan
from stepsmith.cuda.quant.ggml import KINDS, dequantize_ggml, quantize_ggml

__all__ = ["CODECS", "Cut", "dequantize", "geometry", "numbers_of", "quantize"]

Cut = tuple[int, int, int]
"""Rows, elements of a row, elements of a block."""

ROUNDINGS = ("dynamic8", "unsigned_dynamic8", "nf4", "fp4", "e4m3", "e5m2", "ue5m3", "e2m1")
"""``enum Rounding`` of kernels/codec.cuh."""
SHARINGS = ("nothing", "absmax", "power", "under_tensor")
"""``enum Sharing``."""

GEOMETRY = np.dtype(
    [("rows", np.uint64), ("len", np.uint64), ("blocks_of_row", np.uint64), ("log", np.uint32), ("bits", np.uint32)]
)
"""``struct Geometry`` of kernels/geometry.cuh."""
CODEC = np.dtype(
    [
        ("rounding", np.int32),
        ("sharing", np.int32),
        ("largest", np.float32),
        ("most", np.uint32),
        ("tensor", np.float32),
    ]
)
"""``struct Codec`` of kernels/codec.cuh."""


class Codec(NamedTuple):
    """A codec of the core, as the kernels know it."""

    rounding: str
    sharing: str
    bits: int = 8
    largest: float = 1.0
    """Level that a block's largest magnitude becomes."""
    most: int = 0
    """Exponent of the largest number, where the scale is a power of two."""

    def argument(self) -> Any:
        """By value."""
        value = ROUNDINGS.index(self.rounding), SHARINGS.index(self.sharing), self.largest, self.most, 0.0
        return np.array(value, CODEC)


CODECS = {
    "dynamic8_signed": Codec("dynamic8", "absmax"),
    "dynamic8_unsigned": Codec("unsigned_dynamic8", "absmax"),
    "nf4": Codec("nf4", "absmax", 4),
    "fp4": Codec("fp4", "absmax", 4),
    "float8_e4m3fn": Codec("e4m3", "nothing"),
    "float8_e5m2": Codec("e5m2", "nothing"),
    "scaled_e4m3fn": Codec("e4m3", "absmax", largest=448.0),
    "scaled_e5m2": Codec("e5m2", "absmax", largest=57344.0),
    "scaled_ue5m3": Codec("ue5m3", "absmax", largest=61440.0),
    "mxfp8_e4m3": Codec("e4m3", "power", most=8),
    "mxfp8_e5m2": Codec("e5m2", "power", most=15),
    "mxfp4": Codec("e2m1", "power", 4, most=2),
    "nvfp4": Codec("e2m1", "under_tensor", 4),
}
"""Those of the core whose codes and scales are apart; the others are those of GGML."""

PER_THREAD = 16
"""Elements that are worth a thread."""


def geometry(cut: Cut, bits: int) -> Any:
    """By value; rows of whole blocks are one row."""
    rows, length, block = cut
    if length % block == 0:
        rows, length = 1, rows * length
    return np.array((rows, length, -(-length // block), int(log2(block)), bits), GEOMETRY)


def quantize(
    owner: str,
    scheme: tuple[str, Sequence[Any], Cut],
    x: Any,
    codes: Any,
    scales: Any,
    zeroes_nan: bool,
    checks_first: bool,
) -> None:
    """As `_core.quantize`; the parameter may be an array of one number."""
    name, params, cut = scheme
    read = taken(owner, {}, {"x": x})["x"]
    if checks_first and not zeroes_nan:
        check_nan(owner, x)
    nan = FirstNan(not zeroes_nan and not checks_first)
    if name in KINDS:
        quantize_ggml(name, read, x.size, codes, nan)
    else:
        args = read, *_how(name, params, cut), codes, scales, nan.pointer
        launch_resident("quantize", "quantize", _blocks(x.size, cut), args)
    nan.check(owner, x)


def dequantize(owner: str, scheme: tuple[str, Sequence[Any], Cut], codes: Any, scales: Any, out: Any) -> None:
    """As `_core.dequantize`; the parameter may be an array of one number."""
    name, params, cut = scheme
    written = taken(owner, {"out": out}, {})["out"]
    if name in KINDS:
        return dequantize_ggml(name, codes, written, out.size)
    args = codes, scales, numbers_of(name), *_how(name, params, cut), written
    return launch_resident("quantize", "dequantize", _blocks(out.size, cut), args)


def _how(name: str, params: Sequence[Any], cut: Cut) -> tuple[Any, Any, Any]:
    """Geometry, codec and where kernels read its parameter."""
    codec = CODECS[name]
    tensor = cupy().asarray(params[0], np.float32) if params else np.uint64(0)
    return geometry(cut, codec.bits), codec.argument(), tensor


def _blocks(elements: int, cut: Cut) -> int:
    """Of a grid: a warp for each few elements, but a team of lanes for each block."""
    return -(-max(elements, cut[0] * 32) // (THREADS * PER_THREAD))


def numbers_of(name: str) -> Any:
    """The numbers of all codes of a codec, before they are scaled."""
    return _numbers_of(cupy().cuda.runtime.getDevice(), name)


@cache
def _numbers_of(_device: int, name: str) -> Any:
    """The core tells what they are under scales of one."""
    codec = CODECS[name]
    codes, out = np.arange(1 << codec.bits, dtype=np.uint8), np.empty(1 << codec.bits, np.float32)
    if codec.bits == 4:
        first, second = (codes[1::2], codes[::2]) if codec.sharing == "absmax" else (codes[::2], codes[1::2])
        codes = np.asarray(first | second << 4, np.uint8)
    one = {"absmax": np.ones(1, np.float32).view(np.uint8), "nothing": np.empty(0, np.uint8)}
    scales = one.get(codec.sharing, np.full(1, 127, np.uint8))
    _core.dequantize("numbers", ("mxfp4" if name == "nvfp4" else name, [], (1, out.size, 256)), codes, scales, out)
    return cupy().asarray(out)
