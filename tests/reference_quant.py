"""Oracles of the schemes: the same operations in the same order, in NumPy.

An oracle takes a float32 array without NaN and infinity and gives the parts; its reverse gives float32.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import reference_quant_ggml as ggml
from helpers import HERE
from reference_affine import decode_affine, encode_affine
from reference_sums import fixed_sum

Array = np.ndarray[Any, Any]
Parts = dict[str, Array]
F = np.float32

GOLDEN = dict(np.load(HERE / "golden" / "quant.npz"))  # an NpzFile would read the file for each array again
for array in GOLDEN.values():
    array.flags.writeable = False


class Oracle(NamedTuple):
    """The way there and back for one class of schemes."""

    encode: Callable[[Array, Any], Parts]
    decode: Callable[[Parts, Any, tuple[int, ...]], Array]


def blocks(x: Array, block: int) -> list[Array]:
    """Of the flattened array."""
    flat = x.reshape(-1)
    return [flat[i : i + block] for i in range(0, flat.size, block)]


def scaled(x: Array, largest: float) -> tuple[np.float32, Array]:
    """The scale of a block, and x / scale: tiny blocks are lifted by 2⁶⁴ first, as 1 / scale may be no number."""
    absmax = np.abs(x).max()
    scale, lift = absmax / F(largest), F(1)
    if absmax == 0:
        return F(0), x * F(1) * F(0)
    if absmax < F(1e-30):
        lift = F(2.0**64)
    return scale, x * lift * (F(largest) / (absmax * lift))


def nearest(x: Array, values: Array) -> Array:
    """Index of the value (they rise) nearest to each number, in exact arithmetic; the one nearer to zero of two."""
    wide = values.astype(np.float64)
    middles = (wide[:-1] + wide[1:]) / 2
    return np.where(x > 0, np.searchsorted(middles, x, side="left"), np.searchsorted(middles, x, side="right"))


def of_blocks(x: Array, block: int, largest: float, codes_of: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Codes, one after another, and scales."""
    pairs = [scaled(part, largest) for part in blocks(x, block)]
    codes = codes_of(np.concatenate([np.zeros(0, F), *(normal for _, normal in pairs)]))
    return codes.astype(np.uint8), np.array([s for s, _ in pairs], F)


def times_scales(levels: Array, scales: Array, block: int) -> Array:
    """Each level times the scale of its block."""
    return levels * np.repeat(scales, block)[: levels.size]


def encode_dynamic8(x: Array, scheme: Any) -> Parts:
    values = GOLDEN[f"dynamic-map-{'signed' if scheme.signed else 'unsigned'}/map"]
    codes, scales = of_blocks(x, scheme.block_size, 1.0, lambda part: nearest(part, values))
    return {"codes": codes.reshape(x.shape), "scales": scales}


def decode_dynamic8(parts: Parts, scheme: Any, shape: tuple[int, ...]) -> Array:
    values = GOLDEN[f"dynamic-map-{'signed' if scheme.signed else 'unsigned'}/map"]
    return times_scales(values[parts["codes"].reshape(-1)], parts["scales"], scheme.block_size).reshape(shape)


def middles(levels: Array) -> Array:
    """Halfway between neighbours, as float32 has it."""
    return (levels[:-1] + levels[1:]) / F(2)


def codes_nf4(x: Array) -> Array:
    return np.searchsorted(middles(GOLDEN["nf4-256/levels"]), x, side="left")


def codes_fp4(x: Array) -> Array:
    levels = GOLDEN["fp4-256/levels"][:8]
    order = np.argsort(levels)
    rank = np.searchsorted(middles(levels[order]), np.abs(x), side="left")
    return order[rank] + 8 * ((x < 0) & (rank > 0))


def pack_high(codes: Array) -> Array:
    """Two codes a byte, the first in the high half."""
    even = np.append(codes, np.zeros(codes.size % 2, np.uint8))
    return (even[::2] << 4 | even[1::2]).astype(np.uint8)


def unpack_high(packed: Array, count: int) -> Array:
    return np.stack([packed >> 4, packed & 15], axis=-1).reshape(-1)[:count]


class ScaleScheme(NamedTuple):
    """How double quantization quantizes scales."""

    block_size: int = 256
    signed: bool = True


def encode_fourbit(x: Array, scheme: Any) -> Parts:
    codes_of = {"nf4": codes_nf4, "fp4": codes_fp4}[scheme.name]
    codes, scales = of_blocks(x, scheme.block_size, 1.0, codes_of)
    if not scheme.double_quant:
        return {"codes": pack_high(codes), "scales": scales}
    offset = F(fixed_sum(scales.astype(np.float64)) / max(scales.size, 1))
    nested = encode_dynamic8(scales - offset, ScaleScheme())
    return {
        "codes": pack_high(codes),
        "scale_codes": nested["codes"],
        "scale_absmax": nested["scales"],
        "scale_offset": np.asarray(offset),
    }


def decode_fourbit(parts: Parts, scheme: Any, shape: tuple[int, ...]) -> Array:
    if scheme.double_quant:
        nested = {"codes": parts["scale_codes"], "scales": parts["scale_absmax"]}
        values = decode_dynamic8(nested, ScaleScheme(), parts["scale_codes"].shape)
        parts = {**parts, "scales": np.maximum(values + parts["scale_offset"], F(0))}
    levels = GOLDEN[f"{scheme.name}-256/levels"][unpack_high(parts["codes"], int(np.prod(shape)))]
    return times_scales(levels, parts["scales"], scheme.block_size).reshape(shape)


ORACLES = {
    "affine": Oracle(encode_affine, decode_affine),
    "dynamic8": Oracle(encode_dynamic8, decode_dynamic8),
    "nf4": Oracle(encode_fourbit, decode_fourbit),
    "fp4": Oracle(encode_fourbit, decode_fourbit),
    "ggml": Oracle(ggml.encode, ggml.decode),
}
