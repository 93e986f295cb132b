"""Layers and losses on a device against the CPU: every row of the table of gradients, there and back."""

import copy
import gc
import types
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from helpers import assert_same_bits
from stepsmith import nn
from stepsmith._backend import is_on_gpu, moved
from stepsmith.nn.buffer import Buffer
from test_gradcheck import F8, LAYERS, LOSSES, Row

Array = Any
F4 = np.dtype(np.float32)

# Without products and sums of rows, whose order is the GPU's own: outputs and gradients have the CPU's bits.
ELEMENTWISE = {
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Softsign, nn.Softplus),
    *(nn.Softmax, nn.LogSoftmax, nn.Dropout, nn.SequenceDropout, nn.Embedding, nn.MaxPool2d, nn.AvgPool2d, nn.Flatten),
}
TOLERANCE = {F8: 1e-12, F4: 1e-6, np.dtype(ml_dtypes.bfloat16): 1e-2}

# What the table has in float64 alone, once more in float32.
SINGLE = [
    Row(nn.Linear, lambda: nn.Linear(7, 5), [(3, 2, 7)]),
    Row(nn.Embedding, lambda: nn.Embedding(4, 3, padding_index=1), [(3, 7)], count=4),
    Row(nn.PositionalEmbedding, lambda: nn.PositionalEmbedding(7, 5), [(3, 4, 5)]),
    Row(nn.RNN, lambda: nn.RNN(5, 3, "relu"), [(3, 4, 5)]),
    Row(nn.LSTM, lambda: nn.LSTM(5, 3), [(3, 4, 5)]),
    Row(nn.GRU, lambda: nn.GRU(5, 3, return_sequences=False), [(3, 4, 5)]),
    Row(nn.MultiHeadAttention, lambda: nn.MultiHeadAttention(6, 2, causal=True), [(2, 5, 6)]),
    Row(nn.Residual, lambda: nn.Residual(nn.Linear(7, 7), nn.Tanh()), [(3, 7)]),
    Row(nn.Conv2d, lambda: nn.Conv2d(4, 6, 3, padding=1), [(2, 4, 5, 7)]),
    Row(nn.LayerNorm, lambda: nn.LayerNorm(7), [(5, 7)]),
    Row(nn.BatchNorm, lambda: nn.BatchNorm(5), [(6, 5)]),
    Row(nn.WeightNorm, lambda: nn.WeightNorm(nn.Linear(7, 5)), [(3, 7)]),
]


# Those that the table of gradients leaves out.
OTHERS = [
    Row(nn.FakeQuantize, lambda: nn.FakeQuantize(ss.quant.Affine(bits=4), dtype=F8), [(3, 7)], (True,)),
    Row(
        nn.QATLinear,
        lambda: nn.QATLinear(nn.Linear(7, 5, dtype=F8), ss.quant.Affine(bits=4, axis=0), ss.quant.Affine()),
        [(3, 7)],
        (True,),
    ),
    Row(nn.MixedPrecision, lambda: nn.MixedPrecision(nn.Sequential(nn.Linear(7, 5), nn.ReLU())), [(3, 7)]),
]
ALL = [*LAYERS, *OTHERS]


def named(rows: list[Row]) -> list[Any]:
    return [pytest.param(row, id=row.layer.__name__) for row in rows]


def assert_near(got: Array, want: Array, what: str, exact: bool) -> None:
    got = moved(got, "cpu")
    assert (got.shape, got.dtype) == (want.shape, want.dtype), what
    if exact or want.dtype.kind in "iub":
        assert_same_bits(got, want, what)
        return
    got, want, tolerance = got.astype(np.float64), want.astype(np.float64), TOLERANCE[want.dtype]
    scale = float(np.abs(want).max(initial=0.0)) or 1.0
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale, err_msg=what)


def input_of(row: Row, shape: tuple[int, ...]) -> Array:
    x = row.input(np.random.default_rng(sum(shape)), shape)
    is_single = row in SINGLE or row.layer is nn.MixedPrecision
    return x.astype(np.float32) if is_single and x.dtype == np.float64 else x


def passes(layer: nn.Module, x: Array, dy: Array, training: bool) -> dict[str, Array]:
    """Everything that a pass forward and one back leave."""
    found = {"y": layer(x, training).copy()}
    dx = layer.backward(dy)
    found |= {} if dx is None else {"dx": dx.copy()}
    return found | layer.gradients() | layer.buffers()


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("row", [*named(ALL), *named(SINGLE)])
def test_layers_equal_the_cpu(row: Row) -> None:
    for shape in row.shapes:
        for training in row.training:
            x, layer, twin = input_of(row, shape), row.build(), row.build().to("cuda")
            y = layer(x, training)
            dy = np.random.default_rng(1).normal(size=y.shape).astype(y.dtype)
            want = passes(layer, x, dy, training)
            # Once more, because running statistics have moved.
            twin(moved(x, "cuda"), training)
            got = passes(twin, moved(x, "cuda"), moved(dy, "cuda"), training)
            assert got.keys() == want.keys()
            for name, array in want.items():
                assert_near(got[name], array, f"{name} of {shape}", row.layer in ELEMENTWISE)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("row", named([row for row in ALL if row.build().parameters()]))
