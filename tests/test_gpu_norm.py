"""Norms of CuPy arrays have the bits of the CPU's."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from helpers import assert_same_bits
from reference_storage import DTYPES, compute_type

WIDTHS = [1, 3, 31, 32, 33, 64, 127, 128, 129, 1000, 1024, 1025, 4096, 5000, 8192]
LONG = [70_001, 140_000]
NORMS: dict[str, Callable[..., Any]] = {
    "layer_norm": ss.norm.layer_norm,
    "rms_norm": ss.norm.rms_norm,
    "group_norm": partial(ss.norm.group_norm, groups=2),
    "instance_norm": ss.norm.instance_norm,
}
BACKWARD: dict[str, Callable[..., Any]] = {name: getattr(ss.norm, f"{name}_backward") for name in NORMS}
SHAPES = [(12, 4), (7, 6, 5), (5, 4, 12), (3, 4, 49), (2, 4, 5000), (1, 2, 33_001), (300, 4)]


def slow(*values: Any) -> list[Any]:
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def draw(shape: tuple[int, ...], dtype: str, seed: int = 0, offset: float = 0.0) -> Any:
    """Numbers with all digits of the dtype, so that the order of a sum shows."""
    x = np.random.default_rng(seed).standard_normal(shape) * 2 + offset
    return x if dtype == "f64" else x.astype(np.float32).astype(DTYPES[dtype])


def on(gpu: Any, array: Any) -> Any:
    return None if array is None else gpu.asarray(array)


def same(got: Any, want: Any, what: str) -> None:
    assert (got is None) == (want is None), what
    if want is not None:
        assert_same_bits(got.get(), want, what)


def both(gpu: Any, name: str, x: Any, dy: Any, params: list[Any], **options: Any) -> None:
    """Forward and backward on the host and on the device."""
    y, saved = NORMS[name](x, *params, **options)
    own_y, own = NORMS[name](gpu.asarray(x), *(on(gpu, param) for param in params), **options)
    for field in ("mean", "rstd"):
        same(getattr(own, field), getattr(saved, field), field)
    same(own_y, y, "y")
    for k, (got, want) in enumerate(zip(BACKWARD[name](gpu.asarray(dy), own), BACKWARD[name](dy, saved), strict=True)):
        same(got, want, f"gradient {k}")


def rows_of(width: int) -> int:
    return 70 if width < 100 else 3 if width < 5000 else 2 if width < 9000 else 1


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [*WIDTHS, *LONG])
def test_rows_of_every_width_equal_the_cpu(gpu: Any, width: int, dtype: str) -> None:
    shape, compute = (rows_of(width), width), compute_type(DTYPES[dtype])
    x, dy = draw(shape, dtype, 0, 1.0), draw(shape, dtype, 1)
    weight, bias = (draw((width,), "f64", seed).astype(compute) for seed in (2, 3))
    both(gpu, "layer_norm", x, dy, [weight, bias])
    both(gpu, "rms_norm", x, dy, [weight])
    if width in (33, 1024, 4096):
        both(gpu, "layer_norm", x, dy, [])
        both(gpu, "layer_norm", x, dy, [weight])
        both(gpu, "layer_norm", x, dy, [None, bias])


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["group_norm", "instance_norm"])
def test_groups_equal_the_cpu(gpu: Any, name: str, shape: tuple[int, ...], dtype: str) -> None:
    x, dy = draw(shape, dtype, 0, 1.0), draw(shape, dtype, 1)
    weight, bias = (draw(shape[1:2], "f64", seed).astype(compute_type(DTYPES[dtype])) for seed in (2, 3))
    both(gpu, name, x, dy, [weight, bias])


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("shape", [(1000, 20), *slow((5000, 36), (200, 5000))], ids=str)
def test_many_rows_are_summed_piece_by_piece(gpu: Any, shape: tuple[int, int]) -> None:
    for dtype in ("f64", "bf16"):
        x, dy = draw(shape, dtype, 0, 1.0), draw(shape, dtype, 1)
        weight = draw(shape[1:], "f64", 2).astype(compute_type(DTYPES[dtype]))
        both(gpu, "layer_norm", x, dy, [weight])
        if shape[1] < 100:
            both(gpu, "group_norm", x, dy, [weight])
            both(gpu, "group_norm", x[:, :4, None] + x[:, None, 4:7], dy[:, :4, None] + dy[:, None, 4:7], [weight[:4]])


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize(("shape", "groups"), [((3000, 6), 3), ((700, 6, 5), 3), ((1, 3, 33_001), 1)], ids=str)
def test_pieces_and_segments_cut_groups_anywhere(gpu: Any, shape: tuple[int, ...], groups: int) -> None:
    for dtype in ("f64", "bf16"):
        x, dy = draw(shape, dtype, 0, 1.0), draw(shape, dtype, 1)
        weight = draw(shape[1:2], "f64", 2).astype(compute_type(DTYPES[dtype]))
        both(gpu, "group_norm", x, dy, [weight], groups=groups)


@pytest.mark.parametrize("kind", ["layer", "rms"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 130), (5, 128), (2, 4096), (1, 70_001)], ids=str)
def test_residual_equals_the_cpu(gpu: Any, kind: str, dtype: str, shape: tuple[int, int]) -> None:
    forward, backward = getattr(ss.norm, f"add_{kind}_norm"), getattr(ss.norm, f"add_{kind}_norm_backward")
    x, residual, dy, dh = (draw(shape, dtype, seed) for seed in range(4))
    weight = draw(shape[1:], "f64", 4).astype(compute_type(DTYPES[dtype]))
    y, h, saved = forward(x, residual, weight)
    own = gpu.asarray(x)
    own_y, own_h, own_saved = forward(own, gpu.asarray(residual), gpu.asarray(weight), out=(None, own))
    assert own_h is own
    same(own_y, y, "y")
    same(own_h, h, "h")
    for got, want in zip(backward(gpu.asarray(dy), own_saved, gpu.asarray(dh)), backward(dy, saved, dh), strict=True):
        same(got, want, "gradient")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1])
def test_weight_norm_equals_the_cpu(gpu: Any, axis: int, dtype: str) -> None:
    v, dw = draw((7, 36), dtype), draw((7, 36), dtype, 1)
    g = draw(v.shape[axis : axis + 1], "f64", 2).astype(compute_type(DTYPES[dtype]))
    w, saved = ss.norm.weight_norm(v, g, axis)
    own_w, own = ss.norm.weight_norm(gpu.asarray(v), gpu.asarray(g), axis)
    same(own_w, w, "w")
    for got, want in zip(
        ss.norm.weight_norm_backward(gpu.asarray(dw), own), ss.norm.weight_norm_backward(dw, saved), strict=True
    ):
        same(got, want, "gradient")
    v[1] = 0
    v[:, 1] = 0
    with pytest.raises(ValueError, match=f"weight_norm: v must have no row of zeros along axis {axis}, got one at 1"):
        ss.norm.weight_norm(gpu.asarray(v), gpu.asarray(g), axis)


VIEWS: dict[str, Callable[[Any], Any]] = {
    "rows apart": lambda a: a[:, 3 : a.shape[1] // 2 + 3],
    "elements apart": lambda a: a[:, : a.shape[1] // 2 * 2 : 2],
    "backwards": lambda a: a[::-1, a.shape[1] // 2 - 1 :: -1],
    "turned": lambda a: a.reshape(a.shape[::-1]).T,
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("width", [33, 128, 2048])
def test_layouts_do_not_matter(gpu: Any, view: str, width: int) -> None:
    for dtype in ("f32", "bf16", "f64"):
        x, dy = draw((5, width), dtype, 0, 1.0), draw((5, width), dtype, 1)
        weight = draw((width,), "f64", 2).astype(compute_type(DTYPES[dtype]))
        y, saved = ss.norm.layer_norm(x, weight)
        own_x, own_dy, out = (VIEWS[view](gpu.zeros((5, 2 * width + 8), x.dtype)) for _ in range(3))
        own_x, own_dy, out = own_x[:, :width], own_dy[:, :width], out[:, :width]
        own_x[...], own_dy[...] = gpu.asarray(x), gpu.asarray(dy)
        wide = gpu.zeros(2 * width, weight.dtype)
        wide[::2] = gpu.asarray(weight)
        got, own = ss.norm.layer_norm(own_x, wide[::2], out=out)
        assert got is out
        same(got, y, "y")
        gradients = ss.norm.layer_norm_backward(own_dy, own, out=(out, None, None))
        for got, want in zip(gradients, ss.norm.layer_norm_backward(dy, saved), strict=True):
            same(got, want, "gradient")


@pytest.mark.parametrize("shape", [(9, 700), (3, 2048), (9, 33)], ids=str)
def test_output_in_the_place_of_the_input(gpu: Any, shape: tuple[int, int]) -> None:
    x, dy = draw(shape, "f32"), draw(shape, "f32", 1)
    y, saved = ss.norm.layer_norm(x, np.ones(shape[1], np.float32))
    own, ones = gpu.asarray(x), gpu.ones(shape[1], np.float32)
    _, own_saved = ss.norm.layer_norm(own, ones)
    inplace = own.copy()
    same(ss.norm.layer_norm(inplace, ones, out=inplace)[0], y, "y")
    buffer = gpu.empty((shape[0] + 1, shape[1]), np.float32)
    buffer[1:] = own
    same(ss.norm.layer_norm(buffer[1:], ones, out=buffer[:-1])[0], y, "y")
    over = gpu.asarray(dy)
    for got, want in zip(
        ss.norm.layer_norm_backward(over, own_saved, out=(over, None, None)),
        ss.norm.layer_norm_backward(dy, saved),
        strict=True,
    ):
        same(got, want, "gradient")


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_odd_numbers_stay_in_their_row(gpu: Any, name: str, value: float) -> None:
    for width in (70, 128, 2048):
        x, dy = draw((5, 4, width), "f32"), draw((5, 4, width), "f32", 1)
        x[2, 1, width // 2] = value
        x[3] = 0
        with np.errstate(all="ignore"):
            both(gpu, name, x, dy, [np.ones(width if name in ("layer_norm", "rms_norm") else 4, np.float32)])


@pytest.mark.parametrize("width", [128, 1000, 5000])
def test_large_offsets_keep_their_digits(gpu: Any, width: int) -> None:
    x = draw((4, width), "f32", 0, 1e6)
    both(gpu, "layer_norm", x, draw((4, width), "f32", 1), [])
    y, _ = ss.norm.layer_norm(gpu.asarray(x), eps=0.0)
    wide = x.astype(np.float64)
    want = (wide - wide.mean(axis=1, keepdims=True)) / wide.std(axis=1, keepdims=True)
    assert np.abs(y.get() - want).max() < 1e-6


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 4, 0)], ids=str)
def test_empty_arrays_come_back_empty(gpu: Any, name: str, shape: tuple[int, ...]) -> None:
    weight = gpu.ones(shape[-1] if name in ("layer_norm", "rms_norm") else 4)
    y, saved = NORMS[name](gpu.zeros(shape), weight=weight)
    dx, dweight, *_ = BACKWARD[name](gpu.zeros(shape), saved)
    assert (y.shape, dx.shape) == (shape, shape)
    assert not dweight.any()


@pytest.mark.parametrize("name", NORMS)
def test_refused_before_anything_is_written(gpu: Any, name: str) -> None:
    x, out, host = gpu.ones((3, 4, 4)), gpu.zeros((3, 4, 4)), np.ones((3, 4, 4))
    on_gpu, on_host = (f"must be an array of {kind} as the other arrays are, got one of" for kind in ("CuPy", "NumPy"))
    for error, message, call in [
        (TypeError, f"{name}: weight {on_gpu} NumPy", lambda: NORMS[name](x, np.ones(4), out=out)),
        (TypeError, f"{name}: weight {on_host} CuPy", lambda: NORMS[name](host, gpu.ones(4))),
        (TypeError, f"{name}: out {on_gpu} NumPy", lambda: NORMS[name](x, out=host)),
        (TypeError, f"{name}: out {on_host} CuPy", lambda: NORMS[name](host, out=out)),
        (TypeError, f"{name}: x must be float32, float64", lambda: NORMS[name](gpu.ones((3, 4, 4), np.int32))),
        (ValueError, f"{name}: out must not repeat", lambda: NORMS[name](x, out=gpu.broadcast_to(x[:1], x.shape))),
    ]:
        with pytest.raises(error, match=message):
            call()
    _, saved = NORMS[name](x, gpu.ones(4))
    with pytest.raises(TypeError, match=f"{name}_backward: dy {on_gpu} NumPy"):
        BACKWARD[name](host, saved)
    rest = (None,) * (1 if name == "rms_norm" else 2)
    with pytest.raises(TypeError, match=rf"{name}_backward: out\[1\] {on_gpu} NumPy"):
        BACKWARD[name](x, saved, out=(out, np.ones(4), *rest[1:]))
    with pytest.raises(ValueError, match=rf"{name}_backward: out\[0\] and out\[1\] must not share elements"):
        BACKWARD[name](x, saved, out=(out, out[0, 0], *rest[1:]))
    assert not out.get().any()
