"""Affine codes with known scales, scales of ranges, fake quantization and observers on a GPU: the CPU's bits."""

from math import prod
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from gpu_layouts import LAYOUTS, on_device
from gpu_shim import array as shim
from helpers import Array, assert_same_bits
from quant_cases import CASES, DTYPES, numbers
from stepsmith.quant import Affine, fake_quantize, fake_quantize_backward, quantize_affine
from test_affine import RANGES, given
from test_gpu_quant import assert_same_parts, is_quick

GIVEN = [case for case in CASES if isinstance(case.scheme, Affine)]


def there(gpu: Any, *arrays: Array | None) -> list[Any]:
    return [None if array is None else gpu.asarray(array) for array in arrays]


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("case", GIVEN, ids=[repr(case.scheme) for case in GIVEN])
def test_codes_with_given_scales(gpu: Any, case: Any) -> None:
    for shape in case.shapes:
        if not is_quick(case, shape):
            continue
        x, (scale, point) = numbers(shape, DTYPES[0]), given(case.scheme, shape)
        want = quantize_affine(x, case.scheme, scale, point)
        got = quantize_affine(gpu.asarray(x), case.scheme, *there(gpu, scale, point))
        assert_same_parts(got, want)
        assert_same_bits(got.dequantize().get(), want.dequantize())
        again = ss.quant.quantize(gpu.asarray(x), case.scheme)
        assert quantize_affine(gpu.asarray(x), case.scheme, *there(gpu, scale, point), out=again) is again
        assert_same_parts(again, want)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_given_scales_and_layouts(gpu: Any, layout: str) -> None:
    x, scheme = numbers((4, 70, 9), DTYPES[2]), Affine(bits=4, symmetric=False, axis=1)
    scale, point = given(scheme, x.shape)
    got = quantize_affine(on_device(gpu, x, layout), scheme, *there(gpu, scale, point))
    assert_same_parts(got, quantize_affine(x, scheme, scale, point))


def test_numbers_are_scales_too_and_bad_ones_are_named(gpu: Any) -> None:
    x = np.float32([np.inf, -np.inf, 0.0, 1.0] * 70)
    assert_same_parts(quantize_affine(gpu.asarray(x), Affine(), 0.1), quantize_affine(x, Affine(), 0.1))
    x[7] = np.nan
    out = ss.quant.quantize(gpu.ones(280, np.float32), Affine())
    for given_out in (None, out):
        with pytest.raises(ValueError, match=r"quantize_affine: x must not have NaN .* index \[7\]"):
            quantize_affine(gpu.asarray(x), Affine(), 0.1, out=given_out)
    assert (out.codes.get() == 127).all()
    for scale in (0.0, gpu.zeros((), np.float32), [0.0]):
        with pytest.raises(ValueError, match="scale must"):
            quantize_affine(gpu.asarray(x), Affine(), scale)
    with pytest.raises(ValueError, match=r"zero_point must be in \[0, 15\], got 16"):
        quantize_affine(gpu.asarray(x), Affine(4, symmetric=False), 1.0, 16)


@pytest.mark.parametrize(
    "scheme", [Affine(bits=4), Affine(scaling="observer"), Affine(scaling="full"), Affine(symmetric=False)]
)
def test_scales_of_ranges(gpu: Any, scheme: Affine) -> None:
    low, high = np.array(RANGES).T
    low, high = np.append(low, [-np.inf, -3e38]), np.append(high, [np.inf, 3e38])
    got, want = scheme.steps(*there(gpu, low, high)), scheme.steps(low, high)
    for mine, theirs in zip(got, want):
        assert_same_bits(mine.get(), theirs)
    assert_same_bits(scheme.steps(gpu.asarray(-1.0), 2.0)[0].get(), scheme.steps(-1.0, 2.0)[0])


