"""Norms of unusual numbers, shapes and arguments."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from helpers import assert_same_bits

Array = np.ndarray[Any, Any]
NORMS: dict[str, Callable[..., Any]] = {
    "layer_norm": ss.norm.layer_norm,
    "rms_norm": ss.norm.rms_norm,
    "group_norm": partial(ss.norm.group_norm, groups=2),
    "instance_norm": ss.norm.instance_norm,
    "batch_norm": ss.norm.batch_norm,
}
BACKWARD: dict[str, Callable[..., Any]] = {name: getattr(ss.norm, f"{name}_backward") for name in NORMS}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_stay_in_their_row(value: float) -> None:
    x = np.random.default_rng(0).standard_normal((5, 70)).astype(np.float32)
    clean, _ = ss.norm.layer_norm(x)
    x[2, 3] = value
    y, saved = ss.norm.layer_norm(x)
    assert np.isnan(y[2]).all()
    assert_same_bits(np.delete(y, 2, 0), np.delete(clean, 2, 0))
    dx, *_ = ss.norm.layer_norm_backward(np.ones_like(x), saved)
    assert np.isnan(dx[2]).all()
    assert np.isfinite(np.delete(dx, 2, 0)).all()


@pytest.mark.parametrize("name", ["layer_norm", "batch_norm", "rms_norm"])
@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_statistics_neither_overflow_nor_vanish(name: str, scale: float) -> None:
    x = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    want, _ = NORMS[name](x, eps=0.0)
    got, saved = NORMS[name](x * np.float32(scale), eps=0.0)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert np.isfinite(saved.rstd).all()
    dx = BACKWARD[name](x, saved)[0]
    assert np.isfinite(dx).all()


@pytest.mark.parametrize("name", NORMS)
def test_rows_of_zeros_stay_zeros(name: str) -> None:
    y, saved = NORMS[name](np.zeros((3, 4, 5), np.float32))
    assert_same_bits(y, np.zeros((3, 4, 5), np.float32))
    dx = BACKWARD[name](np.zeros((3, 4, 5), np.float32), saved)[0]
    assert not dx.any()


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 4, 0)], ids=str)
def test_empty_arrays_come_back_empty(name: str, shape: tuple[int, ...]) -> None:
    y, saved = NORMS[name](np.zeros(shape), weight=np.ones(shape[-1] if name in ("layer_norm", "rms_norm") else 4))
    dx, dweight, *_ = BACKWARD[name](np.zeros(shape), saved)
    assert (y.shape, dx.shape) == (shape, shape)
    assert not dweight.any()


@pytest.mark.parametrize("name", NORMS)
def test_refused(name: str) -> None:
    x = np.ones((3, 4))
    with pytest.raises(TypeError, match=f"{name}: x must be a NumPy array"):
        NORMS[name]([[1.0]])
    with pytest.raises(TypeError, match=f"{name}: x must be float32, float64, bfloat16 or float16"):
        NORMS[name](np.ones((3, 4), np.int32))
    with pytest.raises(ValueError, match=f"{name}: eps must be finite and at least 0, got -1"):
        NORMS[name](x, eps=-1.0)
    with pytest.raises(ValueError, match=rf"{name}: out must have shape \(3, 4\), got \(4, 3\)"):
        NORMS[name](x, out=np.ones((4, 3)))
    with pytest.raises(TypeError, match=f"{name}: out must have dtype float64, got float32"):
        NORMS[name](x, out=np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match=f"{name}: out must not repeat elements"):
        NORMS[name](x, out=np.lib.stride_tricks.as_strided(np.ones(4), (3, 4), (0, 8)))
    locked = np.zeros((3, 4))
    locked.flags.writeable = False
    with pytest.raises(ValueError, match=f"{name}: out must be writable"):
        NORMS[name](x, out=locked)
    _, saved = NORMS[name](x)
    with pytest.raises(ValueError, match=f"{name}_backward: dy must have"):
        BACKWARD[name](np.ones((3, 5)), saved)
    with pytest.raises(TypeError, match=f"{name}_backward: dy must have"):
        BACKWARD[name](np.ones((3, 4), np.float32), saved)


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="group_norm: groups must divide the 4 channels, got 3"):
        ss.norm.group_norm(np.ones((2, 4)), groups=3)


def test_weight_norm_refuses_a_row_without_direction() -> None:
    v, out = np.array([[1.0, 2.0], [0.0, 0.0]]), np.full((2, 2), 7.0)
    with pytest.raises(ValueError, match="weight_norm: v must have no row of zeros along axis 0, got one at 1"):
        ss.norm.weight_norm(v, np.ones(2), out=out)
    assert (out == 7.0).all()


def test_gradients_of_weight_and_bias_go_where_they_are_asked() -> None:
    x = np.random.default_rng(0).standard_normal((6, 10))
    _, saved = ss.norm.layer_norm(x, np.ones(10), np.zeros(10))
    want = ss.norm.layer_norm_backward(x, saved)
    out = tuple(np.empty_like(array) for array in want if array is not None)
    got = ss.norm.layer_norm_backward(x, saved, out=(out[0], out[1], out[2]))
    for given, result, expected in zip(out, got, want, strict=True):
        assert given is result
        assert expected is not None
        assert_same_bits(given, expected)
