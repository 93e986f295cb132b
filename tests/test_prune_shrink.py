"""Models without their pruned units compute the same, and what cannot be removed is refused or stays."""

import copy
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stepsmith as ss
from helpers import Array, assert_same_bits
from stepsmith import nn, prune

TOLERANCE = {np.float32: 1e-6, np.float64: 1e-12}


def assert_shrinks(model: nn.Module, x: Array, removed: dict[str, tuple[int, ...]]) -> prune.Shrunk:
    """The same outputs of fewer parameters, and a model that stays as it was."""
    before = {name: array.copy() for name, array in {**model.parameters(), **model.buffers()}.items()}
    want = model(x).copy()
    small = prune.shrink(model)
    assert small.removed == removed
    got = small.model(x)
    assert got.dtype == want.dtype
    scale = max(np.abs(want).max(), 1.0)
    assert np.abs(got - want).max() <= TOLERANCE[x.dtype.type] * scale
    for name, array in {**model.parameters(), **model.buffers()}.items():
        assert_same_bits(array, before[name], name)
    sizes = [sum(param.size for param in each.parameters().values()) for each in (model, small.model)]
    assert (small.before, small.after) == tuple(sizes)
    assert sizes[1] < sizes[0] if removed else sizes[1] == sizes[0]
    assert not any(
        np.shares_memory(a, b) for a in small.model.parameters().values() for b in model.parameters().values()
    )
    return small


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """Parameters and statistics that are no defaults."""
    rng = np.random.default_rng(seed)
    for name, array in {**model.parameters(), **model.buffers()}.items():
        if array.dtype.kind == "f":
            array[...] = rng.normal(size=array.shape) if "var" not in name else rng.uniform(0.5, 2, array.shape)
    return model


ACTIVATIONS = [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Softsign]
ACTIVATIONS += [nn.Softplus]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda cls: cls.__name__)
def test_a_silent_unit_becomes_a_bias(activation: type[nn.Module], dtype: type) -> None:
    model = nn.Sequential(
        nn.Linear(5, 7, dtype=dtype),
        nn.BatchNorm(7, dtype=dtype),
        activation(),
        nn.Dropout(0.5),
        nn.Linear(7, 3, dtype=dtype),
        nn.LogSoftmax(),
    )
    randomized(model).parameters()["0.weight"][[2, 5]] = 0
    x = np.random.default_rng(1).normal(size=(11, 5)).astype(dtype)
    small = assert_shrinks(model, x, {"0": (2, 5)}).model
    assert {name: param.shape for name, param in small.parameters().items()} == {
        "0.weight": (5, 5),
        "0.bias": (5,),
        "1.weight": (5,),
        "1.bias": (5,),
        "4.weight": (3, 5),
        "4.bias": (3,),
    }
    moved = np.abs(small.parameters()["4.bias"] - model.parameters()["4.bias"]).max()
    assert moved > 1e-3 or activation is nn.ReLU


def test_an_unheard_unit_goes_whatever_it_says() -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    randomized(model).parameters()["2.weight"][:, [0, 6]] = 0
    model.parameters()["0.weight"][3] = -0.0
    model.parameters()["0.bias"][[0, 3]] = np.inf, 2.5
    x = np.random.default_rng(1).normal(size=(11, 5)).astype(np.float32)
    with np.errstate(invalid="ignore"):
        assert np.isnan(model(x)).any()
    small = prune.shrink(model)
    model.parameters()["0.bias"][0] = 0
    assert small.removed == {"0": (0, 3, 6)}
    np.testing.assert_allclose(small.model(x), model(x), atol=1e-5)
    assert str(small) == "layer  units removed\n0                  3\n66 parameters before, 39 after"


