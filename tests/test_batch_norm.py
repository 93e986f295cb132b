"""Batch norm against the oracle bit for bit, its running statistics and its layouts."""

from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from helpers import LAYOUTS, assert_same_bits, laid_out
from reference_norm import batch_differentiate, batch_normalize, channel_moments
from reference_storage import DTYPES, compute_type, encode

Array = np.ndarray[Any, Any]
SHAPES = [(2, 1, 1), (3, 5, 1), (70, 130, 1), (200, 700, 1), (2, 3, 4), (5, 3, 64), (33, 17, 49), (3, 2, 70_001)]
SHAPES += [(2, 40, 3136), (1, 4, 9), (1100, 33, 1), (600, 1100, 1)]


def make(shape: tuple[int, ...], dtype: str) -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(3)
    x, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    weight, bias = (rng.standard_normal(shape[1]).astype(compute_type(DTYPES[dtype])) for _ in range(2))
    return (x * 2 + 1).astype(DTYPES[dtype]), dy.astype(DTYPES[dtype]), weight, bias


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm_equals_the_oracle(shape: tuple[int, int, int], dtype: str, affine: bool) -> None:
    x, dy, weight, bias = make(shape, dtype)
    w, b = (weight, bias) if affine else (None, None)
    y, saved = ss.norm.batch_norm(x, w, b)
    mean, squares = channel_moments(x)
    rstd = 1.0 / np.sqrt(squares / (shape[0] * shape[2]) + 1e-5)
    assert_same_bits(saved.mean, mean, "mean")
    assert_same_bits(saved.rstd, rstd, "rstd")
    assert_same_bits(y, encode(batch_normalize(x, mean, rstd, w, b), x.dtype), "y")
    got = ss.norm.batch_norm_backward(dy, saved)
    want = batch_differentiate(dy, x, mean, rstd, w)
    assert_same_bits(got[0], want[0], "dx")
    if affine:
        for gradient, total in zip(got[1:], want[1:], strict=True):
            assert gradient is not None
            assert_same_bits(gradient, total.astype(weight.dtype), "sums")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 5, 1), (4, 3, 50)], ids=str)
def test_without_training_the_running_statistics_count(shape: tuple[int, int, int], dtype: str) -> None:
    x, dy, weight, bias = make(shape, dtype)
    running = np.linspace(-1, 1, shape[1]).astype(weight.dtype), np.linspace(0.5, 2, shape[1]).astype(weight.dtype)
    before = [array.copy() for array in running]
    y, saved = ss.norm.batch_norm(x, weight, bias, *running, training=False)
    mean, rstd = running[0].astype(np.float64), 1.0 / np.sqrt(running[1].astype(np.float64) + 1e-5)
    assert_same_bits(y, encode(batch_normalize(x, mean, rstd, weight, bias), x.dtype))
    dx = ss.norm.batch_norm_backward(dy, saved)[0]
    zero = np.zeros(shape[1])
    assert_same_bits(dx, encode(batch_normalize(dy, zero, rstd, weight, None), x.dtype))
    for array, old in zip(running, before, strict=True):
        assert_same_bits(array, old)


def test_running_statistics_move_by_the_momentum_or_average_all_batches() -> None:
    batches = [make((6, 3, 4), "f64")[0] * k for k in (1.0, 2.0, 5.0)]
    mean, var = np.zeros(3), np.ones(3)
    for batch in batches:
        ss.norm.batch_norm(batch, running_mean=mean, running_var=var, momentum=0.25)
    want = 0.0
    for batch in batches:
        want = want + (batch.var(axis=(0, 2), ddof=1) - want) * 0.25
    np.testing.assert_allclose(var, want + 0.75**3, rtol=1e-12)
    mean, var = np.zeros(3), np.ones(3)
    for k, batch in enumerate(batches):
        ss.norm.batch_norm(batch, running_mean=mean, running_var=var, momentum=None, batches=k)
    np.testing.assert_allclose(mean, np.mean([batch.mean(axis=(0, 2)) for batch in batches], axis=0), rtol=1e-12)
    np.testing.assert_allclose(var, np.mean([b.var(axis=(0, 2), ddof=1) for b in batches], axis=0), rtol=1e-12)


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_channels_may_be_any_axis(axis: int) -> None:
    x, dy, weight, bias = make((4, 6, 5, 7), "f64")
    n = x.shape[axis]
    weight, bias = np.resize(weight, n), np.resize(bias, n)
    y, saved = ss.norm.batch_norm(x, weight, bias, axis=axis)
    got = ss.norm.batch_norm_backward(dy, saved)
    turned, dy_turned = (np.moveaxis(array, axis, 1) for array in (x, dy))
    want, saved = ss.norm.batch_norm(turned, weight, bias)
    np.testing.assert_allclose(np.moveaxis(y, axis, 1), want, rtol=0, atol=1e-13)
    gradients = ss.norm.batch_norm_backward(dy_turned, saved)
    np.testing.assert_allclose(np.moveaxis(got[0], axis, 1), gradients[0], rtol=0, atol=1e-13)
    for a, b in zip(got[1:], gradients[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(37, 33), (5, 6, 70)], ids=str)
def test_layouts_do_not_matter(layout: str, shape: tuple[int, ...]) -> None:
    x, dy, weight, bias = make(shape, "f32")
    y, saved = ss.norm.batch_norm(x, weight, bias)
    want = ss.norm.batch_norm_backward(dy, saved)
    out = laid_out(np.zeros_like(x), layout)
    got, saved = ss.norm.batch_norm(laid_out(x, layout), weight, bias, out=out)
    assert got is out
    assert_same_bits(out, y)
    for a, b in zip(ss.norm.batch_norm_backward(laid_out(dy, layout), saved), want, strict=True):
        assert a is not None
        assert b is not None
        assert_same_bits(a, b)
    inplace = x.copy()
    _, lost = ss.norm.batch_norm(inplace, weight, bias, out=inplace)
    assert_same_bits(inplace, y)
    with pytest.raises(ValueError, match="saved must hold x"):
        ss.norm.batch_norm_backward(dy, lost)


def test_refused() -> None:
    x, ones = np.ones((1, 3)), np.ones(3)
    with pytest.raises(ValueError, match="more than one value per channel in training, got shape"):
        ss.norm.batch_norm(x)
    with pytest.raises(ValueError, match="running_mean and running_var must be given unless training"):
        ss.norm.batch_norm(x, training=False)
    with pytest.raises(ValueError, match="must be given together"):
        ss.norm.batch_norm(np.ones((2, 3)), running_mean=ones)
    with pytest.raises(ValueError, match=r"weight must have shape \(3,\), got \(2,\)"):
        ss.norm.batch_norm(np.ones((2, 3)), np.ones(2))
    with pytest.raises(TypeError, match="weight must have dtype float64, got float32"):
        ss.norm.batch_norm(np.ones((2, 3)), np.ones(3, np.float32))
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\], got 2"):
        ss.norm.batch_norm(np.ones((2, 3)), momentum=2)
    with pytest.raises(ValueError, match="x must have samples and channels"):
        ss.norm.batch_norm(ones)
    running = np.zeros(3)
    running.flags.writeable = False
    with pytest.raises(ValueError, match="running_mean must be writable"):
        ss.norm.batch_norm(np.ones((2, 3)), running_mean=running, running_var=np.ones(3))
    empty, _ = ss.norm.batch_norm(np.ones((0, 3)))
    assert empty.shape == (0, 3)
