"""Softmax and cross entropy of CuPy arrays have the bits of the CPU's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpu_shim
from gpu_shim import standin
from helpers import assert_same_bits
from reference_storage import DTYPES, compute_type
from stepsmith import nn
from stepsmith.nn import functional

WIDTHS = [1, 3, 10, 31, 32, 33, 127, 128, 129, 1000, 1024, 1025, 1028, 4096, 5000, 8192, 70_001]
NAMES = ["softmax", "log_softmax"]
REDUCTIONS = ["mean", "sum", "none"]


def both(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return getattr(functional, name), getattr(functional, f"{name}_backward")


def draw(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Any:
    """Numbers with all digits of the dtype, so that the order of a sum shows."""
    x = np.random.default_rng(seed).standard_normal(shape) * 4
    return x if dtype == "f64" else x.astype(np.float32).astype(DTYPES[dtype])


def rows_of(width: int) -> int:
    return 70 if width < 100 else 3 if width < 1000 else 2 if width < 9000 else 1


def on(gpu: Any, array: Any) -> Any:
    return None if array is None else gpu.asarray(array)


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_rows_of_every_width_equal_the_cpu(gpu: Any, width: int, dtype: str) -> None:
    shape = rows_of(width), width
    x, dy = draw(shape, dtype), draw(shape, dtype, 1)
    for name in NAMES:
        forward, backward = both(name)
        y, saved = forward(x)
        own, own_saved = forward(gpu.asarray(x))
        assert own_saved.y is own
        assert_same_bits(own.get(), y, name)
        assert_same_bits(backward(gpu.asarray(dy), own_saved).get(), backward(dy, saved), f"{name} backward")


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
@pytest.mark.parametrize("name", NAMES)
def test_any_axis_and_layout_equals_the_cpu(gpu: Any, name: str, axis: int) -> None:
    forward, backward = both(name)
    for dtype in ("f32", "bf16", "f64"):
        x, dy = draw((4, 7, 12), dtype), draw((4, 7, 12), dtype, 1)
        y, saved = forward(x, axis)
        wide = gpu.zeros((8, 7, 30), x.dtype)
        for view in (lambda a: a[::2, :, 3:27:2], lambda a: a[3::-1, :, 18:30]):
            own_x, own_dy, out = (view(wide.copy()) for _ in range(3))
            own_x[...], own_dy[...] = gpu.asarray(x), gpu.asarray(dy)
            got, own_saved = forward(own_x, axis, out=out)
            assert got is out
            assert_same_bits(out.get(), y, name)
            assert_same_bits(backward(own_dy, own_saved, out=own_dy).get(), backward(dy, saved), f"{name} backward")


@pytest.mark.parametrize("shape", [(9, 10), (9, 700), (2, 2048), (1, 66_000)], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_outputs_in_the_place_of_inputs(gpu: Any, name: str, shape: tuple[int, int]) -> None:
    forward, backward = both(name)
    x, dy = draw(shape, "f32"), draw(shape, "f32", 1)
    y, saved = forward(x)
    inplace = gpu.asarray(x)
    got, own = forward(inplace, out=inplace)
    assert got is inplace
    assert_same_bits(inplace.get(), y)
    shifted = gpu.empty((shape[0] + 1, shape[1]), np.float32)
    shifted[1:] = gpu.asarray(x)
    assert_same_bits(forward(shifted[1:], out=shifted[:-1])[0].get(), y)
    over = gpu.asarray(dy)
    assert_same_bits(backward(over, own, out=over).get(), backward(dy, saved))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [1, 10, 100, 1000, 1028, 2048, 5001])
def test_odd_numbers_stay_in_their_row(gpu: Any, name: str, width: int) -> None:
    x = draw((7, width), "f32")
    for row, value in enumerate((np.nan, np.inf, -np.inf, 1e38, -1e38)):
        x[row, width // 2] = value
    x[5] = -np.inf
    x[6] -= 100  # all below the zeros that pad a row
    y, _ = both(name)[0](x)
    assert_same_bits(both(name)[0](gpu.asarray(x))[0].get(), y)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0,), (2, 0, 3)], ids=str)
def test_empty_arrays_come_back_empty(gpu: Any, name: str, shape: tuple[int, ...]) -> None:
    forward, backward = both(name)
    for axis in range(len(shape)):
        y, saved = forward(gpu.zeros(shape), axis)
        assert y.shape == backward(gpu.zeros(shape), saved).shape == shape


def check(gpu: Any, x: Any, target: Any, weight: Any, **options: Any) -> None:
    """Loss and gradient on the host and on the device."""
    loss, dx = nn.cross_entropy(x, target, weight, **options)
    own, own_dx = nn.cross_entropy(gpu.asarray(x), gpu.asarray(target), on(gpu, weight), **options)
    if options.get("reduction") == "none":
        own = own.get()
    assert_same_bits(np.asarray(own), np.asarray(loss), "loss")
    assert (own_dx is None) == (dx is None)
    if dx is not None:
        assert_same_bits(own_dx.get(), dx, "gradient")


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_cross_entropy_of_every_width_equals_the_cpu(gpu: Any, width: int, dtype: str) -> None:
    rows, compute = rows_of(width), compute_type(DTYPES[dtype])
    rng, x = np.random.default_rng(width), draw((rows, width), dtype)
    labels, weight = rng.integers(0, width, rows), rng.random(width).astype(compute)
    labels[::3] = -100
    for k, target in enumerate((labels, rng.random((rows, width)).astype(compute))):
        check(gpu, x, target, weight, label_smoothing=0.1, reduction=REDUCTIONS[(width + k) % 3])
        check(gpu, x, target, None, label_smoothing=0.1, reduction=REDUCTIONS[(width + k + 1) % 3])
        check(gpu, x, target, weight, reduction=REDUCTIONS[(width + k + 2) % 3])
    check(gpu, x, labels, None)
    check(gpu, x, labels, None, grad=False)


def test_options_equal_the_cpu(gpu: Any) -> None:
    x, rng = draw((70, 12, 5), "f32"), np.random.default_rng(0)
    labels = rng.integers(0, 12, (70, 5))
    check(gpu, x, labels, None, ignore_index=3)
    check(gpu, x, labels.astype(np.uint8), None, ignore_index=3, reduction="none")
    check(gpu, x, rng.integers(0, 5, (70, 12)).astype(">i4"), None, axis=-1)
    check(gpu, x, np.full((70, 5), 7), None, ignore_index=7, label_smoothing=0.1)
    odd = draw((6, 10), "f32")
    for row, value in enumerate((np.nan, np.inf, -np.inf, 1e38)):
        odd[row, row] = value
    odd[4] = -np.inf
    check(gpu, odd, np.array([0, 1, 2, 3, -100, 5]), None, reduction="none")
    check(gpu, draw((100_000, 2), "f32"), rng.integers(0, 2, 100_000), np.array([0.3, 0.7], np.float32))
    check(gpu, draw((5, 1), "f32"), np.zeros(5, int), np.array([-0.5], np.float32), reduction="none")
    check(gpu, draw((0, 3), "f32"), np.zeros(0, int), None, reduction="sum")


def test_gradient_in_the_place_of_an_input(gpu: Any) -> None:
    for shape in ((9, 10), (9, 700), (1, 66_000)):
        x, labels = draw(shape, "f32"), np.arange(shape[0])
        loss, dx = nn.cross_entropy(x, labels)
        own = gpu.asarray(x)
        got, own_dx = nn.cross_entropy(own, gpu.asarray(labels), out=own)
        assert (own_dx is own, got) == (True, loss)
        assert_same_bits(own.get(), dx)
    memory = gpu.zeros((8, 4))
    shared = memory.reshape(-1).view(np.int64)[:8]
    shared[...] = gpu.arange(8) % 4
    x = draw((8, 4), "f64")
    _, dx = nn.cross_entropy(x, np.arange(8) % 4)
    assert_same_bits(nn.cross_entropy(gpu.asarray(x), shared, out=memory)[1].get(), dx)


def test_a_wrong_label_is_named_before_anything_is_written(gpu: Any) -> None:
    x, out = gpu.zeros((3, 3)), gpu.full((3, 3), 7.0)
    for labels, message in [
        (np.array([0, 3, 4]), "got 3 at index 1"),
        (np.array([0, 1, -1]), "got -1 at index 2"),
        (np.array([0, 2**64 - 100, 1], np.uint64), "got 18446744073709551516 at index 1"),
    ]:
        for options in ({}, {"reduction": "sum"}):
            with pytest.raises(ValueError, match=rf"cross_entropy: labels must be in \[0, 3\), {message}"):
                nn.cross_entropy(x, gpu.asarray(labels), out=out, **options)
        loss = nn.CrossEntropy()
        with pytest.raises(ValueError, match=message):
            loss.check(x, gpu.asarray(labels))
        loss.check(x, gpu.asarray(np.array([0, 2, -100])))
    assert (out.get() == 7.0).all()


def test_refused_before_anything_is_written(gpu: Any) -> None:
    x, out, host = gpu.ones((3, 4)), gpu.full((3, 4), 7.0), np.ones((3, 4))
    labels, backward, (_, saved) = np.array([0, 1, 2]), functional.softmax_backward, functional.softmax(x)
    on_gpu = "must be an array of CuPy as the (other arrays|logits) are, got one of NumPy"
    for error, message, call in [
        (TypeError, f"softmax: out {on_gpu}", lambda: functional.softmax(x, out=host)),
        (TypeError, "softmax: x must be float32, float64", lambda: functional.softmax(gpu.ones(3, np.int32))),
        (TypeError, f"softmax_backward: dy {on_gpu}", lambda: backward(host, saved, out=out)),
        (TypeError, f"cross_entropy: labels {on_gpu}", lambda: nn.cross_entropy(x, labels, out=out)),
        (TypeError, f"weight {on_gpu}", lambda: nn.cross_entropy(x, gpu.asarray(labels), np.ones(4), out=out)),
        (TypeError, f"cross_entropy: out {on_gpu}", lambda: nn.cross_entropy(x, gpu.asarray(labels), out=host)),
    ]:
        with pytest.raises(error, match=message):
            call()
    assert (out.get() == 7.0).all()


@pytest.mark.skipif(gpu_shim.has_gpu(), reason="the stand-in counts how often the host waits")
def test_the_host_waits_for_the_loss_alone(gpu: Any) -> None:
    x, labels = gpu.asarray(draw((5, 10), "f32")), gpu.asarray(np.arange(5))
    before = standin.syncs()
    _, saved = functional.softmax(x)
    functional.softmax_backward(x, saved)
    assert standin.syncs() == before
    nn.cross_entropy(x, labels, gpu.ones(10, np.float32), label_smoothing=0.1)
    assert standin.syncs() == before + 1


def test_the_loss_and_the_layers_work_on_the_device(gpu: Any) -> None:
    x, labels, rng = draw((40, 10), "f32"), np.arange(40) % 10, np.random.default_rng(0)
    weight, of_samples = rng.random(10).astype(np.float32), rng.random(40)
    for w in (None, of_samples):
        want, dx = nn.CrossEntropy(weight, 0.2, 3)(x, labels, w)
        loss = nn.CrossEntropy(weight, 0.2, 3).to("cuda")
        got, own_dx = loss(gpu.asarray(x), gpu.asarray(labels), on(gpu, w))
        assert got == pytest.approx(want, rel=1e-12)
        np.testing.assert_allclose(own_dx.get(), dx, rtol=1e-6)
    sums = nn.CrossEntropy().sums(x, labels)
    own_sums = nn.CrossEntropy().sums(gpu.asarray(x), gpu.asarray(labels))
    assert own_sums["accuracy"] == sums["accuracy"]
    assert own_sums["loss"] == pytest.approx(sums["loss"], rel=1e-12)
    for layer in (nn.Softmax(), nn.LogSoftmax()):
        y, dx = layer(x), layer.backward(x)
        assert_same_bits(layer(gpu.asarray(x)).get(), y)
        assert_same_bits(layer.backward(gpu.asarray(x)).get(), dx)
