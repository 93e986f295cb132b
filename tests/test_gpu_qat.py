"""Layers with quantized weights and layers that train for them, on a GPU: near the CPU's, and moved with all bits."""

from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from helpers import Array
from stepsmith.nn import Linear, QuantizedLinear, Sequential
from stepsmith.nn.fake_quantize import FakeQuantize
from stepsmith.nn.quantized import QATLinear
from stepsmith.quant import GGML, MX, NF4, Affine, Float8


def draw(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def near(got: Any, want: Array) -> None:
    assert np.abs(got.get() - want).max() <= 1e-6 * max(np.abs(want).max(), 1.0)


@pytest.mark.parametrize("scheme", [Affine(bits=4), Affine(bits=4, axis=0), Affine(symmetric=False, axis=-2)], ids=repr)
def test_a_layer_that_learns_its_scale(gpu: Any, scheme: Affine) -> None:
    x, dy = draw(6, 40), draw(6, 40)
    layers = [FakeQuantize(scheme, None if scheme.axis is None else 6) for _ in range(2)]
    layers[1].to("cuda")
    for _ in range(2):
        y, dx = layers[0].forward(x, True), layers[0].backward(dy)
        got, got_dx = layers[1].forward(gpu.asarray(x), True), layers[1].backward(gpu.asarray(dy))
        assert got.get().tobytes() == y.tobytes()
        assert got_dx.get().tobytes() == dx.tobytes()
        for mine, theirs in zip(layers[1].gradients().values(), layers[0].gradients().values()):
            near(mine, theirs)
    assert layers[1].codes_of(gpu.asarray(x)).to("cpu").codes.tobytes() == layers[0].codes_of(x).codes.tobytes()
    layers[1].load(0.5)
    assert np.unique(layers[1].scale.get()).tolist() == [0.5]


def test_training_to_be_quantized(gpu: Any) -> None:
    models = []
    for _ in range(2):
        model = Sequential(Linear(20, 30, rng=0), ss.nn.ReLU(), Linear(30, 5, rng=1))
        models.append(ss.nn.prepare_qat(model, Affine(bits=4, axis=0), Affine(symmetric=False)))
    models[1].to("cuda")
    x, dy = draw(16, 20), draw(16, 5)
    near(models[1](gpu.asarray(x), True), models[0](x, True))
    models[0].backward(dy)
    models[1].backward(gpu.asarray(dy))
    for name, grad in models[0].gradients().items():
        near(models[1].gradients()[name], grad)
    small = [ss.nn.quantize_model(model) for model in models]
    assert small[1].device == "cuda:0"
    near(small[1](gpu.asarray(x)), small[0](x))


@pytest.mark.parametrize(
    "scheme", [NF4(), Affine(axis=0), GGML("q8_0"), MX("mxfp8_e4m3"), Float8("e5m2", 64)], ids=repr
)
def test_quantized_layers_move_with_all_bits_and_compute_the_same(gpu: Any, scheme: Any) -> None:
    model = Sequential(Linear(64, 32, rng=0), ss.nn.ReLU(), Linear(32, 3, rng=1))
    seen = ss.nn.calibrate(model, [draw(9, 64)])
    small = ss.nn.quantize_model(model, scheme, seen)
    before = {name: (array.dtype, array.tobytes()) for name, array in small.buffers().items()}
    for rows in (4, 20):
        x, dy = draw(rows, 64), draw(rows, 3)
        y, dx = small(x).copy(), small.backward(dy).copy()
        small.to("cuda")
        near(small(gpu.asarray(x)), y)
        near(small.backward(gpu.asarray(dy)), dx)
        with pytest.raises(TypeError, match="input must be an array of CuPy as the weights are, got one of NumPy"):
            small(x)
        small.to("cpu")
    assert {name: (array.dtype, array.tobytes()) for name, array in small.buffers().items()} == before
    layer = next(layer for _, layer in small.named_layers() if isinstance(layer, QuantizedLinear))
    assert all(layer.state[f"weight_{name}"] is part for name, part in layer.weight.parts.items())


def test_a_model_is_calibrated_and_quantized_where_it_is(gpu: Any) -> None:
    model = Sequential(Linear(64, 32, rng=0), ss.nn.ReLU(), Linear(32, 3, rng=1)).to("cuda")
    seen = ss.nn.calibrate(model, [gpu.asarray(draw(9, 64))], ss.quant.HistogramMSE)
    small = ss.nn.quantize_model(model, Affine(bits=4, axis=0), seen)
    assert {type(array) for array in small.buffers().values()} == {gpu.ndarray}
    y = small(gpu.asarray(draw(4, 64)))
    assert np.isfinite(y.get()).all()
    with pytest.raises(TypeError, match="bias must be an array of CuPy"):
        QuantizedLinear(ss.quant.quantize(gpu.ones((3, 64), np.float32), NF4()), np.zeros(3, np.float32))


def test_wrappers_keep_their_layers_arrays(gpu: Any) -> None:
    layer = QATLinear(Linear(8, 4, rng=0), Affine(bits=4, axis=0)).to("cuda")
    assert layer.params["weight"] is layer.layer.params["weight"]
    assert layer.params["weight_scale"] is layer.weight_quantizer.scale
    assert isinstance(layer.params["weight"], gpu.ndarray)
