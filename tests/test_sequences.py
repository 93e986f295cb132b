"""Layers for sequences: golden rows, time and masks, states, exact sums, draws, buffers, errors."""

import json
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from helpers import Array, assert_same_bits
from stepsmith import nn, random

GOLDEN = Path(__file__).parent / "golden"
ARRAYS = np.load(GOLDEN / "layers.npz")
F4, F8 = np.dtype(np.float32), np.dtype(np.float64)
RECURRENT: dict[str, type[Any]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}

# Case → a layer of its size, and what is different in PyTorch's names.
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[str], str]]] = {
    **{case: (partial(layer, 5, 6, dtype=F8), lambda name: f"{name}_l0") for case, layer in RECURRENT.items()},
    **{
        f"attention-{case}": (
            partial(nn.MultiHeadAttention, 8, 2, causal=case == "causal", dtype=F8),
            lambda name: name.replace("out_proj_", "out_proj."),
        )
        for case in ("full", "causal")
    },
}


def close(got: Array, want: Array, tolerance: float) -> None:
    assert np.abs(want).max() > 0
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * float(np.abs(want).max()))


@pytest.mark.parametrize("case", CASES)
def test_layer_equals_pytorch(case: str) -> None:
    build, peer = CASES[case]
    layer = build()
    params = layer.parameters()
    stored = {name.split("/")[1] for name in ARRAYS.files if name.startswith(f"{case}/")}
    assert stored == {"x", "y", "dy", "dx", *map(peer, params), *(f"d_{peer(name)}" for name in params)}
    for name, param in params.items():
        param[...] = ARRAYS[f"{case}/{peer(name)}"]
    close(layer(ARRAYS[f"{case}/x"], training=True), ARRAYS[f"{case}/y"], 1e-12)
    close(layer.backward(ARRAYS[f"{case}/dy"]), ARRAYS[f"{case}/dx"], 1e-12)
    for name, grad in layer.gradients().items():
        close(grad, ARRAYS[f"{case}/d_{peer(name)}"], 1e-12)


def test_golden_names_exist() -> None:
    ops = {"rnn", "lstm", "gru", "multihead_self_attention"}
    cases = {case["case"] for case in json.loads((GOLDEN / "layers.json").read_text()) if case["op"] in ops}
    assert cases == set(CASES)


def model(dtype: np.dtype[Any] = F4, p: float = 0.25) -> nn.Sequential:
    """A small language model: tokens (samples, up to 7) to logits (samples, time, 11)."""
    attention = nn.MultiHeadAttention(8, 2, causal=True, dtype=dtype)
    wide, narrow = nn.Linear(8, 16, dtype=dtype), nn.Linear(16, 8, dtype=dtype)
    return nn.Sequential(
        nn.Embedding(11, 8, dtype=dtype),
        nn.PositionalEmbedding(7, 8, dtype=dtype),
        nn.Residual(nn.LayerNorm(8, dtype=dtype), attention, nn.SequenceDropout(p)),
        nn.Residual(nn.LayerNorm(8, dtype=dtype), wide, nn.GELU(), narrow),
        nn.GRU(8, 8, dtype=dtype),
        nn.Residual(nn.LSTM(8, 8, dtype=dtype), nn.SequenceDropout(p)),
        nn.RNN(8, 8, dtype=dtype),
        nn.Linear(8, 11, dtype=dtype),
    )


class LastAxis(nn.Loss):
    """Cross entropy with the classes on the last axis."""

    def check(self, output: Array, target: Array) -> None: ...

    def __call__(self, output: Array, target: Array) -> tuple[float, Array]:
        loss, grad = nn.cross_entropy(output, target, axis=-1)
        assert grad is not None
        return loss, grad