def test_parameters_are_drawn_with_the_bits_of_the_cpu(row: Row) -> None:
    """Before the layer moves and after it, which is drawn at its first use then."""
    want = row.build().parameters()
    early, late = row.build(), row.build().to("cuda")
    early.parameters()
    early.to("cuda")
    for layer in (early, late):
        assert layer.device == "cuda:0"
        for name, param in layer.parameters().items():
            assert_same_bits(param.get(), want[name], name)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("row", named(ALL))
def test_there_and_back_keeps_bits_and_what_belongs_together(row: Row) -> None:
    layer, x = row.build(), input_of(row, row.shapes[-1])
    y = layer(x, row.training[0])
    dy = np.random.default_rng(1).normal(size=y.shape).astype(y.dtype)
    layer.backward(dy)
    want = {name: array.copy() for name, array in {**layer.parameters(), **layer.buffers()}.items()}
    twin = copy.deepcopy(layer)
    assert layer.to("cuda").to("cpu") is layer
    assert layer.device == "cpu"
    for name, array in {**layer.parameters(), **layer.buffers()}.items():
        assert_same_bits(array, want[name], name)
    # What a step changes reaches the passes, and what they write is what the optimizer reads.
    for model in (layer, twin):
        for param in model.parameters().values():
            param[...] = param + 0.125
    assert_same_all(passes(layer, x, dy, row.training[0]), passes(twin, x, dy, row.training[0]))


def assert_same_all(got: dict[str, Array], want: dict[str, Array]) -> None:
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert_same_bits(moved(got[name], "cpu"), moved(array, "cpu"), name)


def reached(root: Any) -> list[Any]:
    """Everything that an object keeps, by the garbage collector's own knowledge."""
    found: dict[int, Any] = {}
    waiting = [vars(root)]
    while waiting:
        thing = waiting.pop()
        skipped = isinstance(thing, type | types.ModuleType | types.FunctionType | types.BuiltinFunctionType)
        if id(thing) not in found and not skipped:
            found[id(thing)] = thing
            waiting += [] if is_on_gpu(thing) else gc.get_referents(thing)
            waiting += [thing._store, thing._view] if isinstance(thing, Buffer) else []
    return list(found.values())