def test_what_loses_its_last_input_or_listener_goes_too() -> None:
    model = nn.Sequential(*[layer for _ in range(4) for layer in (nn.Linear(6, 6), nn.Tanh())], nn.Linear(6, 2))
    params = randomized(model).parameters()
    params["0.weight"][1] = 0
    params["2.weight"][4] = 0
    params["2.weight"][4, 1] = 3.0  # only heard the silent unit
    params["4.weight"][:, 5] = 0
    params["4.weight"][2, 5] = 1.0  # unit 2 alone hears unit 5 of the layer before, and nothing hears it
    params["6.weight"][:, 2] = 0
    x = np.random.default_rng(1).normal(size=(11, 6)).astype(np.float32)
    assert_shrinks(model, x, {"0": (1,), "2": (4, 5), "4": (2,)})


def test_nested_models_keep_their_tree_and_a_bias_appears_where_one_is_needed() -> None:
    inner = nn.Sequential(nn.Linear(7, 6, bias=False), nn.Sigmoid())
    model = nn.Sequential(nn.Sequential(nn.Linear(5, 7), nn.Sigmoid()), inner, nn.Linear(6, 3, bias=False), seed=3)
    randomized(model).parameters()["0.0.weight"][1] = 0
    x = np.random.default_rng(1).normal(size=(11, 5)).astype(np.float32)
    small = assert_shrinks(model, x, {"0.0": (1,)}).model
    assert list(small.parameters()) == ["0.0.weight", "0.0.bias", "1.0.weight", "1.0.bias", "2.weight"]
    assert small.seed == 3
    model.parameters()["0.0.bias"][1] = -1000.0
    small = assert_shrinks(model, x, {"0.0": (1,)}).model
    assert "1.0.bias" not in small.parameters(), "the constant is 0"


def test_inputs_and_outputs_stay_and_one_unit_of_a_layer() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Softmax())
    params = randomized(model).parameters()
    params["0.weight"][:, 2] = 0
    params["2.weight"][1] = 0
    x = np.random.default_rng(1).normal(size=(11, 5)).astype(np.float32)
    assert_shrinks(model, x, {})
    params["0.weight"][...] = 0
    assert_shrinks(model, x, {"0": (1, 2, 3)})
    params["2.weight"][...] = 0
    assert_shrinks(model, x, {"0": (1, 2, 3)})
    alone = randomized(nn.Linear(5, 4))
    alone.parameters()["weight"][1] = 0
    assert_shrinks(alone, x, {})


@pytest.mark.parametrize(
    "settings", [{"track_running_stats": False}, {"affine": False}, {"momentum": None, "axis": -1}]
)
def test_batch_norms_of_every_kind_lose_their_units(settings: dict[str, Any]) -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm(7, **settings), nn.Tanh(), nn.Linear(7, 3))
    randomized(model).parameters()["0.weight"][3] = 0
    x = np.random.default_rng(1).normal(size=(11, 5)).astype(np.float32)
    small = assert_shrinks(model, x, {"0": (3,)}).model
    old, new = model.modules[1], small.modules[1]
    assert (new.features, new.eps, new.momentum, new.axis) == (6, old.eps, old.momentum, old.axis)
    assert (list(new.params), list(new.state)) == (list(old.params), list(old.state))
    small.loss_and_grads((x, np.zeros(11, int)))


def test_a_shrunk_model_trains_and_keeps_its_weights() -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    model.parameters()["0.weight"][3] = 0
    small = prune.shrink(model).model
    x = np.random.default_rng(1).normal(size=(11, 5)).astype(np.float32)
    before = copy.deepcopy(small.parameters())
    optimizer = ss.optim.AdamW(small.parameters(), lr=0.01)
    first, grads = small.loss_and_grads((x, np.arange(11) % 3))
    optimizer.step(grads)
    assert small.loss_and_grads((x, np.arange(11) % 3))[0] < first
    np.testing.assert_allclose(small.parameters()["0.weight"], before["0.weight"], atol=0.011)


def test_shrinking_leaves_a_pass_that_runs_alone() -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm(7), nn.GELU(), nn.Linear(7, 3))
    randomized(model).parameters()["0.weight"][3] = 0
    x = np.random.default_rng(1).normal(size=(11, 5)).astype(np.float32)
    gradients = []
    for between in (lambda: None, lambda: prune.shrink(model)):
        dy = np.ones_like(model(x, training=True))
        between()
        model.backward(dy)
        gradients.append(copy.deepcopy(model.gradients()))
    for name, grad in gradients[0].items():
        assert_same_bits(gradients[1][name], grad, name)


