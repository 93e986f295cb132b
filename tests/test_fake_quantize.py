"""Fake quantization and its gradients: golden, oracle bit by bit, sums against exact ones, layouts, bad input."""

import json
import math

import ml_dtypes
import numpy as np
import pytest

from helpers import HERE, LAYOUTS, Array, assert_same_bits, laid_out
from reference_quant import GOLDEN
from stepsmith.quant import fake_quantize, fake_quantize_backward

ROWS = [row for row in json.loads((HERE / "golden" / "quant.json").read_text()) if row["op"] == "fake_quantize"]
DTYPES = [np.dtype(d) for d in (np.float32, np.float64, ml_dtypes.bfloat16, np.float16)]
SHAPES: list[tuple[tuple[int, ...], int | None]] = [
    ((), None), ((0,), None), ((3,), None), ((5, 7), None), ((150_001,), None),
    ((5, 7), 0), ((5, 7), 1), ((0, 4), 1), ((4, 0), 1), ((2, 3, 70), 1), ((40, 33, 3), -2), ((3, 2, 70_000), 1),
]  # fmt: skip
CASES = [(shape, axis, convention) for shape, axis in SHAPES for convention in ("torch", "onnx")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["case"])
def test_golden(row: dict) -> None:
    x, case = GOLDEN[f"{row['case']}/x"], row["case"]
    y, saved = fake_quantize(x, row["scale"], row["zero_point"], row["qmin"], row["qmax"])
    assert (y == GOLDEN[f"{case}/y"]).all()
    assert (fake_quantize_backward(np.ones_like(x), saved)[0] == GOLDEN[f"{case}/dx"]).all()


def draw(shape: tuple[int, ...], axis: int | None, dtype: np.dtype) -> tuple[Array, Array, Array, Array]:
    """x, dy, scales and zero points; some x are ties, NaN or infinite."""
    rng = np.random.default_rng(len(shape) + sum(shape))
    steps = () if axis is None else (shape[axis],)
    x, dy = rng.standard_normal(shape) * 3, rng.standard_normal(shape)
    x = np.where(rng.random(shape) < 0.2, np.round(x * 4) / 4, x)
    scale, point = np.exp2(rng.integers(-4, 1, steps)) * rng.choice([1.0, 1.3], steps), rng.integers(-8, 8, steps)
    return x.astype(dtype), dy.astype(dtype), scale, point


def oracle(x: Array, dy: Array, scale: Array, point: Array, axis: int | None, convention: str) -> tuple[Array, ...]:
    """y, dx, and the terms of dscale, in the compute type."""
    kind = np.float64 if x.dtype == np.float64 else np.float32
    x, dy = x.astype(kind), dy.astype(kind)
    if axis is not None:
        spread = [1] * x.ndim
        spread[axis] = -1
        scale, point = scale.reshape(spread), point.reshape(spread)
    scale, low, high = np.asarray(scale, kind), (-8 - point).astype(kind), (7 - point).astype(kind)
    scaled = x * (kind(1) / scale) if convention == "torch" else x / scale
    rounded = np.round(scaled) + kind(0)
    y = np.clip(rounded, low, high) * scale
    inside = (rounded >= low) & (rounded <= high)
    dx = np.where(inside, dy, np.where(np.isnan(x), x, kind(0)))
    terms = np.where(rounded < low, low, np.where(rounded > high, high, rounded - scaled)) * dy
    return y, dx, terms


def exact_sums(terms: Array, axis: int | None) -> Array:
    if axis is None:
        return np.array(math.fsum(terms.ravel()))
    rows = (
        np.moveaxis(terms, axis, 0).reshape(terms.shape[axis], -1) if terms.size else np.zeros((terms.shape[axis], 0))
    )
    return np.array([math.fsum(row) for row in rows])


@pytest.mark.parametrize(("shape", "axis", "convention"), CASES)
def test_all_dtypes_are_the_oracle(shape: tuple[int, ...], axis: int | None, convention: str) -> None:
    for dtype in DTYPES:
        x, dy, scale, point = draw(shape, axis, dtype)
        y, dx, terms = oracle(x, dy, scale, point, axis, convention)
        found, saved = fake_quantize(x, scale, point, -8, 7, axis, convention=convention)
        assert_same_bits(found, y.astype(dtype))
        gradient, dscale = fake_quantize_backward(dy, saved)
        assert_same_bits(gradient, dx.astype(dtype))
        wanted, size = exact_sums(terms, axis), exact_sums(np.abs(terms), axis)
        assert dscale.dtype == terms.dtype
        assert dscale.shape == wanted.shape
        assert (np.abs(dscale - wanted) <= size * 1e-13 + np.abs(wanted) * np.finfo(dscale.dtype).eps).all()


