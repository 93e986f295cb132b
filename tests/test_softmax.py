"""Softmax and its logarithm against the oracle bit for bit, the golden vectors, PyTorch and float64 NumPy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_softmax as oracle
from helpers import LAYOUTS, assert_same_bits, laid_out
from reference_storage import DTYPES, encode
from stepsmith import nn
from stepsmith.nn import functional

Array = np.ndarray[Any, Any]
SHAPES = [(1, 1), (3, 2), (7, 10), (9, 63), (9, 80), (17, 130), (5, 511), (4, 513), (3, 4097), (2, 70_001), (1000, 10)]
NAMES = ["softmax", "log_softmax"]
GOLDEN = Path(__file__).parent / "golden"
LAYERS = {"softmax": nn.Softmax, "log_softmax": nn.LogSoftmax}


def both(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return getattr(functional, name), getattr(functional, f"{name}_backward")


def make(shape: tuple[int, ...], dtype: np.dtype[Any] | type, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    return (x * np.float32(4)).astype(dtype), dy.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_rows_equal_the_oracle(name: str, shape: tuple[int, int], dtype: str) -> None:
    (x, dy), (forward, backward) = make(shape, DTYPES[dtype]), both(name)
    x[0, -1] = 20
    y, saved = forward(x)
    assert saved.y is y
    assert_same_bits(y, getattr(oracle, name)(x), "y")
    assert_same_bits(backward(dy, saved), getattr(oracle, f"{name}_backward")(dy, y), "dx")


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("name", NAMES)
def test_16_bit_results_are_those_of_float32_rounded_once(name: str, dtype: str) -> None:
    (x, dy), (forward, backward) = make((5, 130), DTYPES[dtype]), both(name)
    y, saved = forward(x)
    single, _ = forward(x.astype(np.float32))
    assert_same_bits(y, encode(single, DTYPES[dtype]))
    _, stored = forward(x.astype(np.float32))
    stored.y = y.astype(np.float32)
    assert_same_bits(backward(dy, saved), encode(backward(dy.astype(np.float32), stored), DTYPES[dtype]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-6)])
@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str, dtype: type, tolerance: float) -> None:
    with np.load(GOLDEN / "layers.npz") as arrays:
        x, y, dy, dx = (arrays[f"act-{name}/{key}"] for key in ("in0", "y", "dy", "d0"))
    layer = LAYERS[name]()
    for got, want in ((layer(x.astype(dtype)), y), (layer.backward(dy.astype(dtype)), dx)):
        assert got.dtype == dtype
        assert np.abs(want).max() > 0
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())


@pytest.mark.parametrize("shape", [(37, 130), (50, 10)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_layouts_do_not_matter(name: str, layout: str, shape: tuple[int, int]) -> None:
    (x, dy), (forward, backward) = make(shape, np.float32), both(name)
    y, saved = forward(x)
    want = backward(dy, saved)
    out, dx = laid_out(np.zeros_like(x), layout), laid_out(np.zeros_like(x), layout)
    got, saved = forward(laid_out(x, layout), out=out)
    assert got is out
    assert_same_bits(out, y)
    assert backward(laid_out(dy, layout), saved, out=dx) is dx
    assert_same_bits(dx, want)


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
@pytest.mark.parametrize("name", NAMES)
def test_any_axis_is_as_good_as_the_last(name: str, axis: int) -> None:
    (x, dy), (forward, backward) = make((4, 7, 12), np.float32), both(name)
    turned = [np.ascontiguousarray(np.moveaxis(array, axis, -1)) for array in (x, dy)]
    want, other = forward(turned[0])
    y, saved = forward(x, axis)
    assert_same_bits(np.moveaxis(y, axis, -1), want)
    assert_same_bits(np.moveaxis(backward(dy, saved), axis, -1), backward(turned[1], other))


@pytest.mark.parametrize("shape", [(9, 10), (9, 700), (1, 66_000)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_outputs_in_the_place_of_inputs(name: str, shape: tuple[int, int]) -> None:
    (x, dy), (forward, backward) = make(shape, np.float32), both(name)
    y, saved = forward(x)
    want, inplace = backward(dy, saved), x.copy()
    assert_same_bits(forward(inplace, out=inplace)[0], y)
    shifted = np.empty((shape[0] + 1, shape[1]), np.float32)
    shifted[1:] = x
    assert_same_bits(forward(shifted[1:], out=shifted[:-1])[0], y)
    over = dy.copy()
    assert_same_bits(backward(over, saved, out=over), want)
    shifted[1:] = dy
    assert_same_bits(backward(shifted[1:], saved, out=shifted[:-1]), want)
    assert_same_bits(backward(dy, saved, out=saved.y), want)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("length", [1, 2, 10, 16, 70, 600, 70_000])
@pytest.mark.parametrize("name", NAMES)
def test_nan_and_inf_stay_in_their_row(name: str, length: int, value: float) -> None:
    x, _ = make((9, length), np.float32)
    clean, _ = both(name)[0](x)
    for place in {0, length // 2, length - 1}:
        wrong = x.copy()
        wrong[4, place] = value
        y, _ = both(name)[0](wrong)
        assert np.isnan(y[4]).all()
        assert_same_bits(np.delete(y, 4, 0), np.delete(clean, 4, 0))


@pytest.mark.parametrize("length", [1, 3, 10, 16, 40, 600])
def test_minus_infinity_is_a_probability_of_zero_unless_nothing_else_is_there(length: int) -> None:
    x = np.full((11, length), -np.inf, np.float32)
    x[np.arange(10), np.arange(10) % length] = 3.0
    y, _ = functional.softmax(x)
    assert_same_bits(y[:10], (x[:10] == 3.0).astype(np.float32))
    assert np.isnan(y[10]).all()
    logs, _ = functional.log_softmax(x)
    assert_same_bits(logs[:10], np.where(x[:10] == 3.0, np.float32(0), np.float32(-np.inf)))
    assert np.isnan(logs[10]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_and_very_negative_numbers_neither_overflow_nor_vanish(dtype: type) -> None:
    x = np.array([[1e30, 1e30, -1e30], [-1e30, -1e30, -1e30], [3e38, -3e38, 0.0], [-5000.0, -5001.0, -5002.0]], dtype)
    y, saved = functional.softmax(x)
    np.testing.assert_allclose(y[:3], [[0.5, 0.5, 0.0], [1 / 3] * 3, [1.0, 0.0, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(y[3], np.exp([0.0, -1.0, -2.0]) / np.exp([0.0, -1.0, -2.0]).sum(), rtol=1e-6)
    assert np.isfinite(functional.softmax_backward(y, saved)).all()


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0,), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_empty_arrays_come_back_empty(name: str, shape: tuple[int, ...]) -> None:
    forward, backward = both(name)
    for axis in range(len(shape)):
        y, saved = forward(np.zeros(shape), axis)
        assert y.shape == backward(np.zeros(shape), saved).shape == shape


def test_one_class_is_certain() -> None:
    x, _ = make((40, 1), np.float32)
    assert (functional.softmax(x)[0] == 1).all()
    assert_same_bits(functional.log_softmax(x)[0], np.zeros((40, 1), np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_bad_arguments_are_named_before_anything_is_written(name: str) -> None:
    (forward, backward), x = both(name), np.ones((3, 4))
    out = np.full((3, 4), 7.0)
    for wrong, error, message in [
        (lambda: forward([[1.0]]), TypeError, f"{name}: x must be a NumPy array"),
        (lambda: forward(np.ones(())), ValueError, f"{name}: x must have an axis"),
        (lambda: forward(np.ones((3, 4), int)), TypeError, f"{name}: x must be float32, float64, bfloat16 or float16"),
        (lambda: forward(x, 2, out=out), ValueError, f"{name}: axis must be at most 1, got 2"),
        (lambda: forward(x, 1.0, out=out), TypeError, f"{name}: axis must be an integer, got 1.0"),
        (lambda: forward(x[:2], out=out), ValueError, rf"{name}: out must have shape \(2, 4\), got \(3, 4\)"),
        (lambda: forward(x.astype("f4"), out=out), TypeError, f"{name}: out must have dtype float32, got float64"),
        (lambda: backward(x[:2], forward(x)[1], out=out), ValueError, f"{name}_backward: dy must have the shape of y"),
        (lambda: backward(x.astype("f4"), forward(x)[1], out=out), TypeError, f"{name}_backward: dy must have the dty"),
    ]:
        with pytest.raises(error, match=message):
            wrong()
    locked = np.zeros((3, 4))
    locked.flags.writeable = False
    with pytest.raises(ValueError, match=f"{name}: out must be writable"):
        forward(x, out=locked)
    with pytest.raises(ValueError, match=f"{name}: out must not repeat elements"):
        forward(x, out=np.lib.stride_tricks.as_strided(np.ones(4), (3, 4), (0, 8)))
    assert (out == 7.0).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=3), st.integers(0, 2), st.integers(0, 9), st.floats(0, 300))
def test_any_shape_agrees_with_numpy(shape: list[int], axis: int, seed: int, scale: float) -> None:
    x, dy = make(tuple(shape), np.float64, seed)
    x, axis = x * scale, axis % len(shape)
    if x.size == 0:
        return
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    total = e.sum(axis=axis, keepdims=True)
    want, want_log = e / total, x - x.max(axis=axis, keepdims=True) - np.log(total)
    y, saved = functional.softmax(x, axis)
    logs, saved_log = functional.log_softmax(x, axis)
    np.testing.assert_allclose(y, want, rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(logs, want_log, rtol=1e-13, atol=1e-13)
    dx = want * (dy - (dy * want).sum(axis=axis, keepdims=True))
    np.testing.assert_allclose(functional.softmax_backward(dy, saved), dx, rtol=0, atol=1e-13)
    dx = dy - want * dy.sum(axis=axis, keepdims=True)
    np.testing.assert_allclose(functional.log_softmax_backward(dy, saved_log), dx, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_torch_agrees(name: str, dtype: type) -> None:
    torch = pytest.importorskip("torch")
    (x, dy), (forward, backward) = make((6, 5, 33), dtype), both(name)
    x[0, 0, 0], x[1, 1, 1], x[2, :, 2] = -np.inf, np.inf, -np.inf
    for axis in (-1, 1):
        tensor = torch.tensor(x, requires_grad=True)
        want = getattr(torch.nn.functional, name)(tensor, axis)
        want.backward(torch.tensor(dy))
        y, saved = forward(x, axis)
        limits = {"rtol": 1e-5, "atol": 1e-6} if dtype is np.float32 else {"rtol": 1e-12, "atol": 1e-13}
        np.testing.assert_allclose(y, want.detach().numpy(), **limits)
        np.testing.assert_allclose(backward(dy, saved), tensor.grad.numpy(), **limits)


@pytest.mark.parametrize("layer", [nn.Softmax, nn.LogSoftmax])
def test_layers_keep_their_buffers(layer: type[nn.Module]) -> None:
    (x, dy), module = make((6, 10), np.float32), layer(axis=0)
    first = module(x)
    assert module(x) is first
    dx = module.backward(dy)
    assert dx is module.backward(dy)
    assert module.backward(dy, input_grad=False) is None
    with pytest.raises(TypeError, match=f"{layer.__name__}: axis must be an integer, got 'x'"):
        layer(axis="x")


def test_saved_of_the_other_function_is_refused() -> None:
    x = np.ones((2, 3))
    _, saved = functional.softmax(x)
    with pytest.raises(ValueError, match="log_softmax_backward: saved must be that of log_softmax"):
        functional.log_softmax_backward(x, saved)
    with pytest.raises(TypeError, match="softmax_backward: saved must be what softmax returned"):
        functional.softmax_backward(x, functional.activate(x, "relu")[1])  # type: ignore[arg-type]
