"""Convolutions, pools and sums of rows on CuPy arrays against the CPU's: pools and sums bit for bit."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from helpers import LAYOUTS, assert_same_bits, laid_out, values
from stepsmith import _core, cuda, nn
from stepsmith._backend import moved
from stepsmith.cuda import conv as gpu_conv

Array = Any
DTYPES = [np.float32, np.float64, ml_dtypes.bfloat16, np.float16]
NAMES = [np.dtype(dtype).name for dtype in DTYPES]
POOLS = {
    "max": lambda: nn.MaxPool2d(2),
    "max-apart": lambda: nn.MaxPool2d((3, 2), (1, 3), (1, 0), (2, 1)),
    "max-around": lambda: nn.MaxPool2d(3, 2, 1),
    "max-far": lambda: nn.MaxPool2d((2, 3), 1, (2, 3), (4, 3)),
    "average": lambda: nn.AvgPool2d(2),
    "average-around": lambda: nn.AvgPool2d((3, 2), (1, 3), (1, 0)),
    "average-inside": lambda: nn.AvgPool2d((4, 3), (1, 2), (2, 1), count_include_pad=False),
}


def planes(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Array:
    """Few values, so that equal ones meet in a window, with all that is odd among them."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, shape).astype(dtype)
    for value, share in ((np.nan, 0.05), (-np.inf, 0.2), (np.inf, 0.02), (-0.0, 0.1)):
        x[rng.random(shape) < share] = value
    return x


def assert_pools_equal(build: Any, x: Array, layout: str = "C") -> None:
    on_cpu, on_gpu = build(), build()
    y = on_cpu(x)
    dy = values(np.random.default_rng(1), y.shape, y.dtype)
    assert_same_bits(on_gpu(moved(laid_out(x, layout), "cuda")).get(), y, "y")
    assert_same_bits(on_gpu.backward(moved(laid_out(dy, layout), "cuda")).get(), on_cpu.backward(dy), "dx")


@pytest.mark.usefixtures("gpu", "schedule")
@pytest.mark.parametrize("dtype", DTYPES, ids=NAMES)
@pytest.mark.parametrize("pool", POOLS)
def test_pools_have_the_bits_of_the_cpu(pool: str, dtype: Any) -> None:
    with np.errstate(invalid="ignore"):
        assert_pools_equal(POOLS[pool], planes((2, 3, 9, 11), dtype))


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("pool", POOLS)
def test_pools_have_the_bits_of_the_cpu_over_many_planes(pool: str) -> None:
    x = np.random.default_rng(0).normal(size=(5, 7, 17, 13)).astype(np.float32)
    assert_pools_equal(POOLS[pool], x)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pool", ["max-around", "average-inside"])
def test_pools_take_any_layout(pool: str, layout: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 6)).astype(np.float32)
    assert_pools_equal(POOLS[pool], x, layout)


@pytest.mark.usefixtures("gpu")
def test_pools_write_any_layout() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 6)).astype(np.float32)
    shape = (2, 3), (8, 2, 2, 0, 1), (6, 2, 2, 0, 1)
    want = np.empty((2, 3, 4, 3), np.float32)
    _core.max_pool("f", want, x, shape)
    got = moved(np.zeros((2, 3, 8, 9), np.float32), "cuda")
    cuda.max_pool("f", got[:, :, ::2, ::3], moved(x, "cuda"), shape)
    assert_same_bits(got.get()[:, :, ::2, ::3], want)
    assert (got.get()[:, :, 1::2] == 0).all()


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("counts_padding", [False, True])
def test_means_know_gaps_and_windows_that_lie_outside(counts_padding: bool) -> None:
    x, shape = np.random.default_rng(0).normal(size=(2, 3, 5, 4)), ((2, 3), (5, 3, 1, 7, 3), (4, 2, 2, 3, 2))
    dy, written = np.random.default_rng(1).normal(size=(2, 3, 13, 4)), []
    for core, device in ((_core, "cpu"), (cuda, "cuda")):
        y, dx = moved(np.zeros_like(dy), device), moved(np.zeros_like(x), device)
        core.average_pool("f", y, moved(x, device), shape, counts_padding)
        core.average_pool_backward("f", dx, moved(dy, device), shape, counts_padding)
        written.append((moved(y, "cpu"), moved(dx, "cpu")))
    assert (written[0][0] == 0).any()
    for got, want in zip(written[1], written[0], strict=True):
        assert_same_bits(got, want)


def conv(dtype: Any, device: str, *args: Any, **options: Any) -> nn.Conv2d:
    layer = nn.Conv2d(*args, rng=0, dtype=dtype, **options)
    if layer.bias is not None:
        layer.bias[...] = np.linspace(-1, 1, layer.bias.size)
    return layer.to(device)


CONVOLUTIONS = {
    "plain": ((4, 6, 3), {}),
    "around": ((4, 6, 3), {"padding": 1}),
    "apart": ((4, 6, (2, 3)), {"stride": (2, 1), "padding": (0, 1), "dilation": (1, 2), "bias": False}),
    "groups": ((4, 6, 3), {"stride": 2, "padding": 2, "groups": 2}),
    "depthwise": ((4, 8, (3, 1)), {"groups": 4, "bias": False}),
    "one": ((4, 5, 1), {}),
}


def close(got: Array, want: Array, tolerance: float, what: str) -> None:
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    scale = max(float(np.abs(want).max(initial=0)), 1e-300)
    np.testing.assert_allclose(got.get(), want, rtol=0, atol=tolerance * scale, err_msg=what)