def test_nan_travels_and_infinity_saturates() -> None:
    x = np.float32([np.nan, np.inf, -np.inf, 1.0] * 40)
    y, saved = fake_quantize(x, 0.5, 1, 0, 7)
    assert np.isnan(y[::4]).all()
    assert (y[1::4] == 3).all()
    assert (y[2::4] == -0.5).all()
    dx, dscale = fake_quantize_backward(np.ones_like(x), saved)
    assert np.isnan(dx[::4]).all()
    assert (dx[1::4] == 0).all()
    assert (dx[3::4] == 1).all()
    assert np.isnan(dscale)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [None, 1, 2])
def test_layouts_and_out_change_nothing(layout: str, axis: int | None) -> None:
    for dtype in DTYPES:
        x, dy, scale, point = draw((3, 40, 70), axis, dtype)
        y, saved = fake_quantize(x, scale, point, -8, 7, axis)
        dx, dscale = fake_quantize_backward(dy, saved)
        strided, out = laid_out(x, layout), laid_out(np.full(x.shape, 7, dtype), layout)
        found, again = fake_quantize(strided, scale, point, -8, 7, axis, out=out)
        assert found is out
        assert_same_bits(out, y)
        gradient, room = laid_out(dy, layout).copy(order="K"), np.full(dscale.shape, 7, dscale.dtype)
        results = fake_quantize_backward(gradient, again, out=(gradient, room))
        assert results[0] is gradient
        assert results[1] is room
        assert_same_bits(gradient, dx)
        assert_same_bits(room, dscale)
        inplace = x.copy()
        _, lost = fake_quantize(inplace, scale, point, -8, 7, axis, out=inplace)
        assert_same_bits(inplace, y)
        with pytest.raises(ValueError, match="saved must hold x"):
            fake_quantize_backward(dy, lost)


def test_the_scale_learns_what_rounds_best() -> None:
    rng = np.random.default_rng(0)
    x, scale = rng.standard_normal(4096), np.array(0.05)
    for _ in range(300):
        y, saved = fake_quantize(x, scale, 0, -8, 7)
        _, dscale = fake_quantize_backward(2 * (y - x) / x.size, saved)
        scale -= 0.1 * dscale
    errors = [np.mean((fake_quantize(x, s, 0, -8, 7)[0] - x) ** 2) for s in np.linspace(0.2, 0.5, 60)]
    assert np.mean((fake_quantize(x, scale, 0, -8, 7)[0] - x) ** 2) < min(errors) * 1.03


def test_bad_arguments_are_named() -> None:
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(ValueError, match="fake_quantize: qmax must be at least 6, got 5"):
        fake_quantize(x, 1.0, 5, 5, 5)
    with pytest.raises(ValueError, match=r"scale must be finite normal numbers above 0, got 0\.0"):
        fake_quantize(x, 0.0)
    with pytest.raises(ValueError, match=r"zero_point must be integers in \[-8, 7\], got 9"):
        fake_quantize(x, 1.0, 9, -8, 7)
    with pytest.raises(ValueError, match=r"scale must have shape \(4,\) or be one number, got shape \(3,\)"):
        fake_quantize(x, np.ones(3), axis=1)
    with pytest.raises(ValueError, match="axis must be at most 1, got 2"):
        fake_quantize(x, 1.0, axis=2)
    with pytest.raises(TypeError, match="scale must be numbers, got bool"):
        fake_quantize(x, True)
    y, saved = fake_quantize(x, 1.0)
    with pytest.raises(ValueError, match=r"dy must have the shape of x, \(3, 4\), got \(4, 3\)"):
        fake_quantize_backward(y.T, saved)
    with pytest.raises(TypeError, match="saved must be what fake_quantize returned, FakeSaved, got int"):
        fake_quantize_backward(y, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"out\[1\] must have shape \(\), got \(1,\)"):
        fake_quantize_backward(y, saved, out=(None, np.zeros(1, np.float32)))
