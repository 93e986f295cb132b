"""Every layer, loss and norm against differences, at odd shapes: a new one is one row here."""

import inspect
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from stepsmith import nn, norm

Array = np.ndarray[Any, Any]
F8 = np.dtype(np.float64)


@dataclass
class Row:
    """A layer, how it is built, the shapes of its inputs, whether it trains, and below what its inputs are integers."""

    layer: type[nn.Module]
    build: Callable[[], nn.Module]
    shapes: list[tuple[int, ...]] = field(default_factory=lambda: [(1, 7), (3, 7), (17, 7)])
    training: tuple[bool, ...] = (True, False)
    count: int | None = None

    def input(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.normal(size=shape) if self.count is None else rng.integers(0, self.count, shape)


FLAT = [(2, 5), (3, 5), (17, 5)]
DEEP = [(1, 6, 5), (3, 6, 1), (2, 6, 3, 7)]
PLANES = [(1, 4, 5, 7), (2, 4, 3, 6)]
ANY = [(1,), (3, 7), (2, 3, 5)]
HEADED = [(1, 1, 6), (3, 5, 6)]
SEQUENCES = [(1, 1, 5), (3, 7, 5), (2, 2, 5)]
WEIGHT = ss.quant.quantize(np.sin(np.arange(35.0)).reshape(5, 7), ss.quant.Affine(bits=4))

# Their gradients go straight through steps, where differences are 0: see test_qat.py.
STRAIGHT = {nn.FakeQuantize, nn.QATLinear}
# Its gradients are rounded to 16 bits: see test_mixed.py.
ROUNDED = {nn.MixedPrecision}

LAYERS = [
    Row(nn.Linear, lambda: nn.Linear(7, 5, dtype=F8)),
    Row(nn.Linear, lambda: nn.Linear(7, 1, bias=False, dtype=F8)),
    Row(nn.Linear, lambda: nn.Linear(7, 5, dtype=F8), [(1, 1, 7), (3, 2, 7), (2, 3, 2, 7)], (True,)),
    *(Row(layer, layer, ANY) for layer in (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh)),
    *(Row(layer, layer, ANY) for layer in (nn.Hardtanh, nn.Softsign, nn.Softplus)),
    Row(nn.GELU, lambda: nn.GELU("tanh"), ANY),
    Row(nn.Softplus, lambda: nn.Softplus(2.0, 1.0), ANY),
    Row(nn.Softmax, nn.Softmax, [(1, 1), (3, 7), (2, 3, 5)]),
    Row(nn.Softmax, lambda: nn.Softmax(axis=0), [(7, 3), (5, 2, 3)]),
    Row(nn.LogSoftmax, nn.LogSoftmax, [(1, 1), (3, 7), (2, 3, 5)]),
    Row(nn.Dropout, lambda: nn.Dropout(0.3), [(3, 7), (2, 3, 5)]),
    Row(nn.LayerNorm, lambda: nn.LayerNorm(7, dtype=F8)),
    Row(nn.LayerNorm, lambda: nn.LayerNorm((3, 5), eps=0.1, bias=False, dtype=F8), [(3, 5), (2, 3, 5), (1, 2, 3, 5)]),
    Row(nn.LayerNorm, lambda: nn.LayerNorm((3, 5), affine=False, dtype=F8), [(2, 3, 5)]),
    Row(nn.RMSNorm, lambda: nn.RMSNorm(7, dtype=F8)),
    Row(nn.RMSNorm, lambda: nn.RMSNorm((3, 5), affine=False, dtype=F8), [(2, 3, 5)]),
    Row(nn.BatchNorm, lambda: nn.BatchNorm(5, dtype=F8), [*FLAT, (3, 5, 2), (2, 5, 3, 3)]),
    Row(nn.BatchNorm, lambda: nn.BatchNorm(5, axis=-1, affine=False, dtype=F8), [*FLAT, (2, 3, 5)]),
    Row(nn.BatchNorm, lambda: nn.BatchNorm(5, momentum=None, axis=2, dtype=F8), [(2, 3, 5), (1, 2, 5, 3)]),
    Row(nn.BatchNorm, lambda: nn.BatchNorm(5, track_running_stats=False, dtype=F8), FLAT),
    Row(nn.GroupNorm, lambda: nn.GroupNorm(2, 6, dtype=F8), [(3, 6), *DEEP]),
    Row(nn.GroupNorm, lambda: nn.GroupNorm(1, 6, affine=False, dtype=F8), DEEP),
    Row(nn.InstanceNorm, lambda: nn.InstanceNorm(6, affine=True, dtype=F8), DEEP),
    Row(nn.InstanceNorm, lambda: nn.InstanceNorm(6, dtype=F8), DEEP),
    Row(nn.WeightNorm, lambda: nn.WeightNorm(nn.Linear(7, 5, dtype=F8))),
    Row(nn.WeightNorm, lambda: nn.WeightNorm(nn.Linear(7, 3, bias=False, dtype=F8), axis=1)),
    Row(nn.QuantizedLinear, lambda: nn.QuantizedLinear(WEIGHT, np.linspace(-1, 1, 5), dtype=F8), [(3, 7), (2, 3, 7)]),
    Row(nn.Embedding, lambda: nn.Embedding(4, 3, dtype=F8), [(1,), (3, 7), (2, 3, 5)], count=4),
    Row(nn.PositionalEmbedding, lambda: nn.PositionalEmbedding(7, 5, dtype=F8), SEQUENCES),
    Row(nn.SequenceDropout, lambda: nn.SequenceDropout(0.3), [(3, 7, 5), (2, 3, 5, 2)]),
    *(
        row
        for layer in (nn.RNN, nn.LSTM, nn.GRU)
        for row in (
            Row(layer, partial(layer, 5, 3, dtype=F8), SEQUENCES, (True,)),
            Row(layer, partial(layer, 5, 1, bias=False, return_sequences=False, dtype=F8), SEQUENCES, (False,)),
        )
    ),
    Row(nn.RNN, lambda: nn.RNN(5, 3, "relu", dtype=F8), SEQUENCES, (True,)),
    *(
        Row(nn.MultiHeadAttention, partial(nn.MultiHeadAttention, 6, *settings, dtype=F8), shapes, (True,))
        for settings, shapes in (
            ((2,), [(1, 1, 6), (3, 5, 6)]),
            ((3, True, False), [(2, 7, 6)]),
            ((1, True), [(2, 3, 6)]),
        )
    ),
    Row(nn.Residual, lambda: nn.Residual(nn.Linear(7, 7, dtype=F8), nn.Tanh(), nn.Residual(nn.Linear(7, 7, dtype=F8)))),
    Row(
        nn.Sequential,
        lambda: nn.Sequential(
            nn.Embedding(9, 6, dtype=F8),
            nn.PositionalEmbedding(7, 6, dtype=F8),
            nn.Residual(nn.LayerNorm(6, dtype=F8), nn.MultiHeadAttention(6, 2, causal=True, dtype=F8), nn.Dropout(0.2)),
            nn.LayerNorm(6, dtype=F8),
            nn.Linear(6, 3, dtype=F8),
        ),
        [(1, 7), (3, 5)],
        (True,),
        count=9,
    ),
    Row(
        nn.Sequential,
        lambda: nn.Sequential(
            nn.GRU(5, 4, dtype=F8),
            nn.SequenceDropout(0.2),
            nn.LSTM(4, 3, return_sequences=False, dtype=F8),
            nn.Linear(3, 2, dtype=F8),
        ),
        SEQUENCES,
        (True,),
    ),
    Row(nn.Conv2d, lambda: nn.Conv2d(4, 6, 3, padding=1, dtype=F8), PLANES),
    Row(nn.Conv2d, lambda: nn.Conv2d(4, 6, (2, 3), (2, 1), (0, 1), (1, 2), groups=2, bias=False, dtype=F8), PLANES),
    Row(nn.MaxPool2d, lambda: nn.MaxPool2d(2), PLANES),
    Row(nn.MaxPool2d, lambda: nn.MaxPool2d((3, 2), (1, 3), (1, 0), (2, 1)), PLANES),
    Row(nn.AvgPool2d, lambda: nn.AvgPool2d(2), PLANES),
    Row(nn.AvgPool2d, lambda: nn.AvgPool2d((3, 2), (1, 3), (1, 0), count_include_pad=False), PLANES),
    Row(nn.Flatten, nn.Flatten, [(1, 7), (2, 3, 5), (3, 1, 4, 2)]),
    Row(nn.Flatten, lambda: nn.Flatten(2), [(2, 3, 5), (3, 2, 4, 2)]),
    Row(nn.QuantizedLinear, lambda: nn.QuantizedLinear(WEIGHT, np.linspace(-1, 1, 5), dtype=F8)),
    Row(
        nn.Sequential,
        lambda: nn.Sequential(
            nn.BatchNorm(7, dtype=F8),
            nn.WeightNorm(nn.Linear(7, 6, dtype=F8)),
            nn.Sequential(nn.Tanh(), nn.Dropout(0.2), nn.LayerNorm(6, dtype=F8)),
            nn.GroupNorm(3, 6, dtype=F8),
            nn.Linear(6, 3, dtype=F8),
        ),
        [(2, 7), (17, 7)],
    ),
]


def checked(row: Row, shape: tuple[int, ...], training: bool, order: str = "C") -> ss.GradcheckReport:
    """Parameters, buffers and the gradient of the output are random; that of an input of floats is checked as well."""
    layer, rng = row.build(), np.random.default_rng(sum(shape))
    x = np.asarray(row.input(rng, shape), order=order)
    floats = {"x": x} if x.dtype == F8 else {}
    for param in layer.parameters().values():
        param[...] = rng.normal(size=param.shape)
    for name, buffer in layer.buffers().items():
        if name.endswith(("running_mean", "running_var")):
            buffer[...] = rng.uniform(0.5, 2.0, buffer.shape)
    dy = rng.normal(size=layer(x, training).shape)

    def fn(inputs: dict[str, Array]) -> tuple[float, dict[str, Array]]:
        y = layer(inputs.get("x", x), training)
        value = float(np.sum(y * dy))
        dx = layer.backward(dy)
        assert (dx is not None) == bool(floats)
        return value, {**({} if dx is None else {"x": dx}), **layer.gradients()}

    return ss.gradcheck(fn, {**floats, **layer.parameters()})


def concrete(base: type) -> set[type]:
    classes = filter(inspect.isclass, (getattr(nn, name) for name in nn.__all__))
    return {item for item in classes if issubclass(item, base) and not inspect.isabstract(item)}


def test_every_layer_and_loss_is_in_its_table() -> None:
    assert {row.layer for row in LAYERS} == concrete(nn.Module) - STRAIGHT - ROUNDED
    assert {loss for loss, _ in LOSSES} == concrete(nn.Loss)
    assert all(isinstance(row.build(), row.layer) for row in LAYERS)


@pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.layer.__name__)
def test_layers(row: Row) -> None:
    for shape in row.shapes:
        for training in row.training:
            report = checked(row, shape, training)
            params = sum(param.size for param in row.build().parameters().values())
            floats = np.prod(shape) if row.count is None else 0
            assert (report.compared, report.unchecked) == (floats + params, ())
    assert checked(row, row.shapes[-1], row.training[0], order="F").compared