class Wider(nn.Linear):
    """A layer that is not what it looks like."""


BLOCKERS = {
    "LayerNorm": lambda: nn.LayerNorm(7),
    "RMSNorm": lambda: nn.RMSNorm(7),
    "Softmax": nn.Softmax,
    "WeightNorm": lambda: nn.WeightNorm(nn.Linear(7, 7)),
    "Wider": lambda: Wider(7, 7),
    "Residual": lambda: nn.Residual(nn.Linear(7, 7)),
}


@pytest.mark.parametrize("name", BLOCKERS)
def test_layers_that_need_all_units_are_refused_where_units_would_go(name: str) -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), BLOCKERS[name](), nn.Linear(7, 4), nn.Linear(4, 2))
    params = randomized(model).parameters()
    params["3.weight"][1] = 0
    x = np.random.default_rng(1).normal(size=(11, 5)).astype(np.float32)
    assert_shrinks(model, x, {"3": (1,)})
    params["0.weight"][[2, 4]] = 0
    match = rf"shrink: layer '2' must treat each unit alone, got {name} behind pruned units \[2, 4\] of layer '0'$"
    with pytest.raises(ValueError, match=match):
        prune.shrink(model)


def test_a_norm_of_the_outputs_is_no_obstacle() -> None:
    model = randomized(nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7)))
    model.parameters()["0.weight"][2] = 0
    assert_shrinks(model, np.ones((3, 5), np.float32), {})


def test_only_modules_shrink() -> None:
    with pytest.raises(TypeError, match="shrink: model must be a Module, got dict"):
        prune.shrink({})


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_pruned_network_computes_the_same(data: st.DataObject) -> None:
    """Brute force says which units are dead: those that change nothing, whatever is added to their inputs."""
    widths = data.draw(st.lists(st.integers(1, 5), min_size=2, max_size=5))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs, data.draw(st.booleans()), dtype=dtype)]
        layers += [nn.BatchNorm(outputs, dtype=dtype)] * data.draw(st.integers(0, 1))
        layers += [data.draw(st.sampled_from([nn.ReLU, nn.Tanh, nn.GELU]))()] * data.draw(st.integers(0, 1))
    model = randomized(nn.Sequential(*layers), data.draw(st.integers(0, 99)))
    matrices = {name: w for name, w in model.parameters().items() if w.ndim == 2}
    optimizer = ss.optim.SGD(model.parameters())
    prune.apply(optimizer, prune.global_masks(matrices, data.draw(st.sampled_from([0.3, 0.6, 0.9]))))
    x = np.random.default_rng(1).normal(size=(7, widths[0])).astype(dtype)
    small = assert_shrinks(model, x, prune.shrink(model).removed)
    left = [w for w in small.model.parameters().values() if w.ndim == 2]
    assert (left[0].shape[1], left[-1].shape[0]) == (widths[0], widths[-1])
    for before, after in itertools.pairwise(left):
        assert len(before) == 1 or (before.any(axis=1).all() and after.any(axis=0).all()), "nothing dead is left"
    assert prune.shrink(small.model).removed == {}