@pytest.mark.parametrize("dtype", [F4, F8])
def test_a_change_of_a_later_token_leaves_earlier_outputs(dtype: np.dtype[Any]) -> None:
    rng, net = np.random.default_rng(0), model(dtype)
    tokens = rng.integers(0, 11, (3, 7))
    before = net(tokens).copy()
    for place in range(7):
        changed = tokens.copy()
        changed[1, place] = (changed[1, place] + 5) % 11
        after = net(changed)
        assert_same_bits(after[1, :place], before[1, :place])
        assert_same_bits(after[[0, 2]], before[[0, 2]])
        assert (after[1, place] != before[1, place]).any()


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_causal_weights_of_later_positions_are_zero(scale: float) -> None:
    x = np.random.default_rng(1).normal(size=(2, 5, 6)) * scale
    layer = nn.MultiHeadAttention(6, 3, causal=True, rng=0, dtype=F8)
    dy = np.ones_like(layer(x))
    assert layer.attention.shape == (2, 3, 5, 5)
    later = np.triu(np.ones((5, 5), bool), 1)
    assert (layer.attention[..., later] == 0).all()
    assert (layer.attention[..., 0, 0] == 1).all()
    close(layer.attention.sum(axis=-1), np.ones((2, 3, 5)), 1e-15)
    assert np.isfinite(layer.backward(dy)).all()
    full = nn.MultiHeadAttention(6, 3, rng=0, dtype=F8)
    full(x)
    assert scale > 1 or (full.attention > 0).all()


@pytest.mark.parametrize("layer", RECURRENT.values())
@pytest.mark.parametrize("cuts", [[1, 2, 3, 4, 5, 6], [3], [5, 6]], ids=str)
def test_steps_from_the_last_state_equal_the_whole(layer: type[Any], cuts: list[int]) -> None:
    x = np.random.default_rng(2).normal(size=(3, 7, 5))
    net = layer(5, 4, rng=0, dtype=F8)
    whole = net(x).copy()
    end = deepcopy(net.last_state)
    parts = []
    net.initial_state = None
    for part in np.split(x, cuts, axis=1):
        parts.append(net(part).copy())
        net.initial_state = net.last_state
    close(np.concatenate(parts, axis=1), whole, 1e-14)
    close(np.array(net.last_state), np.array(end), 1e-14)
    assert (net(x) != whole).any(), "it went on from the state"
    net.initial_state = None
    assert_same_bits(net(x), whole)


@pytest.mark.parametrize("layer", RECURRENT.values())
def test_states_are_copies_and_survive_a_deep_copy(layer: type[Any]) -> None:
    x = np.random.default_rng(3).normal(size=(2, 3, 5)).astype(np.float32)
    net = layer(5, 1, rng=0)
    net(x)
    state = net.last_state
    kept, twin = deepcopy(state), deepcopy(net)
    net(2 * x)
    assert_same_bits(np.array(state), np.array(kept))
    net.initial_state = state
    first = net(x).copy()
    for part in state if isinstance(state, tuple) else (state,):
        part[...] = 1
    assert_same_bits(net(x), first)
    assert_same_bits(np.array(net.initial_state), np.array(kept))
    assert_same_bits(np.array(twin.last_state), np.array(kept))


@pytest.mark.parametrize("layer", RECURRENT.values())
@pytest.mark.parametrize("dtype", [F4, F8])
def test_the_last_step_alone(layer: type[Any], dtype: np.dtype[Any]) -> None:
    """The same as the sequence's last step with a gradient of zero at the others."""
    rng = np.random.default_rng(4)
    x, dy = rng.normal(size=(3, 5, 4)).astype(dtype), rng.normal(size=(3, 2)).astype(dtype)
    whole, last = (layer(4, 2, rng=0, return_sequences=keep, dtype=dtype) for keep in (True, False))
    assert_same_bits(last(x), np.ascontiguousarray(whole(x)[:, -1]))
    state = last.last_state
    assert_same_bits(state[0] if layer is nn.LSTM else state, last(x))
    padded = np.zeros((3, 5, 2), dtype)
    padded[:, -1] = dy
    assert_same_bits(last.backward(dy), whole.backward(padded))
    for name, grad in last.gradients().items():
        assert_same_bits(grad, whole.gradients()[name], name)


