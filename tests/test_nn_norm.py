"""Layers that normalize: the functions' results, buffers, running statistics, and their place in a model."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from helpers import LAYOUTS, assert_same_bits, laid_out
from stepsmith import nn, norm

Array = np.ndarray[Any, Any]
BF16 = np.dtype(ml_dtypes.bfloat16)

# Layer, its function and its backward function of (x, weight, bias).
LAYERS: dict[str, tuple[Callable[..., nn.Module], Callable[..., Any], Callable[..., Any]]] = {
    "layer": (lambda **k: nn.LayerNorm(7, **k), norm.layer_norm, norm.layer_norm_backward),
    "layer-2": (lambda **k: nn.LayerNorm((6, 7), eps=0.1, **k), norm.layer_norm, norm.layer_norm_backward),
    "rms": (lambda **k: nn.RMSNorm((6, 7), **k), norm.rms_norm, norm.rms_norm_backward),
    "group": (lambda **k: nn.GroupNorm(3, 6, **k), norm.group_norm, norm.group_norm_backward),
    "instance": (lambda **k: nn.InstanceNorm(6, affine=True, **k), norm.instance_norm, norm.instance_norm_backward),
    "batch": (lambda **k: nn.BatchNorm(6, **k), norm.batch_norm, norm.batch_norm_backward),
    "batch-last": (lambda **k: nn.BatchNorm(7, axis=-1, **k), norm.batch_norm, norm.batch_norm_backward),
}
SETTINGS: dict[str, dict[str, Any]] = {"layer-2": {"eps": 0.1}, "group": {"groups": 3}, "batch-last": {"axis": -1}}


def made(name: str, dtype: type = np.float32) -> nn.Module:
    """A layer whose parameters are not those it starts with."""
    layer = LAYERS[name][0](dtype=dtype)
    rng = np.random.default_rng(5)
    for param in layer.parameters().values():
        param[...] = rng.normal(size=param.shape)
    return layer


def data(dtype: Any, rows: int = 5) -> tuple[Array, Array]:
    rng = np.random.default_rng(rows)
    return tuple((rng.normal(size=(rows, 6, 7)) * 2 + 1).astype(dtype) for _ in range(2))


@pytest.mark.parametrize(("dtype", "input_dtype"), [("f4", "f4"), ("f8", "f8"), ("f4", BF16), ("f4", "f2")], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_the_functions(name: str, dtype: str, input_dtype: Any) -> None:
    layer, (x, dy) = made(name, dtype), data(input_dtype)
    params = layer.parameters().values()
    y, saved = LAYERS[name][1](x, *params, **SETTINGS.get(name, {}))
    gradients = LAYERS[name][2](dy, saved)
    for _ in range(2):
        assert_same_bits(layer(x, training=True), y)
        assert_same_bits(layer.backward(dy), gradients[0])
        for grad, want in zip(layer.gradients().values(), gradients[1:], strict=True):
            assert_same_bits(grad, want)
            grad[...] = np.nan
        assert layer.backward(dy, input_grad=False) is None
        for grad, want in zip(layer.gradients().values(), gradients[1:], strict=True):
            assert_same_bits(grad, want)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_matter(name: str, layout: str) -> None:
    layer, (x, dy) = made(name), data(np.float32)
    y, dx = layer(x, training=True).copy(), layer.backward(dy).copy()
    assert_same_bits(layer(laid_out(x, layout), training=True), y)
    assert_same_bits(layer.backward(laid_out(dy, layout)), dx)


@pytest.mark.parametrize("name", LAYERS)
def test_arrays_are_fixed_for_life_and_outputs_are_reused(name: str) -> None:
    layer = made(name)
    params, grads = layer.parameters(), layer.gradients()
    x, dy = data(np.float32)
    y, dx = layer(x, training=True), layer.backward(dy)
    again, dx_again = layer(x[:3], training=True), layer.backward(dy[:3])
    assert np.shares_memory(y, again)
    assert np.shares_memory(dx, dx_again)
    assert not np.shares_memory(y, dx)
    assert all(layer.parameters()[key] is param for key, param in params.items())
    assert all(layer.gradients()[key] is grad for key, grad in grads.items())


def test_names_and_starts_are_pytorch_s() -> None:
    starts = {name: LAYERS[name][0]().parameters() for name in LAYERS}
    for name, params in starts.items():
        assert list(params) == (["weight"] if name == "rms" else ["weight", "bias"])
        assert (params["weight"] == 1).all()
        assert not np.any(params.get("bias", 0))
    assert nn.LayerNorm((6, 7)).weight.shape == (6, 7)
    assert list(nn.LayerNorm(7, bias=False).parameters()) == ["weight"]
    for layer in (nn.LayerNorm(7, affine=False), nn.RMSNorm(7, affine=False), nn.GroupNorm(2, 6, affine=False)):
        assert layer.parameters() == {}
    assert nn.InstanceNorm(6).parameters() == nn.BatchNorm(6, affine=False).parameters() == {}
    assert list(nn.BatchNorm(6).buffers()) == ["running_mean", "running_var", "num_batches_tracked"]
    assert nn.BatchNorm(6, track_running_stats=False).buffers() == nn.LayerNorm(7).buffers() == {}


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.RMSNorm])
def test_without_parameters_all_the_axes_are_normalized(kind: type) -> None:
    x, dy = data(np.float64)
    plain, affine = kind((6, 7), affine=False, dtype=np.float64), kind((6, 7), dtype=np.float64)
    assert_same_bits(plain(x), affine(x))
    assert_same_bits(plain.backward(dy), affine.backward(dy))
    assert plain.gradients() == {}


def test_running_statistics_move_in_training_and_count_outside() -> None:
    layer, (x, _) = nn.BatchNorm(6, momentum=0.25), data(np.float32)
    buffers = layer.buffers()
    mean, var = np.zeros(6, np.float32), np.ones(6, np.float32)
    for rows in (5, 3, 4):
        want, _ = norm.batch_norm(x[:rows], layer.weight, layer.bias, mean, var, momentum=0.25)
        assert_same_bits(layer(x[:rows], training=True), want)
    want, _ = norm.batch_norm(x, layer.weight, layer.bias, mean, var, training=False)
    for _ in range(2):
        assert_same_bits(layer(x), want)
    assert_same_bits(layer.running_mean, mean)
    assert_same_bits(layer.running_var, var)
    assert layer.num_batches_tracked == 3
    assert all(layer.buffers()[name] is array for name, array in buffers.items())


def test_without_momentum_all_batches_count_alike() -> None:
    layer, (x, _) = nn.BatchNorm(6, momentum=None, dtype=np.float64), data(np.float64, 9)
    batches = x[:2], x[2:5], x[5:]
    for batch in batches:
        layer(batch, training=True)
    np.testing.assert_allclose(layer.running_mean, np.mean([b.mean(axis=(0, 2)) for b in batches], axis=0), rtol=1e-12)
    var = np.mean([b.var(axis=(0, 2), ddof=1) for b in batches], axis=0)
    np.testing.assert_allclose(layer.running_var, var, rtol=1e-12)


def test_without_running_statistics_each_batch_has_its_own() -> None:
    layer, (x, _) = nn.BatchNorm(6, track_running_stats=False), data(np.float32)
    want, _ = norm.batch_norm(x, layer.weight, layer.bias)
    assert_same_bits(layer(x), want)
    assert_same_bits(layer(x, training=True), want)


def test_what_fails_or_is_empty_moves_nothing() -> None:
    layer = nn.BatchNorm(6)
    before = {name: array.copy() for name, array in layer.buffers().items()}
    with pytest.raises(ValueError, match="more than one value per channel"):
        layer(np.ones((1, 6), np.float32), training=True)
    assert layer(np.ones((0, 6), np.float32), training=True).shape == (0, 6)
    assert all((array == before[name]).all() for name, array in layer.buffers().items())


def test_buffers_of_a_model_have_full_names() -> None:
    inner = nn.Sequential(nn.BatchNorm(4), nn.ReLU())
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm(4, affine=False), inner)
    names = [f"{prefix}.{name}" for prefix in ("1", "2.0") for name in nn.BatchNorm(4).state]
    assert list(net.buffers()) == names
    assert net.buffers()["2.0.running_var"] is inner.modules[0].running_var
    assert not set(names) & set(net.parameters())


def test_weight_norm_starts_as_the_layer_it_wraps() -> None:
    x = np.random.default_rng(0).normal(size=(5, 4))
    plain = nn.Sequential(nn.ReLU(), nn.Linear(4, 3, dtype=np.float64), seed=7)
    for axis in (0, 1, -1):
        wrapped = nn.Sequential(nn.ReLU(), nn.WeightNorm(nn.Linear(4, 3, dtype=np.float64), axis=axis), seed=7)
        np.testing.assert_allclose(wrapped(x), plain(x), rtol=1e-14, atol=1e-15)
        params = wrapped.parameters()
        assert list(params) == list(wrapped.gradients()) == ["1.weight_g", "1.weight_v", "1.bias"]
        assert_same_bits(params["1.weight_v"], plain.parameters()["1.weight"])
        lengths = np.linalg.norm(params["1.weight_v"], axis=1 if axis == 0 else 0)
        np.testing.assert_allclose(params["1.weight_g"], lengths, rtol=1e-14)


def test_weight_norm_trains_length_and_direction_apart() -> None:
    layer = nn.WeightNorm(nn.Linear(4, 3, rng=0, dtype=np.float64))
    params, x = layer.parameters(), np.random.default_rng(0).normal(size=(5, 4))
    y = layer(x).copy()
    params["weight_v"] *= 5.0
    np.testing.assert_allclose(layer(x), y, rtol=1e-13)
    params["weight_g"] *= 2.0
    np.testing.assert_allclose(layer(x), 2 * y, rtol=1e-13)
    kept = params["weight_v"].copy()
    nn.Sequential(nn.Linear(4, 4, dtype=np.float64), layer, seed=3).parameters()
    assert_same_bits(layer.parameters()["weight_v"], kept)


def test_a_step_allocates_nothing_of_the_arrays_size() -> None:
    norms = nn.BatchNorm(256), nn.LayerNorm(256), nn.RMSNorm(256), nn.GroupNorm(8, 256)
    net = nn.Sequential(nn.WeightNorm(nn.Linear(512, 256)), *norms, nn.Linear(256, 10))
    batch = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32), np.zeros(512, np.int64)
    net.loss_and_grads(batch)
    tracemalloc.start()
    net.loss_and_grads(batch)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 192 * 1024, "the statistics of 512 times 8 groups take 64 KiB, an array of activations 512"


X = np.ones((2, 3), np.float32)
REFUSED = [
    (lambda: nn.LayerNorm(0), ValueError, r"LayerNorm: normalized_shape must be at least 1, got 0"),
    (lambda: nn.RMSNorm(()), ValueError, r"RMSNorm: normalized_shape must have an axis, got \(\)"),
    (lambda: nn.LayerNorm(2.5), TypeError, r"LayerNorm: normalized_shape must be an integer, got 2.5"),
    (lambda: nn.LayerNorm(3, eps=-1), ValueError, r"LayerNorm: eps must be finite and at least 0, got -1"),
    (lambda: nn.LayerNorm(3, affine=1), TypeError, r"LayerNorm: affine must be True or False, got 1"),
    (lambda: nn.RMSNorm(3, dtype="f2"), TypeError, r"RMSNorm: dtype must be float32 or float64, got float16"),
    (lambda: nn.GroupNorm(2, 3), ValueError, r"GroupNorm: groups must divide the 3 channels, got 2"),
    (lambda: nn.GroupNorm(0, 3), ValueError, r"GroupNorm: groups must be at least 1, got 0"),
    (lambda: nn.InstanceNorm(0), ValueError, r"InstanceNorm: channels must be at least 1, got 0"),
    (lambda: nn.BatchNorm(0), ValueError, r"BatchNorm: features must be at least 1, got 0"),
    (lambda: nn.BatchNorm(3, momentum=2), ValueError, r"BatchNorm: momentum must be in \[0, 1\], got 2"),
    (lambda: nn.BatchNorm(3, axis=0.5), TypeError, r"BatchNorm: axis must be an integer, got 0.5"),
    (lambda: nn.LayerNorm(4)(X), ValueError, r"LayerNorm: input must have shape \(..., 4\), got \(2, 3\)"),
    (lambda: nn.LayerNorm((1, 2, 3))(X), ValueError, r"input must have shape \(..., 1, 2, 3\), got \(2, 3\)"),
    (lambda: nn.GroupNorm(2, 4)(X), ValueError, r"input must have shape \(samples, 4, ...\), got \(2, 3\)"),
    (lambda: nn.InstanceNorm(3)(X[0]), ValueError, r"input must have shape \(samples, 3, ...\), got \(3,\)"),
    (lambda: nn.BatchNorm(4)(X), ValueError, r"must have samples and 4 channels along axis 1, got \(2, 3\)"),
    (lambda: nn.BatchNorm(3, axis=2)(X), ValueError, r"3 channels along axis 2, got \(2, 3\)"),
    (lambda: nn.BatchNorm(3, axis=-1)(X[0]), ValueError, r"3 channels along axis -1, got \(3,\)"),
    (lambda: nn.LayerNorm(3)(X.astype("f8")), TypeError, r"float16 with float32 parameters, got float64"),
    (lambda: nn.LayerNorm(3, dtype="f8")(X), TypeError, r"input must be float64 with float64 .* got float32"),
    (lambda: nn.BatchNorm(3)(X.tolist()), TypeError, r"BatchNorm: input must be a NumPy array"),
    (lambda: nn.WeightNorm(nn.ReLU()), ValueError, r"WeightNorm: layer must have parameters, got ReLU"),
    (lambda: nn.WeightNorm(nn.Linear(2, 3), "w"), ValueError, r"name must be one of weight, bias, got 'w'"),
    (lambda: nn.WeightNorm(nn.Linear(2, 3), axis=2), ValueError, r"WeightNorm: axis must be at most 1, got 2"),
    (lambda: nn.WeightNorm(X), TypeError, r"WeightNorm: layer must be a Module, got ndarray"),
]


@pytest.mark.parametrize(("build", "error", "message"), REFUSED)
def test_bad_arguments_are_named(build, error, message) -> None:
    with pytest.raises(error, match=message):
        build()


def test_a_gradient_that_does_not_fit_is_named_and_nothing_is_written() -> None:
    layer = nn.BatchNorm(3)
    layer(X, training=True)
    layer.grads["weight"][...] = 7.0
    for input_grad in (True, False):
        with pytest.raises(
            ValueError, match=r"batch_norm_backward: dy must have the shape of x, \(2, 3\), got \(2, 4\)"
        ):
            layer.backward(np.ones((2, 4), np.float32), input_grad)
    assert (layer.grads["weight"] == 7.0).all()


def test_batch_norm_leaves_out_the_pass_for_an_input_gradient_that_nobody_wants() -> None:
    layer, (x, dy) = nn.BatchNorm(6), data(np.float32)
    layer(x, training=True)
    dx = layer.backward(dy)
    assert dx is not None
    want = {name: grad.copy() for name, grad in layer.gradients().items()}
    dx.fill(np.nan)
    assert layer.backward(dy, input_grad=False) is None
    assert np.isnan(dx).all()
    for name, grad in layer.gradients().items():
        assert_same_bits(grad, want[name])


def test_a_trainer_takes_a_batch_norm_without_running_statistics() -> None:
    x, y = np.random.default_rng(0).normal(size=(10, 6)).astype(np.float32), np.zeros(10, np.int64)
    net = nn.Sequential(nn.BatchNorm(6, track_running_stats=False), nn.Linear(6, 2))
    trainer = ss.Trainer(net, optimizer=ss.optim.SGD(net.parameters(), lr=0.1))
    assert len(trainer.fit((x, y), (x, y), batch_size=5, progress=False)) == 1


def test_a_trainer_with_norms_learns() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(200, 6)) * 50 + 300).astype(np.float32)
    y = (x[:, 0] > x[:, 1]).astype(np.int64)
    net = nn.Sequential(nn.BatchNorm(6), nn.WeightNorm(nn.Linear(6, 16)), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 2))
    trainer = ss.Trainer(net, optimizer=ss.optim.Adam(net.parameters(), lr=1e-2))
    trainer.fit((x, y), epochs=20, batch_size=20, progress=False)
    assert trainer.evaluate((x, y))["accuracy"] > 0.9
    assert net.buffers()["0.num_batches_tracked"] == 200
