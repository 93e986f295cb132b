"""Convolution and pooling layers against direct loops, PyTorch's vectors, themselves on other threads and levels."""

import copy
import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import stepsmith as ss
from helpers import LAYOUTS, assert_same_bits, laid_out, run_python
from reference_windows import avg_pool, convolve, convolve_in_order, max_pool, output_sizes
from stepsmith import nn

Array = np.ndarray[Any, Any]
GOLDEN = Path(__file__).parent / "golden"
CASES = {case["case"]: case for case in json.loads((GOLDEN / "layers.json").read_text())}
CONVOLUTIONS = [name for name in CASES if name.startswith("conv2d")]


def close(got: Array, want: Array, tolerance: float) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1e-300, float(np.abs(want).max(initial=0))))


def golden(case: str) -> dict[str, Array]:
    with np.load(GOLDEN / "layers.npz") as arrays:
        return {name.split("/")[1]: arrays[name] for name in arrays.files if name.startswith(f"{case}/")}


def given_conv(weight: Array, bias: Array | None, channels: int, **options: Any) -> nn.Conv2d:
    """A layer with that weight and bias."""
    groups = channels // weight.shape[1]
    size, dtype = weight.shape[2:], weight.dtype
    layer = nn.Conv2d(channels, len(weight), size, groups=groups, bias=bias is not None, rng=0, dtype=dtype, **options)
    layer.params["weight"][...] = weight
    if bias is not None:
        layer.params["bias"][...] = bias
    return layer


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv_equals_pytorch(case: str) -> None:
    row, arrays = CASES[case], golden(case)
    options = {name: row[name] for name in ("stride", "padding", "dilation")}
    layer = given_conv(arrays["in1"], arrays["in2"], 4, **options)
    assert layer.groups == row["groups"]
    close(layer(arrays["in0"]), arrays["y"], 1e-12)
    close(layer.backward(arrays["dy"]), arrays["d0"], 1e-12)
    close(layer.grads["weight"], arrays["d1"], 1e-12)
    close(layer.grads["bias"], arrays["d2"], 1e-12)


def test_pools_equal_pytorch() -> None:
    assert len(CONVOLUTIONS) == 4
    row = CASES["avg_pool2d"]
    average = nn.AvgPool2d(row["kernel"], row["stride"], row["padding"], row["count_include_pad"])
    largest = nn.MaxPool2d(CASES["max_pool2d"]["kernel"], CASES["max_pool2d"]["stride"])
    for case, layer in (("avg_pool2d", average), ("max_pool2d", largest)):
        arrays = golden(case)
        close(layer(arrays["in0"]), arrays["y"], 1e-12)
        close(layer.backward(arrays["dy"]), arrays["d0"], 1e-12)


PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))
SIZES = st.tuples(st.integers(1, 9), st.integers(1, 20))