@pytest.mark.parametrize("layer", RECURRENT.values())
@pytest.mark.parametrize("whole", [True, False])
def test_gradients_do_not_depend_on_how_many_steps_are_differentiated_at_once(
    layer: type[Any], whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = layer(5, 4, return_sequences=whole, rng=0)
    x = np.random.default_rng(8).normal(size=(3, 7, 5)).astype(np.float32)
    dy = np.sin(net(x))
    dx = net.backward(dy).copy()
    grads = {name: grad.copy() for name, grad in net.gradients().items()}
    for steps in (1, 2, 3, 7):
        monkeypatch.setattr("stepsmith.nn.recurrent._SPAN", steps * 4 * 3)
        net(x)
        assert_same_bits(net.backward(dy), dx)
        for name, grad in net.gradients().items():
            assert_same_bits(grad, grads[name], name)


def test_one_mask_over_time_and_its_numbers() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Residual(nn.SequenceDropout(0.4)))
    net.parameters()
    net.counter.seed, net.counter.step = 2**40 + 3, 5
    x = np.ones((6, 4, 5), np.float32)
    keep = random.uniform((6, 5), seed=2**40 + 3, step=5, stream=1) >= 0.4
    assert 0 < keep.sum() < keep.size
    want = np.where(keep, np.float32(1) + np.float32(1 / 0.6), np.float32(1))[:, None, :].repeat(4, axis=1)
    assert_same_bits(net(x, training=True), want)
    assert_same_bits(net.backward(x), want)
    assert_same_bits(net(x), x + x)


def test_half_batches_draw_the_masks_of_the_whole() -> None:
    net = nn.Sequential(nn.Dropout(0.5), nn.SequenceDropout(0.5))
    x = np.ones((6, 4, 5), np.float32)
    whole = net(x, training=True).copy()
    for start, stop in ((0, 2), (2, 6)):
        net.counter.sample = start
        assert_same_bits(net(x[start:stop], training=True), whole[start:stop])
    net.counter.sample = 0
    assert_same_bits(net(x[:, :2], training=True)[0], whole[0, :2])


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("index", ["int8", "uint8", "int32", ">i4", "int64", "uint64"])
def test_embedding_adds_gradients_in_order(dtype: np.dtype[Any], index: str) -> None:
    rng = np.random.default_rng(5)
    x = rng.integers(0, 9, (5, 3, 7)).astype(index)
    x[x == 4] = 2
    layer = nn.Embedding(11, 3, rng=0, dtype=dtype)
    assert_same_bits(layer(x), layer.params["weight"][x.astype(int)])
    layer.grads["weight"][...] = np.nan
    dy = ss.init.normal((5, 3, 7, 3), rng, dtype=dtype)
    want = np.zeros((11, 3), dtype)
    for place in np.ndindex(x.shape):
        want[x[place]] += dy[place]
    assert layer.backward(dy) is None
    assert_same_bits(layer.gradients()["weight"], want)
    assert (want[[4, 9, 10]] == 0).all()
    assert_same_bits(layer(x[0, 0]), layer.params["weight"][x[0, 0].astype(int)])
    assert layer(x[:0]).shape == (0, 3, 7, 3)


@pytest.mark.parametrize("padding", [0, 3, -1])
def test_padding_starts_at_zero_and_gets_no_gradient(padding: int) -> None:
    layer, free = nn.Embedding(5, 2, padding, rng=0), nn.Embedding(5, 2, rng=0)
    x = np.arange(10).reshape(2, 5) % 5
    assert (layer(x)[0, padding] == 0).all()
    assert (np.delete(layer.params["weight"], padding, 0) == np.delete(free.params["weight"], padding, 0)).all()
    layer.backward(np.ones((2, 5, 2), np.float32))
    want = np.full((5, 2), 2, np.float32)
    want[padding] = 0
    assert_same_bits(layer.gradients()["weight"], want)


def test_positions_beyond_the_sequence_get_no_gradient() -> None:
    layer = nn.PositionalEmbedding(5, 2, rng=0)
    layer.grads["weight"][...] = np.nan
    layer(np.zeros((3, 4, 2), np.float32))
    layer.backward(np.ones((3, 4, 2), np.float32))
    assert layer.gradients()["weight"].tolist() == [[3, 3]] * 4 + [[0, 0]]