@pytest.mark.parametrize("row", named(ALL))
def test_nothing_stays_behind(row: Row, gpu: Any) -> None:
    """No array of NumPy is left in a layer that moved, wherever it keeps it; nor one of the device afterwards."""
    layer, x = row.build(), input_of(row, row.shapes[-1])
    y = layer(x, row.training[0])
    layer.backward(np.ones_like(y))
    layer.to("cuda")
    assert [thing for thing in reached(layer) if isinstance(thing, np.ndarray) and thing.size] == []
    layer.to("cpu")
    assert [thing for thing in reached(layer) if isinstance(thing, gpu.ndarray)] == []


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("row", named(ALL))
def test_a_deep_copy_on_the_device_is_a_layer_of_its_own(row: Row) -> None:
    layer, x = row.build().to("cuda"), moved(input_of(row, row.shapes[-1]), "cuda")
    y = layer(x, row.training[0]).copy()
    kept = {name: array.get() for name, array in layer.parameters().items()}
    twin = copy.deepcopy(layer)
    for param in twin.parameters().values():
        param[...] = param + 1.0
    assert (twin(x, row.training[0]).get() == y.get()).all() != bool(kept)
    for name, array in layer.parameters().items():
        assert_same_bits(array.get(), kept[name], name)


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("row", named(ALL))
def test_kinds_that_differ_are_named(row: Row) -> None:
    x = input_of(row, row.shapes[-1])
    layer = row.build().to("cuda")
    if layer.parameters() or layer.buffers():
        with pytest.raises(TypeError, match=r"(input|x|dy) must be an array of CuPy as .* are, got one of NumPy"):
            layer(x, True)
    y = layer(moved(x, "cuda"), True)
    if not isinstance(layer, nn.Flatten):
        with pytest.raises(TypeError, match=r"dy must be an array of CuPy as .*, got one of NumPy"):
            layer.backward(np.ones(y.shape, y.dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_initializers_write_to_the_device_what_they_draw_on_the_cpu(gpu: Any, dtype: Any) -> None:
    for draw in (ss.init.uniform, ss.init.xavier_normal, ss.init.orthogonal, ss.init.trunc_normal):
        want = draw((5, 7), np.random.default_rng(0), dtype=dtype)
        wide = gpu.zeros((5, 14), dtype)
        draw((5, 7), np.random.default_rng(0), out=wide[:, ::2])
        assert_same_bits(wide.get()[:, ::2].copy(), want)
        assert (wide.get()[:, 1::2] == 0).all()
    # Rounded once: by way of float32 it would be a tie, and fall.
    near_a_tie = 1 + 2.0**-8 + 2.0**-30
    got = ss.init.constant((3,), val=near_a_tie, out=gpu.zeros(3, dtype)).get()
    assert_same_bits(got, ss.init.constant((3,), val=near_a_tie, dtype=dtype))


def test_gradients_are_checked_on_the_cpu_alone(gpu: Any) -> None:
    x = np.ones(3)
    with pytest.raises(TypeError, match=r"gradcheck: inputs\['x'\] must be a NumPy array.*, got one of CuPy$"):
        ss.gradcheck(lambda p: (0.0, p), {"x": gpu.ones(3)})
    with pytest.raises(TypeError, match=r"gradcheck: gradient of 'x' must be a NumPy array.*, got one of CuPy$"):
        ss.gradcheck(lambda _: (0.0, {"x": gpu.ones(3)}), {"x": x})


# Losses.


def target_of(maker: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    target = maker(np.random.default_rng(3), shape)
    parts = target if isinstance(target, tuple) else (target,)
    own = tuple(part.astype(dtype) if part.dtype.kind == "f" else part for part in parts)
    return own if isinstance(target, tuple) else own[0]


def there(target: Any) -> Any:
    return tuple(moved(part, "cuda") for part in target) if isinstance(target, tuple) else moved(target, "cuda")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["f32", "f64"])
@pytest.mark.parametrize(("loss", "maker"), LOSSES, ids=lambda item: item.__name__)
def test_losses_equal_the_cpu(loss: type[nn.Loss], maker: Any, dtype: Any, weighted: bool) -> None:
    on_cpu, on_gpu = loss(), loss()
    for shape in ((1, 2), (17, 5), (301, 9)):
        rng = np.random.default_rng(0)
        z, target = rng.normal(size=shape).astype(dtype), target_of(maker, shape, dtype)
        w = rng.random(shape[0]) if weighted else None
        own_w = None if w is None else moved(w, "cuda")
        want, got = on_cpu(z, target, w), on_gpu(moved(z, "cuda"), there(target), own_w)
        assert isinstance(got[0], float)
        assert got[0] == pytest.approx(want[0], rel=1e-6 if dtype == np.float32 else 1e-12)
        assert_near(got[1], want[1], "gradient", exact=False)
        sums, own_sums = on_cpu.sums(z, target, w), on_gpu.sums(moved(z, "cuda"), there(target), own_w)
        assert own_sums.keys() == sums.keys()
        for name, pair in sums.items():
            assert own_sums[name] == pytest.approx(pair, rel=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda w: nn.BCEWithLogits(np.linspace(0.5, 2, 4, dtype=w)),
        lambda w: nn.CrossEntropy(np.linspace(0.5, 2, 4, dtype=w), label_smoothing=0.1, ignore_index=2),
    ],
    ids=["bce", "cross_entropy"],
)
def test_what_a_loss_keeps_moves_with_it(make: Any, gpu: Any) -> None:
    rng, on_cpu, on_gpu = np.random.default_rng(0), make(np.float32), make(np.float32)
    z = rng.normal(size=(5, 4)).astype(np.float32)
    target = rng.random((5, 4)).astype(np.float32) if isinstance(on_cpu, nn.BCEWithLogits) else rng.integers(0, 4, 5)
    with pytest.raises(TypeError, match=r"weight must be an array of CuPy as .* are, got one of NumPy"):
        on_gpu(moved(z, "cuda"), moved(target, "cuda"))
    got = on_gpu.to("cuda")(moved(z, "cuda"), moved(target, "cuda"))
    want = on_cpu(z, target)
    assert got[0] == pytest.approx(want[0], rel=1e-6)
    assert_near(got[1], want[1], "gradient", exact=False)
    assert not [thing for thing in reached(on_gpu.to("cpu")) if isinstance(thing, gpu.ndarray)]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("loss", "maker"), LOSSES, ids=lambda item: item.__name__)
def test_targets_of_another_kind_are_named(loss: type[nn.Loss], maker: Any) -> None:
    z = np.random.default_rng(0).normal(size=(3, 4))
    target = target_of(maker, z.shape, np.float64)
    names = r"(target|labels|teacher_logits)"
    with pytest.raises(TypeError, match=rf"{names} must be an array of CuPy as .*, got one of NumPy"):
        loss()(moved(z, "cuda"), target)
    with pytest.raises(TypeError, match=rf"{names} must be an array of NumPy as .*, got one of CuPy"):
        loss()(z, there(target))
    with pytest.raises(TypeError, match=r"sample_weight must be an array of CuPy as .*, got one of NumPy"):
        loss()(moved(z, "cuda"), there(target), np.ones(3))


