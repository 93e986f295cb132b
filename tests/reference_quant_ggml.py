"""Oracles of GGML's blocks: rows of numbers in the shape (blocks, numbers of a block) to bytes and back."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Parts = dict[str, Array]
F = np.float32

LENGTHS = {"q8_0": 32, "q4_0": 32, "q4_1": 32, "q5_0": 32, "q4_k": 256, "q6_k": 256}


def half(x: Array) -> Array:
    """Bytes of float16 numbers; what is beyond them becomes the largest."""
    return np.ascontiguousarray(np.clip(x, F(-65504), F(65504)).astype(np.float16)).view(np.uint8)


def from_half(b: Array) -> Array:
    return np.ascontiguousarray(b).view(np.float16).astype(F)


def saturated(d: Array) -> Array:
    return np.where(np.abs(d) < 65520, d, np.copysign(F(65504), d))


def inverse(d: Array) -> Array:
    with np.errstate(divide="ignore", over="ignore"):
        inv = F(1) / d
    return np.where(np.isfinite(inv), inv, F(0))


def total(x: Array) -> Array:
    """The sum over the last axis by halves."""
    while x.shape[-1] > 1:
        count = x.shape[-1] // 2
        x = x[..., :count] + x[..., count:]
    return x


def pairs(q: Array) -> Array:
    """Two halves of a block's codes in one byte."""
    count = q.shape[-1] // 2
    return q[..., :count] & 15 | q[..., count:] << 4


def unpaired(b: Array) -> Array:
    return np.concatenate([b & 15, b >> 4], axis=-1)


def first_absmax(x: Array) -> Array:
    return np.take_along_axis(x, np.abs(x).argmax(axis=-1, keepdims=True), -1)


def encode_q8_0(x: Array) -> Array:
    d = saturated(np.abs(x).max(axis=-1, keepdims=True) / F(127))
    t = np.clip(x * inverse(d), -127, 127)
    away = np.floor(np.abs(t)) + (np.abs(t) - np.floor(np.abs(t)) >= 0.5)
    return np.concatenate([half(d), np.copysign(away, t).astype(np.int8).view(np.uint8)], axis=-1)


def decode_q8_0(b: Array) -> Array:
    return b[:, 2:].view(np.int8).astype(F) * from_half(b[:, :2])


def around(x: Array, zero: int) -> tuple[Array, Array]:
    d = saturated(first_absmax(x) / F(-zero))
    return half(d), np.clip(x * inverse(d) + F(zero + 0.5), 0, 2 * zero - 1).astype(np.uint8)


def encode_q4_0(x: Array) -> Array:
    d, q = around(x, 8)
    return np.concatenate([d, pairs(q)], axis=-1)


def decode_q4_0(b: Array) -> Array:
    return (unpaired(b[:, 2:]).astype(F) - F(8)) * from_half(b[:, :2])


def encode_q5_0(x: Array) -> Array:
    d, q = around(x, 16)
    return np.concatenate([d, np.packbits(q >> 4, axis=-1, bitorder="little"), pairs(q)], axis=-1)


def decode_q5_0(b: Array) -> Array:
    q = unpaired(b[:, 6:]) | np.unpackbits(b[:, 2:6], axis=-1, bitorder="little") << 4
    return (q.astype(F) - F(16)) * from_half(b[:, :2])


def encode_q4_1(x: Array) -> Array:
    m = saturated(x.min(axis=-1, keepdims=True) + F(0))
    d = saturated((x.max(axis=-1, keepdims=True) - m) / F(15))
    q = np.clip((x - m) * inverse(d) + F(0.5), 0, 15).astype(np.uint8)
    return np.concatenate([half(d), half(m), pairs(q)], axis=-1)


def decode_q4_1(b: Array) -> Array:
    return unpaired(b[:, 4:]).astype(F) * from_half(b[:, :2]) + from_half(b[:, 2:4])


def on_line(x: Array, low: Array, inv: Array) -> Array:
    return np.clip(np.rint((x + low) * inv), 0, 15)


def fit_line(x: Array) -> tuple[Array, Array]:
    """Scale and low of the least squared error for each block of 32."""
    low = np.maximum(-x.min(axis=-1, keepdims=True), F(0))
    span = x.max(axis=-1, keepdims=True) + low
    best, least = (np.zeros_like(low), low), np.full(low.shape, np.inf, F)
    for steps in (13.5, 14.0, 14.5, 15.0):
        scale = span / F(steps)
        q = on_line(x, low, np.where(scale > F(1e-30), F(1) / scale, F(0)))
        line = regress(x, q, scale, low)
        r = x - (q * line[0] - line[1])
        error = total(r * r)
        better = error < least
        best = np.where(better, line[0], best[0]), np.where(better, line[1], best[1])
        least = np.where(better, error, least)
    return best


def regress(x: Array, q: Array, scale: Array, low: Array) -> tuple[Array, Array]:
    sum_x, codes, squares, products = total(x), total(q), total(q * q), total(q * x)
    spread = F(32) * squares - codes * codes
    slope = (F(32) * products - codes * sum_x) / spread
    start = (slope * codes - sum_x) * F(1 / 32)
    above, alike = start < 0, spread == 0
    slope = np.where(alike, scale, np.where(above, products / squares, slope))
    return slope, np.where(alike, low, np.where(above, F(0), start))


