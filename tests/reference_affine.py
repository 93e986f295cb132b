"""Oracle of affine codes, and of fake quantization: the same operations in the same order, in NumPy."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
F = np.float32


def step_of(shape: tuple[int, ...], scheme: Any) -> Array:
    """The index of each element's scale, of the flattened scales."""
    if scheme.group_size is not None:
        rows = int(np.prod(shape[:-1]))
        columns = shape[-1] if shape else 1
        groups = -(-columns // scheme.group_size)
        index = np.arange(rows)[:, None] * groups + np.arange(columns) // scheme.group_size
        return index.reshape(shape)
    if scheme.axis is None:
        return np.zeros(shape, int)
    along = np.moveaxis(np.zeros(shape, int), scheme.axis, -1) + np.arange(shape[scheme.axis])
    return np.moveaxis(along, -1, scheme.axis)


def bounds(scheme: Any) -> tuple[int, int]:
    """The least and the largest code."""
    if not scheme.symmetric:
        return 0, 2**scheme.bits - 1
    most = 2 ** (scheme.bits - 1) - 1
    return (-most if scheme.scaling == "narrow" else -most - 1), most


def steps_of(low: Array, high: Array, scheme: Any) -> tuple[Array, Array]:
    """Scales and zero points of float32 ranges that include 0."""
    qmin, qmax = bounds(scheme)
    if scheme.symmetric:
        most = {"narrow": F(qmax), "observer": F(qmax + 0.5), "full": F(qmax + 1)}[scheme.scaling]
        scale = np.maximum(-low, high) / most
    else:
        span, n = high - low, F(qmax - qmin)
        scale = np.where(np.isfinite(span), span / n, high / n + -low / n)
    fine = scale >= np.finfo(F).tiny
    scale = np.where(fine, scale, F(1))
    points = np.zeros(scale.shape) if scheme.symmetric else np.clip(qmin + np.round(-low / scale), qmin, qmax)
    points = np.where(fine, points, 0).astype(np.int32)
    farthest = np.maximum(points - qmin, qmax - points).astype(F)
    most = np.finfo(F).max / farthest
    most = np.where(np.isfinite(most * farthest), most, np.nextafter(most, F(0)))
    return np.where(fine, np.minimum(scale, most), scale), points


def codes_of(x: Array, scale: Array, zero: Array, scheme: Any) -> Array:
    """Codes of each element with its own scale and zero point."""
    qmin, qmax = bounds(scheme)
    scaled = x * (F(1) / scale) if scheme.convention == "torch" else x / scale
    clamped = np.clip(scaled, (qmin - zero).astype(F), (qmax - zero).astype(F))
    return (np.round(clamped) + zero).astype(np.int64)


def pack_low(codes: Array, bits: int) -> Array:
    """Codes of the last axis in bytes, the first in the lowest bits."""
    n = 8 // bits
    packed = np.zeros((*codes.shape[:-1], -(-codes.shape[-1] // n)), np.uint8)
    for k in range(n):
        part = codes[..., k::n] & (2**bits - 1)
        packed[..., : part.shape[-1]] |= (part << (bits * k)).astype(np.uint8)
    return packed


def unpack_low(packed: Array, bits: int, count: int, is_signed: bool) -> Array:
    parts = [packed.astype(np.int64) >> (bits * k) & (2**bits - 1) for k in range(8 // bits)]
    codes = np.stack(parts, -1).reshape(*packed.shape[:-1], packed.shape[-1] * len(parts))[..., :count]
    return np.where(codes >= 2 ** (bits - 1), codes - 2**bits, codes) if is_signed else codes


def packed_rows(shape: tuple[int, ...], scheme: Any) -> tuple[int, ...]:
    """The shape whose last axis is packed."""
    return shape if scheme.group_size is not None and shape else (int(np.prod(shape)),)


def encode_affine(x: Array, scheme: Any) -> dict[str, Array]:
    index, steps = step_of(x.shape, scheme), scheme.parts(x.shape)["scales"].shape
    low, high = np.zeros(int(np.prod(steps)), F), np.zeros(int(np.prod(steps)), F)
    np.minimum.at(low, index.ravel(), x.ravel())
    np.maximum.at(high, index.ravel(), x.ravel())
    scale, zero = steps_of(low, high, scheme)
    codes = codes_of(x, scale[index], zero[index], scheme)
    parts = {"scales": scale.reshape(steps)} | ({} if scheme.symmetric else {"zero_points": zero.reshape(steps)})
    if scheme.bits in (2, 4):
        return parts | {"codes": pack_low(codes.reshape(packed_rows(x.shape, scheme)), scheme.bits)}
    return parts | {"codes": codes.astype(np.int8 if scheme.symmetric else np.uint8)}


def decode_affine(parts: dict[str, Array], scheme: Any, shape: tuple[int, ...]) -> Array:
    index, codes = step_of(shape, scheme), parts["codes"]
    if scheme.bits in (2, 4):
        rows = packed_rows(shape, scheme)
        codes = unpack_low(codes, scheme.bits, rows[-1], scheme.symmetric).reshape(shape)
    zero = parts.get("zero_points", np.zeros(parts["scales"].shape, np.int32)).ravel()[index]
    return (codes.astype(np.int64) - zero).astype(F) * parts["scales"].ravel()[index]
