"""Batch norm of CuPy arrays has the bits of the CPU's."""

from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from helpers import assert_same_bits
from reference_storage import DTYPES, compute_type

SHAPES = [
    (2, 1),
    (3, 5),
    (70, 31),
    (600, 4),
    (2000, 40),
    (500, 40),
    (5, 3, 7, 7),
    (40, 3, 149),
    (60, 3, 2),
    (3, 2, 5000),
]
LARGE = [(70_000, 3), (300, 20, 16), (2, 3, 66_000), (5, 2000), (4000, 3, 49)]


def draw(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    x = np.random.default_rng(seed).standard_normal(shape) * 2 + 1
    return x if dtype == "f64" else x.astype(np.float32).astype(DTYPES[dtype])


def same(got: Any, want: Any, what: str) -> None:
    assert (got is None) == (want is None), what
    if want is not None:
        assert_same_bits(got.get(), want, what)


def both(gpu: Any, x: Any, dy: Any, params: list[Any], training: bool, **options: Any) -> None:
    """Forward and backward on the host and on the device; running statistics are the last two of the parameters."""
    own = [None if param is None else gpu.asarray(param) for param in params]
    y, saved = ss.norm.batch_norm(x, *params, training=training, **options)
    own_y, own_saved = ss.norm.batch_norm(gpu.asarray(x), *own, training=training, **options)
    for k, param in enumerate(params):
        same(own[k], param, f"parameter {k}")
    for field in ("mean", "rstd"):
        same(getattr(own_saved, field), getattr(saved, field), field)
    same(own_y, y, "y")
    gradients = ss.norm.batch_norm_backward(dy, saved)
    for k, got in enumerate(ss.norm.batch_norm_backward(gpu.asarray(dy), own_saved)):
        same(got, gradients[k], f"gradient {k}")


def parameters(channels: int, dtype: str) -> list[Any]:
    weight, bias, mean, var = (draw((channels,), "f64", 2 + k) for k in range(4))
    return [param.astype(compute_type(DTYPES[dtype])) for param in (weight, bias, mean, np.abs(var))]


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [*SHAPES, *(pytest.param(shape, marks=pytest.mark.slow) for shape in LARGE)], ids=str)
def test_every_shape_equals_the_cpu(gpu: Any, shape: tuple[int, ...], training: bool) -> None:
    for dtype in DTYPES:
        both(gpu, draw(shape, dtype), draw(shape, dtype, 1), parameters(shape[1], dtype), training)


@pytest.mark.usefixtures("schedule")
def test_what_is_absent_equals_the_cpu(gpu: Any) -> None:
    x, dy = draw((6, 4, 5), "f32"), draw((6, 4, 5), "f32", 1)
    weight, bias, mean, var = parameters(4, "f32")
    for params in ([], [weight], [None, bias], [None, None, mean, var]):
        both(gpu, x, dy, params, True)
    both(gpu, x, dy, [None, None, mean, var], False, momentum=None, batches=3)
    x, dy = draw((5, 3, 3, 4), "bf16"), draw((5, 3, 3, 4), "bf16", 1)
    both(gpu, x, dy, [weight, bias, mean, var], True, axis=-1, momentum=None, batches=3, eps=0.1)


def test_layouts_do_not_matter(gpu: Any) -> None:
    x, dy = draw((6, 8, 5), "f32"), draw((6, 8, 5), "f32", 1)
    weight, bias, mean, var = parameters(8, "f32")
    y, saved = ss.norm.batch_norm(x, weight, bias, mean.copy(), var.copy())
    wide = gpu.zeros((6, 16, 11), np.float32)
    for view in (lambda a: a[:, ::2, 1:11:2], lambda a: a[:, 15:7:-1, 5:0:-1]):
        own_x, own_dy, out = (view(wide.copy()) for _ in range(3))
        own_x[...], own_dy[...] = gpu.asarray(x), gpu.asarray(dy)
        pair = gpu.empty((8, 2), np.float32)
        pair[:, 0], pair[:, 1] = gpu.asarray(mean), gpu.asarray(var)
        own_params = gpu.asarray(np.repeat(weight, 2))[::2], gpu.asarray(np.repeat(bias, 2))[::2]
        got, own = ss.norm.batch_norm(own_x, *own_params, pair[:, 0], pair[:, 1], out=out)
        assert got is out
        same(out, y, "y")
        moved_mean, moved_var = mean.copy(), var.copy()
        ss.norm.batch_norm(x, weight, bias, moved_mean, moved_var)
        same(pair, np.stack([moved_mean, moved_var], axis=1), "running statistics")
        gradients = ss.norm.batch_norm_backward(dy, saved)
        for k, gradient in enumerate(ss.norm.batch_norm_backward(own_dy, own, out=(own_dy, None, None))):
            same(gradient, gradients[k], f"gradient {k}")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_odd_numbers_stay_in_their_channel(gpu: Any, value: float) -> None:
    for shape in ((70, 5), (6, 4, 5)):
        x, dy = draw(shape, "f32"), draw(shape, "f32", 1)
        x[2, 1], x[:, 2] = value, 1e6
        with np.errstate(all="ignore"):
            both(gpu, x, dy, parameters(shape[1], "f32"), True)


@pytest.mark.parametrize("shape", [(0, 4), (0, 4, 5), (3, 4, 0), (3, 0, 5)], ids=str)
def test_empty_arrays_come_back_empty(gpu: Any, shape: tuple[int, ...]) -> None:
    both(gpu, np.zeros(shape), np.zeros(shape), [np.ones(shape[1]), None, np.ones(shape[1]), np.ones(shape[1])], True)


def test_refused_before_anything_is_written(gpu: Any) -> None:
    x, out, both_of = gpu.ones((3, 4)), gpu.full((3, 4), 7.0), gpu.ones(4)
    on_gpu = "must be an array of CuPy as the other arrays are, got one of NumPy"
    for error, message, options in [
        (TypeError, f"weight {on_gpu}", {"weight": np.ones(4)}),
        (TypeError, f"running_var {on_gpu}", {"running_mean": both_of, "running_var": np.ones(4)}),
        (ValueError, "running_mean and running_var must not share", {"running_mean": both_of, "running_var": both_of}),
        (ValueError, "out and running_var must not share", {"running_mean": both_of, "running_var": out[1]}),
        (ValueError, "running_mean and running_var must be given unless training", {"training": False}),
    ]:
        with pytest.raises(error, match=f"batch_norm: {message}"):
            ss.norm.batch_norm(x, out=out, **options)
    assert (out.get() == 7.0).all()
    assert (both_of.get() == 1.0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_folding_equals_the_cpu(gpu: Any, dtype: str) -> None:
    bn = ss.nn.BatchNorm(6)
    bn.running_mean[...], bn.running_var[...] = draw((6,), "f32", 1), np.abs(draw((6,), "f32", 2))
    bn.weight[...], bn.bias[...] = draw((6,), "f32", 3), draw((6,), "f32", 4)
    weight, bias = draw((6, 3, 5), dtype), draw((6,), dtype, 5)
    wanted = ss.norm.fold_batch_norm(weight, bias, bn)
    with pytest.raises(TypeError, match=r"fold_batch_norm: bn\.running_mean must be an array of CuPy"):
        ss.norm.fold_batch_norm(gpu.asarray(weight), gpu.asarray(bias), bn)
    bn.to("cuda")
    for got, want in zip(ss.norm.fold_batch_norm(gpu.asarray(weight), gpu.asarray(bias), bn), wanted, strict=True):
        same(got, want, "folded")