def test_draws_are_pytorch_s_defaults() -> None:
    for layer in RECURRENT.values():
        params = layer(64, 100, rng=0).parameters()
        assert list(params) == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
        for param in params.values():
            assert -np.float32(0.1) <= param.min() < -0.095 < 0.095 < param.max() <= np.float32(0.1)
        assert len({param.tobytes() for param in params.values()}) == 4
    params = nn.MultiHeadAttention(100, 4, rng=0).parameters()
    assert 0.99 * np.sqrt(6 / 400) < np.abs(params["in_proj_weight"]).max() <= np.float32(np.sqrt(6 / 400))
    assert 0.099 < np.abs(params["out_proj_weight"]).max() <= np.float32(0.1)
    assert not params["in_proj_bias"].any() | params["out_proj_bias"].any()
    for layer in (nn.Embedding(300, 50, rng=0), nn.PositionalEmbedding(300, 50, rng=0)):
        weight = layer.parameters()["weight"]
        assert abs(weight.mean()) < 0.03
        assert abs(weight.std() - 1) < 0.03


def test_layers_inside_are_numbered_named_and_drawn() -> None:
    net = model()
    params = net.parameters()
    inner = [(prefix, layer.index) for prefix, layer in net.named_layers()]
    assert [index for _, index in inner] == list(range(len(inner)))
    assert inner[2:5] == [("2.0.", 2), ("2.1.", 3), ("2.2.", 4)]
    assert {"0.weight", "1.weight", "2.1.in_proj_weight", "3.1.weight", "5.0.weight_hh", "7.bias"} <= set(params)
    again = model().parameters()
    assert all((params[name] == again[name]).all() for name in params)
    drawn = [array.tobytes() for name, array in params.items() if "weight" in name and array.std() > 0]
    assert len(set(drawn)) == len(drawn) == 13


def test_float32_is_near_float64() -> None:
    tokens = np.random.default_rng(6).integers(0, 11, (3, 7))
    small, large = model(F4), model(F8)
    results = [(net.loss_and_grads((tokens, tokens), LastAxis()), net) for net in (small, large)]
    (loss, grads), (wanted, exact) = results[0][0], results[1][0]
    assert loss == pytest.approx(wanted, rel=1e-5)
    for name, grad in grads.items():
        assert grad.dtype == np.float32
        close(grad, exact[name], 2e-5)


def test_loss_and_grads_of_tokens_learns() -> None:
    """The next of a cycle of tokens, by the causal model: labels (samples, time), logits (samples, time, classes)."""
    net = model(p=0.05)
    tokens = (np.arange(8)[:, None] + np.arange(7)) % 11
    optimizer, losses = ss.optim.AdamW(net.parameters(), lr=0.02), []
    for _ in range(60):
        loss, grads = net.loss_and_grads((tokens, (tokens + 1) % 11), LastAxis())
        optimizer.step(grads)
        losses.append(loss)
    assert losses[0] > 2.0
    assert losses[-1] < 0.3


def test_passes_of_other_sizes_leave_no_trace() -> None:
    rng = np.random.default_rng(7)
    used = model()
    batches = [rng.integers(0, 11, shape) for shape in ((4, 7), (2, 3), (3, 7), (1, 1), (4, 7))]
    for tokens in batches:
        fresh = model()
        used.counter.step = 1
        loss, grads = used.loss_and_grads((tokens, tokens), LastAxis())
        wanted, exact = fresh.loss_and_grads((tokens, tokens), LastAxis())
        assert loss == wanted
        for name, grad in grads.items():
            assert_same_bits(grad, exact[name], name)