SHAPES = [
    ((7,), None),
    ((3, 5000), None),
    ((4, 17_001), None),
    ((70_001,), None),
    ((40, 33), 1),
    ((3, 40, 70), 1),
    ((2, 3, 30_001), 1),
    ((0, 4), 1),
]
FAKES = [(shape, axis, dtype) for shape, axis in SHAPES for dtype in (DTYPES if prod(shape) < 50_000 else DTYPES[1:3])]
LARGE = [((1_100_003,), None), ((2, 40, 20_001), 1)]
"""More parts of a sum than a block has warps, more blocks than few."""


def gradients(gpu: Any, x: Array, dy: Array, numbers: tuple[Array, Array], axis: int | None) -> None:
    """Both ways, with both conventions, as the CPU."""
    for convention in ("onnx", "torch"):
        rest: dict[str, Any] = {"qmin": 0, "qmax": 15, "axis": axis, "convention": convention}
        y, saved = fake_quantize(x, *numbers, **rest)
        got, got_saved = fake_quantize(gpu.asarray(x), *there(gpu, *numbers), **rest)
        assert_same_bits(got.get(), y)
        wanted = fake_quantize_backward(dy, saved)
        for mine, theirs in zip(fake_quantize_backward(gpu.asarray(dy), got_saved), wanted):
            assert_same_bits(mine.get(), theirs)


def fake(gpu: Any, shape: tuple[int, ...], axis: int | None, dtype: np.dtype) -> None:
    rng = np.random.default_rng(0)
    x, dy = ((rng.standard_normal(shape) * 3).astype(dtype) for _ in range(2))
    channels = () if axis is None else (shape[axis],)
    numbers_ = rng.uniform(0.01, 0.3, channels), rng.integers(0, 9, channels)
    gradients(gpu, x, dy, numbers_, axis)
    x.reshape(-1)[::97] = np.nan
    x.reshape(-1)[1::97] = np.inf
    gradients(gpu, x, dy, numbers_, axis)


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize(("shape", "axis", "dtype"), FAKES, ids=str)
def test_fake_quantization_and_its_gradients(
    gpu: Any, shape: tuple[int, ...], axis: int | None, dtype: np.dtype
) -> None:
    fake(gpu, shape, axis, dtype)


@pytest.mark.slow
@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize(("shape", "axis"), LARGE, ids=str)
def test_gradients_of_many_parts(gpu: Any, shape: tuple[int, ...], axis: int | None) -> None:
    fake(gpu, shape, axis, DTYPES[0])


def test_fake_quantization_does_not_wait(gpu: Any) -> None:
    x, scale = gpu.ones((4, 6), np.float32), gpu.full(6, 0.1)
    before = shim.syncs
    _, saved = fake_quantize(x, scale, axis=1)
    fake_quantize_backward(x, saved)
    assert shim.syncs == before
    with pytest.raises(ValueError, match="scale must be finite normal numbers above 0"):
        fake_quantize(x, -1.0)
    with pytest.raises(TypeError, match="scale must be an array of CuPy as the others are"):
        fake_quantize(x, np.ones(6), axis=1)


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("name", ["MinMax", "MovingAverage", "Percentile", "HistogramMSE"])
def test_observers_see_the_same(gpu: Any, name: str, axis: int | None) -> None:
    on_host, on_gpu = (getattr(ss.quant, name)(axis=axis) for _ in range(2))
    scheme = Affine(symmetric=False, axis=axis)
    for seed, dtype in enumerate(DTYPES):
        batch = np.asarray(np.random.default_rng(seed).standard_normal((90, 5)) * 2**seed, np.float32).astype(dtype)
        on_host.update(batch)
        on_gpu.update(gpu.asarray(batch))
    for mine, theirs in zip(on_gpu.parameters(scheme), on_host.parameters(scheme)):
        assert_same_bits(mine.get(), theirs)
    with pytest.raises(ValueError, match="batch must be finite"):
        on_gpu.update(gpu.full((2, 5), np.inf))