# Around layers.


def test_buffers_are_where_they_are_asked_for(gpu: Any) -> None:
    buffer, x = Buffer(), np.ones((3, 4), np.float32)
    on_cpu = buffer.get((3, 4), F4, x)
    on_gpu = buffer.get((3, 4), F4, gpu.ones(2))
    assert (type(on_cpu), type(on_gpu)) == (np.ndarray, gpu.ndarray)
    assert buffer.get((3, 4), F4, on_gpu) is on_gpu
    assert buffer.get((2, 3), F4, on_gpu).data.ptr == on_gpu.data.ptr
    assert type(buffer.get((2, 3), F4, x)) is np.ndarray


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("settings", [{"l1": 0.1, "l2": 0.3}, {"l1": 0.1, "l2": 0.3, "decoupled": True}])
def test_penalties_equal_the_cpu(settings: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    w, g = (rng.normal(size=(5, 7)).astype(np.float32) for _ in range(2))
    w.flat[:3] = [0.0, -0.0, 1e-3]
    found = []
    for device in ("cpu", "cuda"):
        params, grads = {"weight": moved(w.copy(), device)}, {"weight": moved(g.copy(), device)}
        penalty = nn.ElasticNet(**settings)
        value = penalty.before_step(params, grads, 4.0)
        penalty.after_step(params, 0.5)
        found.append((value, moved(params["weight"], "cpu"), moved(grads["weight"], "cpu")))
    assert found[0][0] == found[1][0]
    for want, got in zip(found[0][1:], found[1][1:], strict=True):
        assert_same_bits(got, want)


@pytest.mark.usefixtures("gpu")
def test_limits_of_norms_equal_the_cpu() -> None:
    w = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    own, theirs = w.copy(), moved(w, "cuda")
    for array in (own, theirs):
        nn.MaxNorm(1.5).after_step({"weight": array}, 0.1)
    assert (own != w).any()
    assert_near(theirs, own, "weight", exact=False)


@pytest.mark.usefixtures("gpu")
def test_recurrent_layers_go_on_where_a_pass_has_ended() -> None:
    x = np.random.default_rng(0).normal(size=(3, 6, 5))
    layer = nn.LSTM(5, 4, rng=0, dtype=np.float64)
    whole = layer(x).copy()
    layer.to("cuda")
    own = moved(x, "cuda")
    layer(own[:, :3])
    layer.initial_state = layer.last_state
    assert_near(layer(own[:, 3:]), whole[:, 3:], "y", exact=False)
    layer.initial_state = tuple(np.zeros((3, 4)) for _ in range(2))
    with pytest.raises(TypeError, match=r"LSTM: initial_state must be an array of CuPy as the inputs are"):
        layer(own)


@pytest.mark.usefixtures("gpu")
def test_a_summary_runs_on_the_device() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    text = str(model.summary((4,)))
    assert str(model.to("cuda").summary((4,))) == text
    assert str(model.summary(moved(np.ones((2, 4), np.float32), "cuda"))) == text


def test_a_move_that_fails_changes_nothing(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    params, calls, asarray = model.parameters(), [], gpu.asarray

    def fails(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == 4:
            raise MemoryError
        return asarray(*args, **kwargs)

    monkeypatch.setattr(gpu, "asarray", fails)
    with pytest.raises(MemoryError):
        model.to("cuda")
    assert all(model.parameters()[name] is param for name, param in params.items())
    assert model.device == "cpu"


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("scheme", [ss.quant.Affine(bits=4), ss.quant.NF4(), ss.quant.Float8("e4m3fn")], ids=repr)
def test_codes_and_what_is_kept_of_them_move_as_one(scheme: Any) -> None:
    weight = ss.quant.quantize(np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32), scheme)
    layer = nn.QuantizedLinear(weight)
    x = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    y = layer(x).copy()
    for device in ("cuda", "cpu"):
        layer.to(device)
        assert layer.weight.device == layer.device == moved_name(device)
        for name, part in layer.weight.parts.items():
            assert layer.buffers()[f"weight_{name}"] is part
        assert_near(layer(moved(x, device)), y, device, exact=False)


def moved_name(device: str) -> str:
    return {"cpu": "cpu", "cuda": "cuda:0"}[device]


@pytest.mark.usefixtures("gpu")
def test_other_devices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^Linear.to: device must be 'cpu', 'cuda' or 'cuda:N', got 'tpu'$"):
        nn.Linear(2, 3).to("tpu")