def labels(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.integers(0, shape[1], shape[0])


def numbers(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.normal(size=shape)


def parts(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.random(shape)


def labels_and_logits(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Array, Array]:
    return labels(rng, shape), numbers(rng, shape)


# What makes a target for outputs of a shape.
LOSSES: list[tuple[type[nn.Loss], Callable[..., Any]]] = [
    (nn.BCEWithLogits, parts),
    (nn.CrossEntropy, labels),
    (nn.Distillation, labels_and_logits),
    (nn.Huber, numbers),
    (nn.MeanAbsoluteError, numbers),
    (nn.MeanSquaredError, numbers),
    (nn.MultiMargin, labels),
    (nn.SmoothL1, numbers),
]


@pytest.mark.parametrize(("loss", "target"), LOSSES, ids=lambda item: item.__name__)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(1, 2), (3, 7), (17, 5)], ids=str)
def test_losses(loss: type[nn.Loss], target: Callable[..., Any], shape: tuple[int, int], weighted: bool) -> None:
    rng = np.random.default_rng(0)
    z, wanted, function = rng.normal(size=shape), target(rng, shape), loss()
    weight = rng.random(shape[0]) if weighted else None

    def fn(inputs: dict[str, Array]) -> tuple[float, dict[str, Array]]:
        value, dz = function(inputs["z"], wanted, weight)
        return value, {"z": dz}

    assert ss.gradcheck(fn, {"z": z}).compared == z.size


RUNNING = {"running_mean": np.linspace(-1, 1, 5), "running_var": np.linspace(0.5, 2, 5), "training": False}

# Function, shape of x, shape of its weight and bias, settings.
NORMS: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ("layer_norm", (1, 7), (7,), {}),
    ("layer_norm", (3, 1), (1,), {}),
    ("layer_norm", (2, 3, 5), (3, 5), {"eps": 0.1}),
    ("rms_norm", (3, 7), (7,), {}),
    ("rms_norm", (2, 3, 5), (3, 5), {"eps": 0.1}),
    ("add_layer_norm", (3, 7), (7,), {}),
    ("add_layer_norm", (2, 3, 5), (3, 5), {}),
    ("add_rms_norm", (3, 7), (7,), {}),
    ("add_rms_norm", (2, 3, 5), (3, 5), {}),
    ("group_norm", (3, 6), (6,), {"groups": 2}),
    ("group_norm", (2, 6, 3, 1), (6,), {"groups": 3}),
    ("instance_norm", (2, 3, 5), (3,), {}),
    ("batch_norm", (3, 5), (5,), {}),
    ("batch_norm", (1, 5, 3), (5,), {"eps": 0.1}),
    ("batch_norm", (2, 3, 5), (5,), {"axis": -1}),
    ("batch_norm", (3, 5), (5,), RUNNING),
    ("batch_norm", (2, 3, 5), (5,), RUNNING | {"axis": -1}),
]


