"""Oracles of the schemes of small floats: every code's number in a table, the nearest one looked up."""

from typing import Any

import ml_dtypes
import numpy as np

from reference_quant import Array, F, Oracle, Parts, of_blocks, times_scales

E4M3, E5M2, E8M0 = (np.dtype(getattr(ml_dtypes, f"float8_{name}")) for name in ("e4m3fn", "e5m2", "e8m0fnu"))
UE5M3 = np.dtype(np.uint8)
DTYPES = {"e4m3fn": E4M3, "e5m2": E5M2, "ue5m3": UE5M3}

MAGNITUDES = {
    E4M3: np.array([(8 * (e > 0) + m) * 2.0 ** (max(e, 1) - 10) for e in range(16) for m in range(8)][:127]),
    E5M2: np.array([(4 * (e > 0) + m) * 2.0 ** (max(e, 1) - 17) for e in range(31) for m in range(4)]),
    UE5M3: np.array([(8 * (e > 0) + m) * 2.0 ** (max(e, 1) - 18) for e in range(31) for m in range(8)]),
    None: np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6]),
}
"""The finite magnitudes of a format by their codes."""


def rounded(x: Array, dtype: Any) -> Array:
    """Codes of float32 numbers: the nearest magnitude, of two the one with an even code; the sign above it."""
    values = MAGNITUDES[dtype]
    middles = (values[:-1] + values[1:]) / 2
    magnitude = np.maximum(x, 0).astype(np.float64) if dtype is UE5M3 else np.abs(x.astype(np.float64))
    low, high = np.searchsorted(middles, magnitude, "left"), np.searchsorted(middles, magnitude, "right")
    codes = np.where(low % 2 == 0, low, high).astype(np.uint8)
    return codes if dtype is UE5M3 else codes + np.signbit(x) * np.uint8(128 if dtype else 8)


def numbers_of(codes: Array, dtype: Any) -> Array:
    """The float32 numbers of codes."""
    if dtype is UE5M3:
        return MAGNITUDES[dtype][codes].astype(F)
    sign = 128 if dtype else 8
    return np.copysign(MAGNITUDES[dtype][codes & (sign - 1)], 0.5 - (codes >= sign)).astype(F)


def encode_float8(x: Array, scheme: Any) -> Parts:
    dtype = DTYPES[scheme.format]
    if scheme.block_size is None:
        return {"codes": rounded(x, dtype).reshape(x.shape).view(dtype)}
    codes, scales = of_blocks(x, scheme.block_size, MAGNITUDES[dtype][-1], lambda part: rounded(part, dtype))
    return {"codes": codes.reshape(x.shape).view(dtype), "scales": scales}


def decode_float8(parts: Parts, scheme: Any, shape: tuple[int, ...]) -> Array:
    levels = numbers_of(parts["codes"].view(np.uint8).reshape(-1), DTYPES[scheme.format])
    if scheme.block_size is not None:
        levels = times_scales(levels, parts["scales"], scheme.block_size)
    return levels.reshape(shape)


def row_blocks(x: Array, block: int) -> Array:
    """Blocks of the last axis, zeros behind the last of each row: (rows..., blocks, block)."""
    x = x.reshape(x.shape or (1,))
    *lead, length = x.shape
    whole = np.zeros((*lead, -(-length // block) * block), x.dtype)
    whole[..., :length] = x
    return whole.reshape(*lead, -(-length // block), block)


def rows_of(blocks: Array, shape: tuple[int, ...]) -> Array:
    """The reverse."""
    length = (shape or (1,))[-1]
    whole = blocks.reshape(*blocks.shape[:-2], blocks.shape[-2] * blocks.shape[-1])
    return whole[..., :length].reshape(shape)


def pack_low(codes: Array) -> Array:
    """Two codes a byte of each row, the first in the low half."""
    codes = codes.reshape(codes.shape or (1,))
    even = np.concatenate([codes, np.zeros((*codes.shape[:-1], codes.shape[-1] % 2), np.uint8)], axis=-1)
    return even[..., ::2] | even[..., 1::2] << 4


def unpack_low(packed: Array, shape: tuple[int, ...]) -> Array:
    both = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], 2 * packed.shape[-1])
    return both[..., : (shape or (1,))[-1]].reshape(shape)


ELEMENTS = {"mxfp8_e4m3": (E4M3, 8), "mxfp8_e5m2": (E5M2, 15), "mxfp4": (None, 2)}


def encode_mx(x: Array, scheme: Any) -> Parts:
    dtype, emax = ELEMENTS[scheme.format]
    cut = row_blocks(x, 32)
    absmax = np.abs(cut).max(axis=-1, initial=0)
    floor_log2 = np.frexp(np.where(absmax > 0, absmax, F(2.0**-149)))[1] - 1
    scales = np.where(np.isinf(absmax), 255, np.maximum(floor_log2 - emax + 127, 0)).astype(np.uint8)
    finite = np.where(np.isinf(absmax)[..., None], F(0), cut)
    codes = rows_of(rounded(np.ldexp(finite, 127 - scales[..., None].astype(int)), dtype), x.shape)
    return {"codes": codes.view(dtype) if dtype else pack_low(codes), "scales": scales.view(E8M0)}


def decode_mx(parts: Parts, scheme: Any, shape: tuple[int, ...]) -> Array:
    dtype, _ = ELEMENTS[scheme.format]
    codes = parts["codes"].view(np.uint8) if dtype else unpack_low(parts["codes"], shape)
    scales = parts["scales"].view(np.uint8)
    powers = np.where(scales == 255, F(np.nan), np.ldexp(F(1), np.minimum(scales, 254).astype(int) - 127))
    return rows_of(row_blocks(numbers_of(codes, dtype), 32) * powers[..., None], shape)


def nvfp4_scale(codes: Array, tensor: Array) -> Array:
    return numbers_of(codes, E4M3) * tensor


def encode_nvfp4(x: Array, scheme: Any) -> Parts:
    cut = row_blocks(x, 16)
    absmax = np.abs(cut).max(axis=-1, initial=0)
    most = absmax.max(initial=F(0))
    tensor = max(most / F(2688), F(2.0**-149)) if most else F(0)
    scales = rounded(absmax / tensor / F(6), E4M3) if most else np.zeros(absmax.shape, np.uint8)
    scale = nvfp4_scale(scales, tensor)[..., None]
    lift = np.where((scale > 0) & (scale < F(1e-30)), F(2.0**64), F(1))
    inverse = np.where(scale > 0, F(1) / np.where(scale > 0, scale * lift, F(1)), F(0))
    codes = rows_of(rounded(cut * lift * inverse, None), x.shape)
    return {"codes": pack_low(codes), "scales": scales.view(E4M3), "tensor_scale": np.asarray(tensor, F)}


def decode_nvfp4(parts: Parts, scheme: Any, shape: tuple[int, ...]) -> Array:
    scale = nvfp4_scale(parts["scales"].view(np.uint8), parts["tensor_scale"])
    return rows_of(row_blocks(numbers_of(unpack_low(parts["codes"], shape), None), 16) * scale[..., None], shape)


ORACLES = {
    "float8": Oracle(encode_float8, decode_float8),
    "mx": Oracle(encode_mx, decode_mx),
    "nvfp4": Oracle(encode_nvfp4, decode_nvfp4),
}
