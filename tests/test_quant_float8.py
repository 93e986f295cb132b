"""Small floats: a second way to the bits of MX and NVFP4 by ml_dtypes, and what is particular to each scheme."""

import re

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from helpers import Array
from quant_cases import numbers
from reference_quant_float8 import E4M3, E5M2, E8M0

E2M1 = np.dtype(ml_dtypes.float4_e2m1fn)
F32 = np.dtype(np.float32)
LARGEST = {E4M3: 448.0, E5M2: 57344.0, E2M1: 6.0}
SHAPE = (40, 1030)


def quantized(x: Array, scheme: ss.quant.Scheme) -> ss.quant.QuantizedArray:
    return ss.quant.quantize(x, scheme)


def saturated(x: Array, dtype: np.dtype) -> Array:
    return np.clip(x, -LARGEST[dtype], LARGEST[dtype]).astype(F32).astype(dtype)


def nibbles(packed: Array) -> Array:
    """4-bit codes one a byte, the low half first."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)


def repeated(scales: Array, block: int) -> Array:
    """A scale for each element, in float64."""
    return np.repeat(scales.astype(np.float64), block, axis=1)[:, : SHAPE[1]]


@pytest.mark.parametrize(("name", "dtype"), [("mxfp8_e4m3", E4M3), ("mxfp8_e5m2", E5M2), ("mxfp4", E2M1)])
def test_mx_is_what_ml_dtypes_makes_of_the_scaled_numbers(name: str, dtype: np.dtype) -> None:
    x = numbers(SHAPE, F32)
    q = quantized(x, ss.quant.MX(name))
    emax = int(np.log2(LARGEST[dtype]))
    wide = np.zeros((SHAPE[0], 33 * 32))
    wide[:, : SHAPE[1]] = x
    absmax = np.abs(wide).reshape(SHAPE[0], 33, 32).max(axis=-1)
    powers = np.where(absmax > 0, 2.0 ** (np.floor(np.log2(np.where(absmax > 0, absmax, 1))) - emax), 0)
    scales = np.maximum(powers, 2.0**-127).astype(F32).astype(E8M0)
    assert (q.scales.view(np.uint8) == scales.view(np.uint8)).all()
    codes = saturated(x / repeated(scales, 32), dtype)
    got = q.codes.view(np.uint8) if name != "mxfp4" else nibbles(q.codes)
    assert (got == codes.view(np.uint8)).all()
    assert (q.dequantize() == codes.astype(np.float64) * repeated(scales, 32)).all()


def test_nvfp4_is_what_ml_dtypes_makes_of_the_scaled_numbers() -> None:
    x = np.random.default_rng(3).standard_normal(SHAPE).astype(F32)
    x[:, 100:200] *= np.float32(1e-3)
    q = quantized(x, ss.quant.NVFP4())
    tensor = np.abs(x).max() / np.float32(2688)
    assert q.parts["tensor_scale"] == tensor
    wide = np.zeros((SHAPE[0], 65 * 16), F32)
    wide[:, : SHAPE[1]] = x
    absmax = np.abs(wide).reshape(SHAPE[0], 65, 16).max(axis=-1)
    scales = saturated(absmax / tensor / np.float32(6), E4M3)
    assert (q.scales.view(np.uint8) == scales.view(np.uint8)).all()
    scale = np.repeat(scales.astype(F32) * tensor, 16, axis=1)[:, : SHAPE[1]]
    codes = saturated(x * (1 / scale), E2M1)
    assert (nibbles(q.codes) == codes.view(np.uint8)).all()
    assert (q.dequantize() == codes.astype(F32) * scale).all()


def test_nvfp4_scales_round_as_written_at_each_middle() -> None:
    codes = np.arange(127, dtype=np.uint8).view(E4M3).astype(F32)
    tensor = np.float32(0.7) / np.float32(2688)
    middles = ((codes[:-1] + codes[1:]) / 2 * tensor * np.float32(6)).view(np.int32)
    x = np.zeros((126 * 9 + 1, 16), F32)
    x[1:, 3] = (middles[:, None] + np.arange(-4, 5)).astype(np.int32).view(F32).reshape(-1)
    x[0, 0] = 0.7
    scales = saturated(np.abs(x).max(axis=1, keepdims=True) / tensor / np.float32(6), E4M3)
    assert (quantized(x, ss.quant.NVFP4()).scales.view(np.uint8) == scales.view(np.uint8)).all()


@pytest.mark.parametrize("scheme", [ss.quant.MX("mxfp8_e5m2"), ss.quant.MX("mxfp4"), ss.quant.NVFP4()], ids=repr)
def test_each_row_is_quantized_as_if_alone(scheme: ss.quant.Scheme) -> None:
    x = np.random.default_rng(4).standard_normal((7, 45)).astype(F32)
    x[:, 0] = 6
    q = quantized(x, scheme)
    for row in range(7):
        alone = quantized(x[row], scheme)
        assert (q.codes[row].view(np.uint8) == alone.codes.view(np.uint8)).all()
        assert (q.scales[row].view(np.uint8) == alone.scales.view(np.uint8)).all()


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp8_e5m2", "mxfp4"])
def test_a_block_with_infinity_is_nan_as_a_whole_and_only_that_one(name: str) -> None:
    x = np.ones((3, 70), F32)
    want = quantized(x, ss.quant.MX(name)).dequantize()
    for place, block in (((0, 5), slice(0, 32)), ((1, 63), slice(32, 64)), ((2, 69), slice(64, 70))):
        bad = x.copy()
        bad[place] = -np.inf
        q = quantized(bad, ss.quant.MX(name))
        assert q.scales.view(np.uint8)[place[0], place[1] // 32] == 0xFF
        inside = np.zeros(x.shape, bool)
        inside[place[0], block] = True
        back = q.dequantize()
        assert np.isnan(back[inside]).all()
        assert (back[~inside] == want[~inside]).all()
        codes = q.codes.view(np.uint8)
        half = 2 if name == "mxfp4" else 1
        assert not codes[place[0], block.start // half : -(-block.stop // half)].any()


def test_mx_saturates_and_reaches_the_ends_of_float32() -> None:
    top = np.finfo(F32).max
    for name in ("mxfp8_e4m3", "mxfp8_e5m2", "mxfp4"):
        x = np.array([top, -top, 2.0**-149, 0, -0.0], F32)
        back = quantized(x, ss.quant.MX(name)).dequantize()
        assert np.isfinite(back).all()
        assert back[0] == -back[1] > 0.74 * top
        assert not quantized(np.zeros(5, F32), ss.quant.MX(name)).scales.view(np.uint8).any()
        tiny = quantized(np.array([2.0**-126], F32), ss.quant.MX(name))
        assert (tiny.scales.view(np.uint8)[0], tiny.dequantize()[0]) == (0, 2.0**-126)


def test_scales_of_others_decode() -> None:
    mx = ss.quant.MX("mxfp4")
    parts = {"codes": np.array([0x72, 0x09], np.uint8), "scales": np.array([254], np.uint8).view(E8M0)}
    with np.errstate(over="ignore"):
        want = np.array([1, 6, -0.5], F32) * np.float32(2.0**127)
    assert (ss.quant.QuantizedArray(mx, (3,), parts).dequantize() == want).all()


def test_nvfp4_at_the_ends_of_float32() -> None:
    top = np.finfo(F32).max
    x = np.full(33, top, F32)
    assert (quantized(x, ss.quant.NVFP4()).dequantize() == top).all()
    x[3] = -np.inf
    q = quantized(x, ss.quant.NVFP4())
    assert q.dequantize()[3] == -top
    nothing = quantized(np.zeros((2, 17), F32), ss.quant.NVFP4())
    assert nothing.parts["tensor_scale"] == 0
    assert not nothing.dequantize().any()
    tiny = np.array([2.0**-136, 0, -(2.0**-137)], F32)
    assert np.abs(quantized(tiny, ss.quant.NVFP4()).dequantize() - tiny).max() <= 2.0**-140
    with pytest.raises(ValueError, match=re.escape("index [1]")):
        quantized(np.array([np.inf, np.nan], F32), ss.quant.NVFP4())
    zeroed = ss.quant.quantize(np.array([1, np.nan], F32), ss.quant.NVFP4(), nan="zero")
    assert zeroed.dequantize().tolist() == [1, 0]


@pytest.mark.parametrize("name", ["e4m3fn", "e5m2"])
def test_plain_float8_is_the_saturating_cast(name: str) -> None:
    x = numbers((301, 7), F32)
    x[5, 5] = np.inf
    q = quantized(x, ss.quant.Float8(name))
    assert q.codes.tobytes() == ss.cast(x, q.codes.dtype).tobytes()
    assert set(q.parts) == {"codes"}
    assert (q.dequantize() == q.codes.astype(F32)).all()


@pytest.mark.parametrize("scheme", [ss.quant.NF4, ss.quant.FP4])
def test_double_quantization_changes_the_scales_alone_and_little(scheme: type) -> None:
    x = np.random.default_rng(5).standard_normal(100_003).astype(F32)
    single, double = quantized(x, scheme()), quantized(x, scheme(double_quant=True))
    assert (single.codes == double.codes).all()
    assert double.nbytes < 0.52 * x.size < single.nbytes
    far = np.abs(single.scales - single.scales.mean()).max()
    moved = np.abs(double.dequantize() - single.dequantize())
    assert 0 < moved.max() < 0.04 * far
    with pytest.raises(AttributeError, match="has no scales"):
        _ = double.scales


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="Float8: format must be one of e4m3fn, e5m2, ue5m3, got 'e4m3'"):
        ss.quant.Float8("e4m3")
    with pytest.raises(ValueError, match="Float8: block_size must be at least 32, got 16"):
        ss.quant.Float8("e5m2", 16)
    with pytest.raises(ValueError, match="MX: format must be one of mxfp8_e4m3, mxfp8_e5m2, mxfp4, got 'mxfp6'"):
        ss.quant.MX("mxfp6")
    with pytest.raises(TypeError, match="NF4: double_quant must be True or False, got 1"):
        ss.quant.NF4(double_quant=1)  # type: ignore[arg-type]
    q = quantized(np.ones(3, F32), ss.quant.MX())
    with pytest.raises(TypeError, match="must have dtype float8_e8m0fnu, got uint8"):
        ss.quant.QuantizedArray(q.scheme, q.shape, {**q.parts, "scales": q.scales.view(np.uint8)})
