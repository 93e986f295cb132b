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


def locked(n: int) -> Array:
    array = np.zeros(n)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize(
    ("places", "message"),
    [
        (lambda dx: (dx, locked(4), None), r"out\[1\] must be writable, got a read-only array"),
        (lambda dx: (dx, np.lib.stride_tricks.as_strided(np.zeros(1), (4,), (0,)), None), r"out\[1\] must not repeat"),
        (lambda dx: (dx, dx[0], None), r"out\[0\] and out\[1\] must not share elements"),
        (lambda dx: (dx, np.zeros(5), None), r"out\[1\] must have shape \(4,\), got \(5,\)"),
        (lambda dx: (dx, np.zeros(4), np.zeros(4)), r"out\[2\] must be None for what the forward pass did without"),
        (lambda dx: (dx, None), r"out must be a tuple of 3 arrays or Nones, got 2"),
    ],
)
def test_gradients_are_refused_before_the_first_is_written(name: str, places: Any, message: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    _, saved = NORMS[name](x, weight=np.ones(4))
    dx = np.full((3, 4), 7.0)
    given = places(dx)
    if name == "rms_norm":  # a place less, as it has no bias
        given, message = given[:-1], message.replace("of 3", "of 2").replace("got 2", "got 1")
    if name == "rms_norm" and "[2" in message:
        pytest.skip("RMS norm has no third gradient")
    with pytest.raises(ValueError, match=f"{name}_backward: {message}"):
        BACKWARD[name](x, saved, out=given)
    assert (dx == 7.0).all()
    with pytest.raises(TypeError, match=f"{name}_backward: out must be a tuple of . arrays or Nones, got ndarray"):
        BACKWARD[name](x, saved, out=dx)


@pytest.mark.parametrize("name", NORMS)
def test_what_saved_must_be(name: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    other = NORMS["layer_norm" if name in ("batch_norm", "rms_norm") else "batch_norm"](x)[1]
    for wrong in (None, NORMS[name](x)):
        with pytest.raises(TypeError, match=f"{name}_backward: saved must be what {name} returned, (Batch)?Saved, got"):
            BACKWARD[name](x, wrong)
    with pytest.raises((TypeError, ValueError), match=f"{name}_backward: saved must be "):
        BACKWARD[name](x, other)


def test_weight_norm_takes_no_other_norm_s_saved() -> None:
    _, saved = ss.norm.layer_norm(np.ones((3, 4)), np.ones(4))
    with pytest.raises(ValueError, match="saved must be that of weight_norm, got another norm's"):
        ss.norm.weight_norm_backward(np.ones((3, 4)), saved)


@pytest.mark.parametrize("axis", [0, 1])
def test_weight_norm_returns_the_arrays_that_it_was_given(axis: int) -> None:
    v, dw = np.random.default_rng(0).standard_normal((2, 3, 4))
    g, want = np.ones(v.shape[axis]), ss.norm.weight_norm(v, np.ones(v.shape[axis]), axis)
    w, dv, dg = np.empty_like(v), np.empty_like(v), np.empty_like(g)
    got, saved = ss.norm.weight_norm(v, g, axis, out=w)
    gradients = ss.norm.weight_norm_backward(dw, saved, out=(dv, dg))
    assert got is w
    assert gradients[0] is dv
    assert gradients[1] is dg
    assert_same_bits(w, want[0])
    for a, b in zip(gradients, ss.norm.weight_norm_backward(dw, want[1]), strict=True):
        assert_same_bits(a, b)
    with pytest.raises(ValueError, match=r"weight_norm: out must have shape \(3, 4\), got \(4, 3\)"):
        ss.norm.weight_norm(v, g, axis, out=w.T)
    with pytest.raises(ValueError, match=r"weight_norm_backward: dw must have the shape of v, \(3, 4\), got \(4, 3\)"):
        ss.norm.weight_norm_backward(dw.T, saved)
    with pytest.raises(TypeError, match="weight_norm_backward: dw must have the dtype of v, float64, got float32"):
        ss.norm.weight_norm_backward(dw.astype(np.float32), saved)
    empty, _ = ss.norm.weight_norm(np.ones((0, 3)), np.ones(0))
    assert empty.shape == (0, 3)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "batch_norm"])
