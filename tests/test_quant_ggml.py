"""GGML's blocks beside the package gguf: bytes of those that it quantizes, numbers of all."""

from collections.abc import Callable

import gguf
import numpy as np
import pytest

import stepsmith as ss
from helpers import Array, assert_same_bits
from quant_cases import DTYPES, numbers
from stepsmith.quant.ggml import KINDS

PLAIN = ("q8_0", "q4_0", "q4_1", "q5_0")


def their(kind: str) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType[kind.upper()]


def our(x: Array, kind: str) -> ss.quant.QuantizedArray:
    return ss.quant.quantize(x, ss.quant.GGML(kind))


def rms(x: Array, kind: str) -> float:
    return float(np.sqrt(np.mean((our(x, kind).dequantize().astype(np.float64) - x) ** 2)))


def tame(shape: tuple[int, ...], seed: int) -> Array:
    """Numbers whose scales float16 and whose inverses float32 can hold: that is where gguf has no infinity."""
    x = numbers(shape, DTYPES[3], seed).astype(np.float32)
    flat = x.reshape(-1)
    flat[: 32 * 64 : 7] = np.round(flat[: 32 * 64 : 7])
    flat[32 * 70 : 32 * 71] = np.arange(32) - 16
    return x


@pytest.mark.parametrize("kind", PLAIN)
def test_bytes_and_numbers_are_ggufs(kind: str) -> None:
    for seed, shape in enumerate([(7, 1024), (1, 32), (3, 5, 20_160)]):
        x = tame(shape, seed) if shape != (1, 32) else numbers(shape, DTYPES[0])
        if kind == "q4_1":
            x += 0.0  # of zeros with two signs gguf takes one that depends on the CPU
        q = our(x, kind)
        with np.errstate(invalid="ignore", over="ignore"):
            want = gguf.quantize(x, their(kind))
        assert q.codes.shape == want.shape == (*shape[:-1], shape[-1] // 32 * KINDS[kind].nbytes)
        assert q.codes.tobytes() == want.tobytes()
        assert_same_bits(q.dequantize(), gguf.dequantize(want, their(kind)))


@pytest.mark.parametrize("kind", PLAIN)
def test_halves_and_their_neighbours_go_where_ggufs_go(kind: str) -> None:
    levels = {"q8_0": 127, "q4_0": 8, "q4_1": 15, "q5_0": 16}[kind]
    top = np.array([[levels, -levels]] * 500, np.float32).reshape(-1)
    x = np.random.default_rng(0).integers(-2 * levels, 2 * levels, (1000, 32)).astype(np.float32) / 2
    for given in (x, np.nextafter(x, np.float32(0)), np.nextafter(x, 2 * x)):
        given[:, 5] = top
        assert our(given, kind).codes.tobytes() == gguf.quantize(given, their(kind)).tobytes()
        assert our(-given, kind).codes.tobytes() == gguf.quantize(-given, their(kind)).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_are_decoded_as_gguf_does(kind: str) -> None:
    rng, length = np.random.default_rng(1), KINDS[kind].length
    codes = rng.integers(0, 256, (300, 3 * KINDS[kind].nbytes), np.uint8)
    q = ss.quant.QuantizedArray(ss.quant.GGML(kind), (300, 3 * length), {"codes": codes})
    with np.errstate(invalid="ignore", over="ignore"):
        assert_same_bits(q.dequantize(), gguf.dequantize(codes, their(kind)))


DRAWS = {
    "normal": lambda rng: rng.standard_normal((64, 4096)),
    "uniform": lambda rng: rng.uniform(-1, 1, (64, 4096)),
    "laplace": lambda rng: rng.laplace(size=(64, 4096)),
    "heavy tails": lambda rng: rng.standard_t(3, (64, 4096)),
    "rectified": lambda rng: np.maximum(rng.standard_normal((64, 4096)), 0),
    "rows of many sizes": lambda rng: rng.standard_normal((64, 4096)) * 10.0 ** rng.uniform(-4, 2, (64, 1)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=list(DRAWS))
def test_k_blocks_err_less_than_plain_ones(draw: Callable[[np.random.Generator], Array]) -> None:
    x = draw(np.random.default_rng(3)).astype(np.float32)
    assert rms(x, "q4_k") <= 1.05 * rms(x, "q4_1")
    assert rms(x, "q6_k") <= 0.5 * rms(x, "q5_0")


@pytest.mark.parametrize("kind", KINDS)
def test_scales_beyond_float16_stay_at_its_largest(kind: str) -> None:
    x = np.linspace(-1e30, 1e30, 512, dtype=np.float32)
    back = our(x, kind).dequantize()
    assert np.isfinite(back).all()
    assert (np.sign(back) == np.sign(x)).all() or kind in ("q4_1", "q4_k")
    assert np.abs(back).max() > 5e5
    x[0], x[-1] = -np.inf, np.inf
    assert our(x, kind).dequantize().tobytes() == back.tobytes()


def test_a_minimum_beyond_float16_moves_the_scale_with_it() -> None:
    x = np.linspace(-80_000, 100_000, 32, dtype=np.float32)
    back = our(x, "q4_1").dequantize()
    assert back.min() == -65504
    assert abs(back.max() - 100_000) < 100


def test_shapes_that_are_no_whole_blocks_are_refused() -> None:
    for shape, kind, length in [((3, 33), "q8_0", 32), ((), "q4_0", 32), ((32, 5), "q4_1", 32), ((2, 32), "q6_k", 256)]:
        with pytest.raises(ValueError, match=rf"GGML: the last axis must be a multiple of {length} for {kind}, got sh"):
            our(np.zeros(shape, np.float32), kind)
    with pytest.raises(ValueError, match="GGML: kind must be one of q8_0, q4_0, q4_1, q5_0, q4_k, q6_k, got 'q2_k'"):
        ss.quant.GGML("q2_k")
    with pytest.raises(AttributeError, match="has no scales"):
        _ = our(np.zeros((2, 32), np.float32), "q8_0").scales