@st.composite
def windows(draw: st.DrawFn, padding: int = 2) -> dict[str, Any]:
    """Sizes of a plane and a window that fits it."""
    sizes, kernel, stride, dilation = draw(SIZES), draw(PAIRS), draw(PAIRS), draw(PAIRS)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    around = tuple(draw(st.integers(0, padding if padding > 0 else number // 2)) for number in reach)
    assume(all(n + 2 * p >= r for n, p, r in zip(sizes, around, reach, strict=True)))
    return {"sizes": sizes, "kernel": kernel, "stride": stride, "padding": around, "dilation": dilation}


@settings(max_examples=60, deadline=None)
@given(windows(), st.integers(1, 3), st.tuples(*[st.integers(1, 3)] * 3), st.booleans(), st.integers(0, 99))
def test_conv_equals_direct_loops(window, samples: int, channels, bias: bool, seed: int) -> None:
    rng, (groups, inputs, outputs) = np.random.default_rng(seed), channels
    x = rng.normal(size=(samples, groups * inputs, *window["sizes"]))
    weight = rng.normal(size=(groups * outputs, inputs, *window["kernel"]))
    b = rng.normal(size=len(weight)) if bias else np.zeros(len(weight))
    options = {name: window[name] for name in ("stride", "padding", "dilation")}
    layer = given_conv(weight, b if bias else None, x.shape[1], **options)
    y = layer(x).copy()
    dy = rng.normal(size=y.shape)
    want, grads = convolve(x, weight, b, dy, **options)
    close(y, want, 1e-13)
    close(layer.backward(dy), grads[0], 1e-12)
    close(layer.grads["weight"], grads[1], 1e-12)
    if bias:
        close(layer.grads["bias"], grads[2], 1e-12)
    assert layer.flops(x.shape, y.shape) == 2 * y.size * weight[0].size


@settings(max_examples=60, deadline=None)
@given(windows(padding=0), st.sampled_from([np.float32, np.float64]), st.integers(0, 99))
def test_max_pool_equals_direct_loops(window, dtype, seed: int) -> None:
    rng, sizes = np.random.default_rng(seed), window.pop("sizes")
    # Few values, so that equal ones meet in a window.
    x = rng.integers(-2, 3, (2, 3, *sizes)).astype(dtype)
    x[rng.random(x.shape) < 0.1] = -np.inf
    spread = [n + 2 * p for n, p in zip(sizes, window["padding"], strict=True)]
    shape = output_sizes(tuple(spread), window["kernel"], window["stride"], window["dilation"])
    dy = rng.integers(1, 9, (2, 3, *shape)).astype(dtype)
    layer = nn.MaxPool2d(window["kernel"], window["stride"], window["padding"], window["dilation"])
    want = max_pool(x, dy, **window)
    assert_same_bits(layer(x), want[0])
    assert_same_bits(layer.backward(dy), want[1])


@settings(max_examples=60, deadline=None)
@given(windows(padding=0), st.booleans(), st.integers(0, 99))
def test_avg_pool_equals_direct_loops(window, counts: bool, seed: int) -> None:
    rng, sizes = np.random.default_rng(seed), window.pop("sizes")
    assume(all(2 * p <= k <= n + 2 * p for n, p, k in zip(sizes, window["padding"], window["kernel"], strict=True)))
    x = rng.normal(size=(2, 3, *sizes))
    layer = nn.AvgPool2d(window["kernel"], window["stride"], window["padding"], counts)
    y = layer(x).copy()
    dy = rng.normal(size=y.shape)
    want = avg_pool(x, dy, window["kernel"], window["stride"], window["padding"], counts)
    close(y, want[0], 1e-14)
    close(layer.backward(dy), want[1], 1e-14)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("build", [lambda: nn.MaxPool2d(3, 2, 1), lambda: nn.AvgPool2d((3, 2), 1)])
def test_pools_of_half_precision_compute_in_float32(build, dtype) -> None:
    """Max and mean of stored numbers are rounded once; so are the sums of the gradient."""
    x = np.random.default_rng(0).normal(size=(2, 3, 11, 9)).astype(dtype)
    layers = build(), build()
    half, single = layers[0](x), layers[1](x.astype(np.float32))
    assert_same_bits(half, single.astype(dtype))
    dy = np.sin(single).astype(dtype)
    assert_same_bits(layers[0].backward(dy), layers[1].backward(dy.astype(np.float32)).astype(dtype))


def test_nan_is_the_largest_and_gets_the_gradient() -> None:
    x = np.array([[np.inf, np.nan, 1.0, 2.0]])[None, None]
    layer = nn.MaxPool2d((1, 2))
    np.testing.assert_array_equal(layer(x)[0, 0, 0], [np.nan, 2.0])
    np.testing.assert_array_equal(layer.backward(np.full((1, 1, 1, 2), 5.0))[0, 0, 0], [0, 5, 0, 5])


def test_a_nan_reaches_only_the_outputs_that_see_it() -> None:
    x = np.ones((1, 1, 4, 5))
    x[0, 0, 3, 4] = np.nan
    for layer in (nn.Conv2d(1, 2, 2, rng=0, dtype=x.dtype), nn.AvgPool2d(2, 1)):
        found = np.isnan(layer(x))
        assert found[..., 2, 3].all()
        assert found.sum() == found[..., 2, 3].size


WEIGHT_SHAPE = 19, 5, 3, 3


def example(dtype: Any, seed: int = 0) -> tuple[Array, Array, Array]:
    """Enough for several threads, blocks of columns and tiles of all heights."""
    rng = np.random.default_rng(seed)
    x, weight = rng.normal(size=(9, 5, 37, 41)), rng.normal(size=WEIGHT_SHAPE)
    return x.astype(dtype), weight.astype(dtype), rng.normal(size=19).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [((1, 1), (1, 1), (1, 1)), ((2, 3), (0, 2), (2, 1))])
def test_each_operation_of_the_sums_is_rounded_once_in_order(dtype, stride, padding, dilation) -> None:
    x, weight, bias = example(dtype)
    layer = given_conv(weight, bias, 5, stride=stride, padding=padding, dilation=dilation)
    assert_same_bits(layer(x), convolve_in_order(x, weight, bias, stride, padding, dilation))


def digest() -> str:
    """Of everything that the layers compute in both dtypes."""
    found = hashlib.sha256()
    for dtype in (np.float32, np.float64):
        x, weight, bias = example(dtype)
        conv = given_conv(weight, bias, 5, padding=1)
        for layer in (conv, nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1, count_include_pad=False)):
            y = layer(x)
            found.update(y.tobytes())
            found.update(layer.backward(np.cos(y)).tobytes())
            for grad in layer.grads.values():
                found.update(grad.tobytes())
    return found.hexdigest()


def test_threads_do_not_change_bits() -> None:
    found = set()
    for count in (1, 2, 3, 7):
        with ss.threads(count):
            found.add(digest())
    assert len(found) == 1


def test_levels_do_not_change_bits(level: str) -> None:
    code = "import test_conv; print(test_conv.digest())"
    assert run_python(code, environment={"STEPSMITH_ISA": level}).strip() == digest()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_gives_the_same_bits(layout: str) -> None:
    x, weight, bias = example(np.float32)
    dys = []
    for layer in (given_conv(weight, bias, 5, stride=2), nn.MaxPool2d(3), nn.AvgPool2d((2, 3))):
        y = layer(x).copy()
        dys.append(np.sin(y))
        dx = layer.backward(dys[-1]).copy()
        grads = copy.deepcopy(layer.grads)
        assert_same_bits(layer(laid_out(x, layout)), y)
        assert_same_bits(layer.backward(laid_out(dys[-1], layout)), dx)
        for name, grad in grads.items():
            assert_same_bits(layer.grads[name], grad)


@pytest.mark.parametrize("build", [lambda: nn.Conv2d(3, 4, 2, rng=0), lambda: nn.MaxPool2d(2), lambda: nn.AvgPool2d(2)])
def test_no_samples_give_no_output_and_zero_gradients(build) -> None:
    layer = build()
    layer.backward(np.ones_like(layer(np.ones((2, 3, 4, 4), np.float32))))
    y = layer(np.ones((0, 3, 4, 4), np.float32))
    assert (y.size, layer.backward(y).shape) == (0, (0, 3, 4, 4))
    assert all((grad == 0).all() for grad in layer.grads.values())


def test_weights_are_drawn_by_fan_and_seed() -> None:
    layers = [nn.Sequential(nn.Conv2d(8, 16, 3, groups=2), seed=seed) for seed in (0, 0, 1)]
    first, second, other = (layer.parameters()["0.weight"] for layer in layers)
    assert first.shape == (16, 4, 3, 3)
    assert (first == second).all()
    assert (first != other).any()
    assert np.abs(first).max() <= np.sqrt(6 / (4 * 9 + 16 * 9))
    assert (layers[0].parameters()["0.bias"] == 0).all()


def test_the_input_s_gradient_is_computed_only_where_wanted() -> None:
    x, weight, bias = example(np.float32)
    layer = given_conv(weight, bias, 5)
    dy = np.sin(layer(x))
    layer.backward(dy)
    grads = copy.deepcopy(layer.grads)
    for grad in layer.grads.values():
        grad.fill(np.nan)
    assert layer.backward(dy, input_grad=False) is None
    for name, grad in grads.items():
        assert_same_bits(layer.grads[name], grad)
    for pool in (nn.MaxPool2d(2), nn.AvgPool2d(2)):
        assert pool.backward(np.ones_like(pool(x)), input_grad=False) is None


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def test_a_small_network_learns() -> None:
    (X, y), (X_test, y_test) = ss.datasets.digits()
    model = cnn()
    trainer = ss.Trainer(model, optimizer=ss.optim.Adam(model.parameters(), lr=1e-2))
    trainer.fit((X.reshape(-1, 1, 8, 8), y), epochs=5, progress=False)
    assert trainer.evaluate((X_test.reshape(-1, 1, 8, 8), y_test))["accuracy"] > 0.9


def test_a_step_allocates_nothing_of_the_arrays_size() -> None:
    model, batch = cnn(), (np.ones((64, 1, 8, 8), np.float32), np.zeros(64, np.int64))
    model.loss_and_grads(batch)
    tracemalloc.start()
    model.loss_and_grads(batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024, peak


def test_flatten_keeps_the_first_axes() -> None:
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    for start, shape in ((1, (2, 60)), (2, (2, 3, 20)), (4, (2, 3, 4, 5, 1))):
        layer = nn.Flatten(start)
        y = layer(x)
        assert y.shape == shape
        assert np.shares_memory(x, y)
        assert (layer.backward(y) == x).all()
    assert (nn.Flatten()(np.asfortranarray(x)) == x.reshape(2, 60)).all()
    assert nn.Flatten()(x[:0]).shape == (0, 60)


X = np.ones((2, 4, 5, 6), np.float32)


def stale(layer: nn.Module, x: Array = X) -> Any:
    layer(x)
    return layer.backward


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Conv2d(0, 3, 1), ValueError, r"Conv2d: in_channels must be at least 1, got 0"),
        (
            lambda: nn.Conv2d(3, 4, 1, groups=2),
            ValueError,
            r"Conv2d: in_channels must be a multiple of groups, 2, got 3",
        ),
        (
            lambda: nn.Conv2d(4, 3, 1, groups=2),
            ValueError,
            r"Conv2d: out_channels must be a multiple of groups, 2, got 3",
        ),
        (lambda: nn.Conv2d(4, 4, 1, groups=0), ValueError, r"Conv2d: groups must be at least 1, got 0"),
        (lambda: nn.Conv2d(4, 4, 0), ValueError, r"Conv2d: kernel_size must be at least 1, got 0"),
        (lambda: nn.Conv2d(4, 4, 1.5), TypeError, r"Conv2d: kernel_size must be an integer, got 1.5"),
        (lambda: nn.Conv2d(4, 4, (1, 2, 3)), ValueError, r"Conv2d: kernel_size must be .*two of them, got \(1, 2, 3\)"),
        (lambda: nn.Conv2d(4, 4, 1, (1, 0)), ValueError, r"Conv2d: stride\[1\] must be at least 1, got 0"),
        (lambda: nn.Conv2d(4, 4, 1, padding=-1), ValueError, r"Conv2d: padding must be at least 0, got -1"),
        (lambda: nn.Conv2d(4, 4, 1, dilation=0), ValueError, r"Conv2d: dilation must be at least 1, got 0"),
        (lambda: nn.Conv2d(4, 4, 1, bias=1), TypeError, r"Conv2d: bias must be True or False, got 1"),
        (lambda: nn.Conv2d(4, 4, 1, dtype=np.float16), TypeError, r"Conv2d: dtype must be float32 or float64"),
        (lambda: nn.Conv2d(4, 4, 1)(X.tolist()), TypeError, r"Conv2d: input must be a NumPy array"),
        (lambda: nn.Conv2d(4, 4, 1)(X.astype(np.float64)), TypeError, r"Conv2d: input must be float32.*got float64"),
        (
            lambda: nn.Conv2d(3, 4, 1)(X),
            ValueError,
            r"input must have shape \(samples, 3, rows, columns\), got \(2, 4,",
        ),
        (lambda: nn.Conv2d(4, 4, 1)(X[0]), ValueError, r"input must have shape \(samples, 4, rows, columns\)"),
        (lambda: nn.Conv2d(4, 4, (3, 7))(X), ValueError, r"Conv2d: input must have at least 7 columns, got 6"),
        (lambda: nn.Conv2d(4, 4, 3, padding=1, dilation=4)(X), ValueError, r"input must have at least 7 rows, got 5"),
        (
            lambda: stale(nn.Conv2d(4, 3, 2))(X),
            ValueError,
            r"Conv2d: dy must have the shape of the output, \(2, 3, 4, 5\)",
        ),
        (
            lambda: stale(nn.MaxPool2d(2))(X),
            ValueError,
            r"MaxPool2d: dy must have the shape of the output, \(2, 4, 2, 3\)",
        ),
        (lambda: stale(nn.AvgPool2d(1))(X.astype("f8")), TypeError, r"AvgPool2d: dy must have the dtype of the output"),
        (
            lambda: nn.MaxPool2d(3, padding=2),
            ValueError,
            r"padding must be at most half of the window, \(3, 3\), got 2",
        ),
        (lambda: nn.AvgPool2d((2, 4), padding=2), ValueError, r"AvgPool2d: padding must be at most half"),
        (
            lambda: nn.AvgPool2d(2, count_include_pad=0),
            TypeError,
            r"AvgPool2d: count_include_pad must be True or False",
        ),
        (lambda: nn.MaxPool2d(2, stride=0), ValueError, r"MaxPool2d: stride must be at least 1, got 0"),
        (lambda: nn.MaxPool2d(6)(X), ValueError, r"MaxPool2d: input must have at least 6 rows, got 5"),
        (lambda: nn.MaxPool2d(2)(X[0]), ValueError, r"MaxPool2d: input must have shape \(samples, channels, rows"),
        (lambda: nn.MaxPool2d(2)(X.astype(np.int32)), TypeError, r"MaxPool2d: input must be float32, float64"),
        (lambda: nn.Flatten(0), ValueError, r"Flatten: start_axis must be at least 1, got 0"),
        (lambda: nn.Flatten(3)(X[0, 0]), ValueError, r"Flatten: input must have at least 3 axes, got shape \(5, 6\)"),
    ],
)
def test_bad_arguments_are_named(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