def run_norm(name: str, p: dict[str, Array], settings: dict[str, Any], dy: Array) -> tuple[float, dict[str, Array]]:
    *outputs, saved = getattr(norm, name)(**p, **settings)
    residual = [0.5 - dy] if name.startswith("add_") else []
    grads = getattr(norm, f"{name}_backward")(dy, saved, *residual)
    value = sum(float(np.sum(y * weights)) for y, weights in zip(outputs, [dy, *residual], strict=True))
    names = ["x", *(key for key in ("weight", "bias") if key in p)]
    found = {key: grad for key, grad in zip(("x", "weight", "bias"), grads) if key in names}
    return value, found | ({"residual": grads[0]} if residual else {})


@pytest.mark.parametrize("params", [(), ("weight",), ("weight", "bias"), ("bias",)], ids=" ".join)
@pytest.mark.parametrize(("name", "shape", "inner", "settings"), NORMS)
def test_norms(
    name: str, shape: tuple[int, ...], inner: tuple[int, ...], settings: dict[str, Any], params: tuple[str, ...]
) -> None:
    if name.endswith("rms_norm"):
        params = tuple(key for key in params if key == "weight")
    rng = np.random.default_rng(1)
    p = {"x": rng.normal(size=shape), **{key: rng.normal(size=inner) for key in params}}
    if name.startswith("add_"):
        p["residual"] = np.asarray(rng.normal(size=shape), order="F")
    dy = rng.normal(size=shape)
    report = ss.gradcheck(lambda inputs: run_norm(name, inputs, settings, dy), p)
    assert (report.compared, report.unchecked) == (sum(array.size for array in p.values()), ())