def assert_convolutions_close(dtype: Any, which: str, x: Array, layout: str = "C") -> None:
    (args, options), tolerance = CONVOLUTIONS[which], 1e-6 if dtype == np.float32 else 1e-14
    on_cpu, on_gpu = (conv(dtype, device, *args, **options) for device in ("cpu", "cuda"))
    y = on_cpu(x)
    dy = np.random.default_rng(1).normal(size=y.shape).astype(dtype)
    close(on_gpu(moved(laid_out(x, layout), "cuda")), y, tolerance, "y")
    dx = on_cpu.backward(dy)
    close(on_gpu.backward(moved(laid_out(dy, layout), "cuda")), dx, tolerance, "dx")
    for name, grad in on_cpu.grads.items():
        close(on_gpu.grads[name], grad, 4 * tolerance, name)
        on_gpu.grads[name].fill(np.nan)
    assert on_gpu.backward(moved(dy, "cuda"), False) is None
    for name, grad in on_cpu.grads.items():
        close(on_gpu.grads[name], grad, 4 * tolerance, name)


@pytest.mark.usefixtures("gpu", "schedule")
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=NAMES[:2])
@pytest.mark.parametrize("which", CONVOLUTIONS)
def test_convolutions_equal_the_cpu_up_to_the_order_of_sums(which: str, dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 7, 9)).astype(dtype)
    assert_convolutions_close(dtype, which, x)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("limit", [1, 5000, 12_000])
@pytest.mark.parametrize("which", ["around", "groups"])
def test_batches_are_worked_through_in_parts(which: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_conv, "COLUMNS", limit)
    x = np.random.default_rng(0).normal(size=(5, 4, 7, 9))
    assert_convolutions_close(np.float64, which, x)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_convolutions_take_any_layout(layout: str) -> None:
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 5)).astype(np.float32)
    assert_convolutions_close(np.float32, "groups", x, layout)


@pytest.mark.usefixtures("gpu")
def test_columns_are_what_the_taps_meet_and_back() -> None:
    """Integers, whose sums are exact: the same bits then, in half precision too."""
    rng = np.random.default_rng(0)
    shape, channels = ((3, 4), (6, 3, 2, 1, 1), (7, 2, 1, 1, 2)), (6, 2)
    for dtype in DTYPES:
        x, weight, bias = (rng.integers(-3, 4, size).astype(dtype) for size in ((3, 4, 6, 7), (6, 2, 3, 2), 6))
        dy, written = rng.integers(-3, 4, (3, 6, 3, 7)).astype(dtype), []
        for core, device in ((_core, "cpu"), (cuda, "cuda")):
            own = [moved(array, device) for array in (x, weight, bias, dy)]
            out = [moved(np.full_like(array, 77), device) for array in (dy, x, weight, bias)]
            core.convolve("f", out[0], tuple(own[:3]), shape, channels)
            core.convolve_backward("f", tuple(out[1:]), (own[0], own[1], own[3]), shape, channels)
            written.append([moved(array, "cpu") for array in out])
        for got, want in zip(written[1], written[0], strict=True):
            assert_same_bits(got, want)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("build", [lambda: nn.Conv2d(3, 4, 2, rng=0), lambda: nn.MaxPool2d(2), lambda: nn.AvgPool2d(2)])
def test_no_samples_give_no_output_and_zero_gradients(build: Any) -> None:
    layer = build().to("cuda")
    some = layer(moved(np.ones((2, 3, 4, 4), np.float32), "cuda"))
    layer.backward(some)
    y = layer(moved(np.ones((0, 3, 4, 4), np.float32), "cuda"))
    assert (y.size, layer.backward(y).shape) == (0, (0, 3, 4, 4))
    assert all((grad.get() == 0).all() for grad in layer.grads.values())


def test_what_is_wrong_is_named(gpu: Any) -> None:
    x, shape = gpu.ones((1, 1, 4, 4), np.float32), ((1, 1), (4, 2, 2, 0, 1), (4, 2, 2, 0, 1))
    with pytest.raises(ValueError, match=r"f: out and x must not share elements"):
        cuda.max_pool("f", x[:, :, :2, :2], x, shape)
    with pytest.raises(ValueError, match=r"out must have 4 entries, got 16"):
        cuda.max_pool("f", gpu.ones((1, 1, 4, 4), np.float32), x, shape)
    with pytest.raises(ValueError, match=r"features must have 4 entries, got 3"):
        cuda.convolve("f", x, (x, x, None), ((1, 2), *shape[1:]), (3, 2))


@pytest.mark.usefixtures("gpu", "schedule")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("count", "features", "places"), [(1, 1, 1), (5, 3, 0), (7, 33, 501), (300, 5, 2000)])
def test_rows_are_added_in_the_order_of_places(dtype: Any, count: int, features: int, places: int) -> None:
    rng = np.random.default_rng(0)
    indices = np.minimum(rng.integers(0, count, places), rng.integers(0, count, places))
    rows, want = values(rng, (places, features), dtype), np.zeros((count, features), dtype)
    np.add.at(want, indices, rows)
    sums = moved(np.full_like(want, np.nan), "cuda")
    wide = moved(np.repeat(rows, 2, axis=0), "cuda")
    cuda.sum_rows(sums, wide[::2], moved(indices, "cuda"))
    assert_same_bits(sums.get(), want)