def six_bits(x: Array) -> Array:
    return np.clip(np.rint(x), 0, 63).astype(np.uint8)


def encode_q4_k(x: Array) -> Array:
    x = np.clip(x.reshape(-1, 8, 32), F(-63 * 65504), F(15 * 63 * 65504))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale, low = fit_line(x)
    head = [half(np.maximum(part.max(axis=1), F(0)) / F(63)) for part in (scale, low)]
    d, dmin = (from_half(b)[..., None] for b in head)
    sc, mn = six_bits(scale * inverse(d)), six_bits(low * inverse(dmin))
    q = on_line(x, dmin * sc_float(mn), inverse(d * sc_float(sc))).astype(np.uint8)
    return np.concatenate([*head, six_packed(sc[..., 0], mn[..., 0]), pairs(q.reshape(-1, 4, 64)).reshape(-1, 128)], -1)


def sc_float(bits: Array) -> Array:
    return bits.astype(F)


def six_packed(sc: Array, mn: Array) -> Array:
    upper = [part[:, :4] | part[:, 4:] >> 4 << 6 for part in (sc, mn)]
    return np.concatenate([*upper, sc[:, 4:] & 15 | mn[:, 4:] << 4], axis=-1)


def decode_q4_k(b: Array) -> Array:
    a, c, low = b[:, 4:8], b[:, 8:12], b[:, 12:16]
    sc = np.concatenate([a & 63, low & 15 | a >> 6 << 4], axis=-1).astype(F) * from_half(b[:, :2])
    mn = np.concatenate([c & 63, low >> 4 | c >> 6 << 4], axis=-1).astype(F) * from_half(b[:, 2:4])
    q = unpaired(b[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    return q.astype(F) * sc[..., None] - mn[..., None]


def fit_scale(x: Array) -> Array:
    largest, least = x.max(axis=-1, keepdims=True), x.min(axis=-1, keepdims=True)
    top = np.where(largest > -least, largest, least)
    best, most = np.zeros_like(top), np.full(top.shape, -1, F)
    for steps in (30, 31, 32, 33):
        start = top / F(-steps)
        q = by_scale(x, np.where(np.abs(start) > F(1e-30), F(1) / start, F(0)))
        products = total(q * x)
        scale = products / total(q * q)
        better = products * scale > most
        best, most = np.where(better, scale, best), np.where(better, products * scale, most)
    return best


def by_scale(x: Array, inv: Array) -> Array:
    return np.clip(np.rint(x * inv), -32, 31)


def encode_q6_k(x: Array) -> Array:
    x = np.clip(x.reshape(-1, 16, 16), F(-128 * 32 * 65504), F(128 * 32 * 65504))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = fit_scale(x)
    d = half(first_absmax(scale[..., 0]) / F(-128) + F(0))
    wide = from_half(d)[..., None]
    sc = np.clip(np.rint(scale * inverse(wide)), -128, 127).astype(np.int8)
    q = (by_scale(x, inverse(wide * sc.astype(F))) + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = q[:, :, :2] & 15 | q[:, :, 2:] << 4
    upper = q[:, :, 0] >> 4 | q[:, :, 1] >> 4 << 2 | q[:, :, 2] >> 4 << 4 | q[:, :, 3] >> 4 << 6
    parts = [low.reshape(-1, 128), upper.reshape(-1, 64), sc[..., 0].view(np.uint8), d]
    return np.concatenate(parts, axis=-1)


def decode_q6_k(b: Array) -> Array:
    low, upper = b[:, :128].reshape(-1, 2, 2, 32), b[:, 128:192].reshape(-1, 2, 1, 32)
    upper = np.concatenate([upper >> shift & 3 for shift in (0, 2, 4, 6)], axis=2)
    q = np.concatenate([low & 15, low >> 4], axis=2) | upper << 4
    scale = b[:, 192:208].view(np.int8).astype(F) * from_half(b[:, 208:])
    return (q.astype(F) - F(32)).reshape(-1, 16, 16) * scale[..., None]


def encode(x: Array, scheme: Any) -> Parts:
    rows = globals()[f"encode_{scheme.kind}"](x.reshape(-1, LENGTHS[scheme.kind]))
    return {"codes": rows.reshape(*x.shape[:-1], -1) if x.size else empty_codes(x, rows.shape[-1], scheme.kind)}


def empty_codes(x: Array, nbytes: int, kind: str) -> Array:
    return np.zeros((*x.shape[:-1], x.shape[-1] // LENGTHS[kind] * nbytes), np.uint8)


def decode(parts: Parts, scheme: Any, shape: tuple[int, ...]) -> Array:
    nbytes = {"q8_0": 34, "q4_0": 18, "q4_1": 20, "q5_0": 22, "q4_k": 144, "q6_k": 210}[scheme.kind]
    return globals()[f"decode_{scheme.kind}"](parts["codes"].reshape(-1, nbytes)).reshape(shape)