def test_an_output_over_the_weight_keeps_the_gradients(name: str) -> None:
    x, dy = np.random.default_rng(0).standard_normal((2, 4, 4))
    weight = np.linspace(1, 2, 4)
    y, saved = NORMS[name](x, weight=weight)
    want = BACKWARD[name](dy, saved)
    buffer = np.empty((4, 4))
    buffer[1] = weight
    again, saved = NORMS[name](x, weight=buffer[1], out=buffer)
    assert_same_bits(again, y)
    for a, b in zip(BACKWARD[name](dy, saved), want, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert_same_bits(a, b)


@pytest.mark.parametrize("name", ["add_layer_norm", "add_rms_norm"])
def test_outputs_of_a_sum_are_refused_before_either_is_written(name: str) -> None:
    x, out = np.ones((3, 4)), np.full((3, 4), 7.0)
    norm = getattr(ss.norm, name)
    wide = np.full((4, 4), 7.0)
    with pytest.raises(ValueError, match=rf"{name}: out\[0\] and out\[1\] must not share elements"):
        norm(x, x, out=(wide[1:], wide[:3]))
    with pytest.raises(ValueError, match=rf"{name}: out\[1\] must be writable"):
        norm(x, x, out=(out, locked(12).reshape(3, 4)))
    with pytest.raises(ValueError, match=rf"{name}: out\[0\] must have shape \(3, 4\), got \(4, 4\)"):
        norm(x, x, out=(wide, out))
    with pytest.raises(ValueError, match=f"{name}: residual must have the shape of x"):
        norm(x, wide)
    with pytest.raises(ValueError, match=f"{name}: out must be a tuple of 2 arrays or Nones, got 1"):
        norm(x, x, out=(out,))
    assert (out == 7.0).all()
    assert (wide == 7.0).all()


def test_running_statistics_are_apart() -> None:
    x, both, out = np.random.default_rng(0).standard_normal((3, 4)), np.ones(4), np.full((3, 4), 7.0)
    with pytest.raises(ValueError, match="batch_norm: running_mean and running_var must not share elements"):
        ss.norm.batch_norm(x, running_mean=both, running_var=both, out=out)
    with pytest.raises(ValueError, match="batch_norm: out and running_var must not share elements"):
        ss.norm.batch_norm(x, running_mean=both, running_var=out[1], out=out)
    repeated = np.lib.stride_tricks.as_strided(np.zeros(1), (4,), (0,))
    with pytest.raises(ValueError, match="batch_norm: running_mean must not repeat elements"):
        ss.norm.batch_norm(x, running_mean=repeated, running_var=both, out=out)
    assert (out == 7.0).all()
    assert (both == 1.0).all()
    y, _ = ss.norm.batch_norm(x, running_mean=repeated, running_var=both, training=False)  # which only reads them
    np.testing.assert_allclose(y, x / np.sqrt(1 + 1e-5), rtol=1e-14)


@pytest.mark.parametrize("order", "CF")
def test_running_statistics_of_any_layout_may_move_before_the_backward_pass(order: str) -> None:
    x, dy = np.random.default_rng(0).standard_normal((2, 3, 4))
    pair = np.asarray(np.random.default_rng(1).uniform(0.5, 2.0, (4, 2)), order=order)
    mean, var = pair[:, 0], pair[:, 1]
    y, saved = ss.norm.batch_norm(x, np.ones(4), None, mean.copy(), var.copy(), training=False)
    want = ss.norm.batch_norm_backward(dy, saved)
    got, saved = ss.norm.batch_norm(x, np.ones(4), None, mean, var, training=False)
    assert_same_bits(got, y)
    ss.norm.batch_norm(x, running_mean=mean, running_var=var)
    for a, b in zip(ss.norm.batch_norm_backward(dy, saved)[:2], want[:2], strict=True):
        assert_same_bits(a, b)


def test_arguments_are_named_by_what_is_wrong() -> None:
    x = np.ones((3, 4))
    with pytest.raises(TypeError, match="layer_norm: bias must be a NumPy array"):
        ss.norm.layer_norm(x, None, [0.0] * 4)
    with pytest.raises(TypeError, match=r"layer_norm: x must be float32, .* got int64"):
        ss.norm.layer_norm(x.astype(np.int64), np.ones(4))
    with pytest.raises(TypeError, match=r"weight_norm: v must be float32, .* got >f8"):
        ss.norm.weight_norm(x.astype(">f8"), np.ones(3))
    with pytest.raises(TypeError, match="batch_norm: training must be True or False, got 'no'"):
        ss.norm.batch_norm(x, training="no")