def test_a_batch_without_samples() -> None:
    net = model()
    assert net(np.zeros((0, 7), int), training=True).shape == (0, 7, 11)
    net.backward(np.zeros((0, 7, 11), np.float32), False)
    assert all((grad == 0).all() for grad in net.gradients().values())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Embedding(64, 32),
        nn.PositionalEmbedding(40, 32),
        nn.SequenceDropout(0.2),
        nn.Residual(nn.Linear(32, 32), nn.Tanh()),
        nn.MultiHeadAttention(32, 4, causal=True),
        *(layer(32, 32, return_sequences=whole) for layer in RECURRENT.values() for whole in (True, False)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_pass_allocates_nothing_of_the_arrays_size(layer: nn.Module) -> None:
    """Arrays have 640 KiB and more; NumPy's own buffers some 32 KiB an operand."""
    x = np.zeros((128, 40), int) if isinstance(layer, nn.Embedding) else np.ones((128, 40, 32), np.float32)
    dy = np.ones_like(layer(x, training=True))
    layer.backward(dy)
    tracemalloc.start()
    layer(x, training=True)
    layer.backward(dy)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 160 * 1024, peak


def test_input_gradient_is_computed_only_where_wanted() -> None:
    x = np.ones((2, 3, 4), np.float32)
    for layer in (
        *(kind(4, 4) for kind in RECURRENT.values()),
        nn.MultiHeadAttention(4, 2),
        nn.PositionalEmbedding(3, 4),
    ):
        for net in (layer, nn.Residual(layer)):
            y = net(x).copy()
            assert net.backward(y).shape == x.shape
            grads = {name: grad.copy() for name, grad in net.gradients().items()}
            assert net.backward(y, False) is None
            assert all((net.gradients()[name] == grad).all() for name, grad in grads.items())


def test_flops_count_products() -> None:
    x, y = (2, 3, 8), (2, 3, 5)
    assert nn.RNN(8, 5).flops(x, y) == 6 * 2 * 5 * (8 + 5)
    assert nn.LSTM(8, 5).flops(x, y) == 6 * 2 * 20 * (8 + 5)
    assert nn.GRU(8, 5, return_sequences=False).flops(x, (2, 5)) == 6 * 2 * 15 * (8 + 5)
    assert nn.Linear(8, 5).flops(x, y) == 6 * 2 * 8 * 5
    assert nn.MultiHeadAttention(8, 4).flops(x, x) == 6 * 2 * 4 * 64 + 2 * 4 * 2 * (3 * 3 * 2) * 2
    assert nn.Embedding(9, 8).flops((2, 3), x) == 0


X = np.ones((2, 3, 4), np.float32)
STATE = np.ones((2, 5), np.float32)


def given(layer: Any, state: object, x: Array = X) -> None:
    layer.initial_state = state
    layer(x)


def test_causal_attention_to_other_lengths_allocates_no_masks() -> None:
    layer, lengths = nn.MultiHeadAttention(2, 1, causal=True, rng=0), (500, 400)
    batches = [np.random.default_rng(0).normal(size=(1, steps, 2)).astype(np.float32) for steps in lengths]
    peaks = []
    for x in (*batches, *batches):
        tracemalloc.start()
        fresh = layer(x)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert_same_bits(fresh, nn.MultiHeadAttention(2, 1, causal=True, rng=0)(x))
    assert max(peaks[1:]) < 400 * 400 / 2, peaks


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: nn.Embedding(0, 3), ValueError, r"Embedding: count must be at least 1, got 0"),
        (lambda: nn.Embedding(3, 2, 3), ValueError, r"Embedding: padding_index must be at most 2, got 3"),
        (lambda: nn.Embedding(3, 2, dtype=int), TypeError, r"Embedding: dtype must be float32 or float64, got int64"),
        (lambda: nn.Embedding(3, 2)(X), TypeError, r"Embedding: input must be integers, got float32"),
        (lambda: nn.Embedding(3, 2)(X > 0), TypeError, r"Embedding: input must be integers, got bool"),
        (
            lambda: nn.Embedding(3, 2)([0, 1]),
            TypeError,
            r"Embedding: input must be a NumPy array .* builtins.list",
        ),
        (lambda: nn.Embedding(3, 2)(np.array([0, 3])), ValueError, r"Embedding: input must be in \[0, 3\), got 3"),
        (lambda: nn.Embedding(3, 2)(np.array([-1, 0])), ValueError, r"Embedding: input must be in \[0, 3\), got -1"),
        (lambda: nn.Embedding(3, 2)(np.array([2**64 - 1], np.uint64)), ValueError, r"got 18446744073709551615"),
        (lambda: nn.PositionalEmbedding(2, 4)(X), ValueError, r"PositionalEmbedding: time must be at most 2, got 3"),
        (lambda: nn.PositionalEmbedding(2, 3)(X), ValueError, r"input must have shape \(samples, time, 3\)"),
        (lambda: nn.LSTM(4, 0), ValueError, r"LSTM: hidden must be at least 1, got 0"),
        (lambda: nn.RNN(4, 5, "gelu"), ValueError, r"RNN: nonlinearity must be one of tanh, relu, got 'gelu'"),
        (lambda: nn.GRU(4, 5, return_sequences=1), TypeError, r"GRU: return_sequences must be True or False, got 1"),
        (lambda: nn.LSTM(4, 5)(X[0]), ValueError, r"LSTM: input must have shape \(samples, time, 4\).*got \(3, 4\)"),
        (lambda: nn.LSTM(4, 5)(X.tolist()), TypeError, r"LSTM: input must be a NumPy array"),
        (
            lambda: nn.MultiHeadAttention(4, 2)(X.tolist()),
            TypeError,
            r"MultiHeadAttention: input must be a NumPy array",
        ),
        (lambda: nn.LSTM(4, 5)(X[:, :0]), ValueError, r"time at least 1, got \(2, 0, 4\)"),
        (
            lambda: nn.GRU(4, 5)(X.astype(float)),
            TypeError,
            r"GRU: input must be float32 .*, got float64",
        ),
        (lambda: given(nn.GRU(4, 5), STATE[:1]), ValueError, r"GRU: initial_state must have 2 samples, got 1"),
        (lambda: given(nn.GRU(4, 5), STATE[:, :4]), ValueError, r"initial_state must have shape \(samples, 5\)"),
        (lambda: given(nn.GRU(4, 5), STATE.astype(float)), TypeError, r"initial_state must be float32, got float64"),
        (lambda: given(nn.LSTM(4, 5), STATE), TypeError, r"LSTM: initial_state must be a tuple \(h, c\), got ndarray"),
        (lambda: given(nn.LSTM(4, 5), (STATE, STATE[:1])), ValueError, r"must have shape \(samples, 5\), got \(1, 5\)"),
        (lambda: nn.MultiHeadAttention(6, 4), ValueError, r"MultiHeadAttention: heads must divide features, 6, got 4"),
        (lambda: nn.MultiHeadAttention(6, 2, causal=1), TypeError, r"causal must be True or False, got 1"),
        (lambda: nn.MultiHeadAttention(6, 2)(X), ValueError, r"input must have shape \(samples, time, 6\)"),
        (lambda: nn.Residual(nn.ReLU), TypeError, r"Residual: layer 0 must be a Module"),
        (
            lambda: nn.Residual(nn.Linear(4, 5))(X),
            ValueError,
            r"Residual: .* shape, \(2, 3, 4\), got \(2, 3, 5\)",
        ),
        (lambda: nn.Residual(nn.Embedding(9, 1))(X.astype(int)), TypeError, r"keep the dtype, int64, got float32"),
        (lambda: nn.SequenceDropout(1.0), ValueError, r"SequenceDropout: p must be in \[0, 1\), got 1.0"),
        (
            lambda: nn.SequenceDropout()(X[0]),
            ValueError,
            r"shape \(samples, time, features\), got \(3, 4\)",
        ),
    ],
)
def test_bad_arguments_are_named(build: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    ("build", "x", "shape"),
    [
        *((partial(layer, 4, 5), X, (2, 3, 5)) for layer in RECURRENT.values()),
        *((partial(layer, 4, 5, return_sequences=False), X, (2, 5)) for layer in RECURRENT.values()),
        (partial(nn.MultiHeadAttention, 4, 2), X, (2, 3, 4)),
        (partial(nn.PositionalEmbedding, 3, 4), X, (2, 3, 4)),
        (partial(nn.Embedding, 9, 4), np.ones((2, 3), int), (2, 3, 4)),
    ],
)
def test_a_gradient_that_is_not_like_the_output_is_an_error(
    build: Callable[[], nn.Module], x: Array, shape: tuple[int, ...]
) -> None:
    """Fewer steps or samples, or one that would be repeated, would be gradients of something else."""
    layer = build()
    assert layer(x).shape == shape
    wrong = {(1, *shape[1:]), (shape[0], 1, *shape[2:]), (*shape[:-1], 1), shape[1::-1] + shape[2:], (1,)}
    for other in wrong - {shape}:
        with pytest.raises(ValueError, match=rf"{type(layer).__name__}: dy must have the shape of the output, \(2, "):
            layer.backward(np.ones(other, np.float32))
    with pytest.raises(TypeError, match="dy must have the dtype of the output, float32, got float64"):
        layer.backward(np.ones(shape))
    assert not any(grad.any() for grad in layer.gradients().values())