@pytest.mark.parametrize(("shape", "axis"), [((1, 1), 0), ((3, 5), 0), ((3, 5), 1), ((2, 3, 4), -1), ((5,), 0)])
def test_weight_norm(shape: tuple[int, ...], axis: int) -> None:
    rng = np.random.default_rng(2)
    dw = rng.normal(size=shape)

    def fn(p: dict[str, Array]) -> tuple[float, dict[str, Array]]:
        w, saved = norm.weight_norm(p["v"], p["g"], axis)
        dv, dg = norm.weight_norm_backward(dw, saved)
        return float(np.sum(w * dw)), {"v": dv, "g": dg}

    inputs = {"v": rng.normal(size=shape), "g": rng.normal(size=shape[axis])}
    assert ss.gradcheck(fn, inputs).compared == dw.size + shape[axis]


def test_every_backward_of_norm_is_checked() -> None:
    backward = {name.removesuffix("_backward") for name in norm.__all__ if name.endswith("_backward")}
    assert {row[0] for row in NORMS} | {"weight_norm"} == backward


def copies(arrays: dict[str, Array]) -> dict[str, Array]:
    return {name: array.copy() for name, array in arrays.items()}


@pytest.mark.parametrize("row", LAYERS, ids=lambda row: row.layer.__name__)
def test_a_deep_copy_is_a_layer_of_its_own(row: Row) -> None:
    """Same output at first; its parameters move it alone, and its gradients are its own."""
    layer, rng = row.build(), np.random.default_rng(0)
    x = row.input(rng, row.shapes[-1])
    y = layer(x, row.training[0]).copy()
    grads, buffers = copies(layer.gradients()), copies(layer.buffers())
    twin = deepcopy(layer)
    for name, param in twin.parameters().items():
        param[...] += rng.normal(size=param.shape)
        layer.parameters()[name].flags.writeable = False
    moved = twin(x, row.training[0])
    assert (moved == y).all() != bool(grads)
    twin.backward(np.ones_like(moved))
    for kept, now in ((grads, layer.gradients()), (buffers, layer.buffers())):
        assert all((now[name] == array).all() for name, array in kept.items())