def planes(dtype: type = np.float32) -> tuple[nn.Module, Array]:
    layers = nn.Conv2d(2, 6, 3, padding=1, dtype=dtype), nn.BatchNorm(6, dtype=dtype), nn.SiLU(), nn.MaxPool2d(2)
    layers += nn.Conv2d(6, 5, (2, 3), stride=(2, 1), dilation=(1, 2), dtype=dtype), nn.Tanh(), nn.AvgPool2d(2)
    layers += nn.Flatten(), nn.BatchNorm(20, axis=-1, dtype=dtype), nn.GELU(), nn.Linear(20, 3, dtype=dtype)
    x = np.random.default_rng(1).normal(size=(4, 2, 16, 16)).astype(dtype)
    return randomized(nn.Sequential(*layers)), x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_channels_go_as_units_do(dtype: type) -> None:
    model, x = planes(dtype)
    params = model.parameters()
    params["0.weight"][[1, 4]] = 0
    params["4.weight"][3] = 0
    params["4.weight"][:, 2] = 0
    params["10.weight"][:, 4:8] = 0
    small = assert_shrinks(model, x, {"0": (1, 2, 4), "4": (1, 3)}).model
    shapes = {name: param.shape for name, param in small.parameters().items()}
    assert shapes == {
        "0.weight": (3, 2, 3, 3),
        "0.bias": (3,),
        "1.weight": (3,),
        "1.bias": (3,),
        "4.weight": (3, 3, 2, 3),
        "4.bias": (3,),
        "8.weight": (12,),
        "8.bias": (12,),
        "10.weight": (3, 12),
        "10.bias": (3,),
    }
    assert np.abs(small.parameters()["4.bias"] - params["4.bias"][[0, 2, 4]]).max() > 1e-3
    assert np.abs(small.parameters()["10.bias"] - params["10.bias"]).max() > 1e-3


CONSTANT = {
    "conv": (nn.Conv2d(4, 3, 3, padding=1), nn.ReLU()),
    "rows": (nn.Conv2d(4, 3, 3, padding=(1, 0)), nn.ReLU()),
    "average": (nn.AvgPool2d(2, padding=1), nn.Conv2d(4, 3, 3)),
    "largest": (nn.MaxPool2d(2, padding=1, dilation=3), nn.Conv2d(4, 3, 3)),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_a_constant_that_the_padding_shows_stays(name: str) -> None:
    """Unless it is 0, or the window of a pool leaves the padding out."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3), *copy.deepcopy(CONSTANT[name]))
    randomized(model).parameters()["0.weight"][[1, 2]] = 0
    model.parameters()["0.bias"][1] = 0.0
    x = np.random.default_rng(1).normal(size=(4, 2, 8, 8)).astype(np.float32)
    assert_shrinks(model, x, {"0": (1,)} if name != "largest" else {})


@pytest.mark.parametrize("pool", [nn.MaxPool2d(3, padding=1), nn.AvgPool2d(3, padding=1, count_include_pad=False)])
def test_a_constant_passes_a_pool_that_leaves_its_padding_out(pool: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), pool, nn.Conv2d(4, 3, 2))
    randomized(model).parameters()["0.weight"][[1, 2]] = 0
    assert_shrinks(model, np.ones((4, 2, 9, 9), np.float32), {"0": (1, 2)})


PLANE_BLOCKERS = {
    "Conv2d": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=2),
    "GroupNorm": lambda: nn.GroupNorm(2, 4),
    "BatchNorm": lambda: nn.BatchNorm(4, axis=-1),
    "Flatten": lambda: nn.Flatten(2),
}


@pytest.mark.parametrize("name", PLANE_BLOCKERS)
def test_layers_that_mix_channels_are_refused(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), PLANE_BLOCKERS[name](), nn.Flatten(), nn.Linear(64, 2))
    assert_shrinks(model, np.ones((3, 2, 6, 6), np.float32), {})
    model.parameters()["0.weight"][1] = 0
    match = rf"shrink: layer '1' must treat each unit alone, got {name} behind pruned units \[1\] of layer '0'$"
    with pytest.raises(ValueError, match=match):
        prune.shrink(model)


def test_a_mixed_precision_shrinks_by_the_model_within() -> None:
    mixed = nn.MixedPrecision(nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4)))
    mixed.parameters()["0.weight"][3] = 0
    with pytest.raises(
        TypeError, match=r"shrink: model must be of float32 or float64, got a MixedPrecision: write its"
    ):
        ss.prune.shrink(mixed)
    ss.transfer.load_weights(mixed.model, mixed.parameters(), strict=True)
    small = ss.prune.shrink(mixed.model)
    assert small.removed == {"0": (3,)}
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    np.testing.assert_allclose(small.model(x), mixed(x), atol=1e-6)
