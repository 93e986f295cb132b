"""Muon: steps equal an oracle that knows singular values alone; all or nothing; hidden arrays stay hidden."""

import math
import threading
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from helpers import LAYOUTS, Array, assert_same_bits, laid_out
from reference_storage import BFLOAT16, DTYPES, compute_type, decode, encode
from stepsmith.optim import muon

SHAPES = {"wide": (5, 9), "tall": (12, 4), "square": (7, 7), "row": (1, 6), "column": (6, 1), "one": (1, 1)}
COEFFICIENTS = 3.4445, -4.7750, 2.0315
# Of the largest entry; 16-bit storage keeps 8 and 11 bits.
TOLERANCE = {"f32": 1e-5, "f64": 1e-12, "bf16": 2.0**-8, "f16": 2.0**-11}


def polar(u: Array, coefficients: tuple[float, float, float], steps: int, eps: float) -> Array:
    """X in float64: a Newton-Schulz step turns each singular value s into as + bs³ + cs⁵, leaves vectors alone."""
    u = u.astype(np.float64)
    left, s, right = np.linalg.svd(u / max(math.sqrt((u * u).sum()), eps), full_matrices=False)
    a, b, c = coefficients
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return left * s @ right


def expected(
    param: Array,
    momentum: Array,
    grad: Array,
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    momentum_rate: float = 0.95,
    nesterov: bool = True,
    maximize: bool = False,
    adjust_lr_fn: str | None = None,
    ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
    ns_steps: int = 5,
    eps: float = 1e-7,
) -> tuple[Array, Array]:
    """Parameter and momentum after a step: the momentum with its bits, the parameter in float64."""
    compute = compute_type(param.dtype)
    g = decode(grad, compute) * compute(-1.0 if maximize else 1.0)
    b = decode(momentum, compute)
    b = b + (g - b) * compute(1.0 - momentum_rate)
    u = g + (b - g) * compute(momentum_rate) if nesterov else b
    rows, columns = param.shape
    scale = (
        0.2 * math.sqrt(max(rows, columns))
        if adjust_lr_fn == "match_rms_adamw"
        else math.sqrt(max(1.0, rows / columns))
    )
    x = polar(u, ns_coefficients, ns_steps, eps)
    return param.astype(np.float64) * (1.0 - lr * weight_decay) - lr * scale * x, encode(b, momentum.dtype)


def data(dtype: str = "f32", layout: str = "C", grad: str = "f32") -> tuple[dict[str, Array], list[dict[str, Array]]]:
    rng = np.random.default_rng(3)
    drawn = {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
    params = {name: laid_out(encode(x, DTYPES[dtype]), layout) for name, x in drawn.items()}
    grads = [
        {name: laid_out(encode(rng.standard_normal(x.shape), DTYPES[grad]), layout) for name, x in params.items()}
        for _ in range(3)
    ]
    return params, grads


def assert_steps_are_right(
    dtype: str, params: dict[str, Array], all_grads: list[dict[str, Array]], state_dtype: str = "float32", **given: Any
) -> None:
    """Each step from where the last one led to, so that 16-bit roundings do not add up."""
    settings = {"lr": 0.3, **given}
    optimizer = ss.optim.Muon(params, state_dtype=state_dtype, **settings)
    oracle = {("momentum_rate" if key == "momentum" else key): x for key, x in settings.items()}
    for t, grads in enumerate(all_grads):
        before = {name: (x.copy(), optimizer.state[name]["momentum"].copy()) for name, x in params.items()}
        info = optimizer.step(grads)
        assert (info.step, info.skipped, info.lr) == (t + 1, False, (settings["lr"],))
        for name, param in params.items():
            want, momentum = expected(*before[name], grads[name], **oracle)
            assert np.abs(want - before[name][0].astype(float)).max() > 0.01, "the step is worth a test"
            error = np.abs(param.astype(float) - want).max() / np.abs(want).max()
            assert error <= TOLERANCE[dtype], (name, t, error)
            assert_same_bits(optimizer.state[name]["momentum"], momentum, name)


SETTINGS: list[dict[str, Any]] = [
    {},
    {"nesterov": False},
    {"maximize": True, "momentum": 0.5},
    {"momentum": 0.0, "weight_decay": 0.0},
    {"adjust_lr_fn": "original", "nesterov": False, "maximize": True},
    {"adjust_lr_fn": "match_rms_adamw"},
    {"ns_steps": 1},
    {"ns_steps": 3, "ns_coefficients": (2.0, -1.5, 0.5)},
    {"ns_coefficients": [1.5, -0.5, 0.0], "weight_decay": 0.5},
    {"eps": 100.0},
]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_steps_equal_the_oracle(dtype, settings) -> None:
    assert_steps_are_right(dtype, *data(dtype, grad=dtype), **settings)


@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layout_and_dtype_steps(dtype, layout, state_dtype) -> None:
    for grad in ("f32", dtype):
        assert_steps_are_right(dtype, *data(dtype, layout, grad), state_dtype=state_dtype, momentum=0.9)


def test_large_matrices_step_on_several_threads() -> None:
    rng = np.random.default_rng(5)
    params = {"w": rng.standard_normal((300, 401)).astype(np.float32)}
    grads = [{"w": rng.standard_normal((300, 401)).astype(np.float32)} for _ in range(2)]
    with ss.threads(3):
        assert_steps_are_right("f32", params, grads)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_empty_matrices_step(shape) -> None:
    optimizer = ss.optim.Muon({"empty": np.zeros(shape), "w": np.eye(3)})
    assert optimizer.step({"empty": np.zeros(shape), "w": np.ones((3, 3))}).step == 1
    assert optimizer.state["empty"]["momentum"].shape == shape
    assert (optimizer.params["w"] != np.eye(3)).all()


def test_orthogonalized_is_the_polar_factor() -> None:
    rng = np.random.default_rng(7)
    for shape in SHAPES.values():
        u = rng.standard_normal(shape)
        kept = u.copy()
        x = muon.orthogonalized(u)
        np.testing.assert_allclose(x, polar(u, COEFFICIENTS, 5, 1e-7), rtol=0, atol=1e-12)
        assert (np.abs(np.linalg.svd(x)[1] - 1) < 0.35).all()
        assert (x.shape, x.dtype) == (u.shape, u.dtype)
        assert_same_bits(u, kept)
    assert muon.orthogonalized(np.eye(2, dtype=np.float32)).dtype == np.float32
    assert (muon.orthogonalized(np.zeros((2, 3))) == 0).all()


@pytest.mark.parametrize("size", [1e25, 1e-30])
def test_the_norm_neither_overflows_nor_underflows(size) -> None:
    """Squares of these are infinite or 0 in float32."""
    u = np.random.default_rng(9).standard_normal((4, 6))
    want = polar(u * size, COEFFICIENTS, 5, 1e-40)
    got = muon.orthogonalized((u * size).astype(np.float32), eps=1e-40)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert np.abs(got).max() > 0.1


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_what_is_no_matrix_is_refused(shape) -> None:
    with pytest.raises(ValueError, match=r"^Muon: params must be matrices, got an array of shape \("):
        ss.optim.Muon([np.ones((2, 2)), np.ones(shape)])


# All or nothing.


def everything(optimizer: Any) -> list[Array]:
    """Parameters, shown state, counts."""
    saved = optimizer.state_dict()
    arrays = [*optimizer.params.values(), *(x for row in saved["state"].values() for x in row.values())]
    return [*(x.copy() for x in arrays), np.array([saved["groups"][0]["step"], *saved["steps"].values()], float)]


def assert_unchanged(optimizer: Any, before: list[Array]) -> None:
    for got, want in zip(everything(optimizer), before, strict=True):
        assert_same_bits(got, want)


OPTIONS: list[dict[str, Any]] = [{}, {"ema": 0.9, "shadow": "bfloat16", "zero_grads": True, "max_norm": 1.0}]


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "folded"])
@pytest.mark.parametrize("nth", [0, 3])
def test_a_failure_amid_the_matrices_changes_nothing(monkeypatch, nth, options) -> None:
    params, grads = data()
    optimizer = ss.optim.Muon(params, lr=0.1, **options)
    straight = ss.optim.Muon({name: x.copy() for name, x in params.items()}, lr=0.1, **options)

    def copied(t: int) -> dict[str, Array]:
        return {name: x.copy() for name, x in grads[t].items()}

    for one in (optimizer, straight):
        one.step(copied(0))
    before, given, calls = everything(optimizer), copied(1), []
    real = muon.orthogonalized

    def failing(*arguments: Any) -> Array:
        calls.append(arguments)
        if len(calls) == nth + 1:
            raise MemoryError
        return real(*arguments)

    monkeypatch.setattr(muon, "orthogonalized", failing)
    with pytest.raises(MemoryError):
        optimizer.step(given)
    monkeypatch.undo()
    assert len(calls) == nth + 1
    assert_unchanged(optimizer, before)
    for name, x in given.items():
        assert_same_bits(x, grads[1][name])
    for t in (1, 2):
        for one in (optimizer, straight):
            assert one.step(copied(t)).step == t + 1
    assert_unchanged(optimizer, everything(straight))


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "folded"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gradients_that_are_not_finite_change_nothing(value, options) -> None:
    params, grads = data()
    bad = {name: x.copy() for name, x in grads[1].items()}
    bad["square"][3, 4] = value
    for on_nonfinite in ("raise", "skip"):
        optimizer = ss.optim.Muon(params, lr=0.1, on_nonfinite=on_nonfinite, **options)
        optimizer.step({name: x.copy() for name, x in grads[0].items()})
        before = everything(optimizer)
        if on_nonfinite == "skip":
            assert optimizer.step(bad).skipped
        else:
            with pytest.raises(ss.NonFiniteError, match=r"^Muon: grads\['square'\] must be finite"):
                optimizer.step(bad)
        assert_unchanged(optimizer, before)
        assert (bad["wide"] == grads[1]["wide"]).all(), "gradients are zeroed after a step alone"
    optimizer = ss.optim.Muon(params, lr=0.1, on_nonfinite="propagate")
    assert optimizer.step(bad).step == 1
    assert np.isnan(params["square"]).all()
    assert np.isfinite(params["wide"]).all()


def test_one_step_at_a_time(monkeypatch) -> None:
    """A second step from another thread may not take the first one's hidden arrays."""
    params, grads = data()
    optimizer, real, errors = ss.optim.Muon(params), muon.orthogonalized, []

    def second() -> None:
        try:
            optimizer.step(grads[1])
        except RuntimeError as error:
            errors.append(str(error))

    def interrupted(*arguments: Any) -> Array:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        return real(*arguments)

    monkeypatch.setattr(muon, "orthogonalized", interrupted)
    assert optimizer.step(grads[0]).step == 1
    assert errors == ["Muon: one step at a time, got a call while another step runs"] * len(SHAPES)
    monkeypatch.undo()
    assert optimizer.step(grads[1]).step == 2


# What is folded around the step.


def stepped(options: dict[str, Any], changed: Any = lambda grads: grads, steps: int = 3, dtype: str = "f32") -> Any:
    params, grads = data(dtype)
    optimizer = ss.optim.Muon(params, lr=0.1, **options)
    for t in range(steps):
        optimizer.step(changed(grads[t]))
    return optimizer


def assert_same_steps(one: Any, other: Any) -> None:
    for name, param in one.params.items():
        assert_same_bits(param, other.params[name], name)
        assert_same_bits(one.state[name]["momentum"], other.state[name]["momentum"], name)


def test_gradients_are_clipped_once() -> None:
    """By a power of 2, whose product is exact."""
    clipped = stepped({"clip_value": 0.5})
    assert_same_steps(clipped, stepped({}, lambda grads: {name: x.clip(-0.5, 0.5) for name, x in grads.items()}))

    def halved(grads: dict[str, Array]) -> dict[str, Array]:
        norm = ss.grad_norm(grads)
        return {name: x * np.float32(min(1.0, 3.0 / (norm + 1e-6))) for name, x in grads.items()}

    assert_same_steps(stepped({"max_norm": 3.0}), stepped({}, halved))
    params, grads = data()
    optimizer = ss.optim.Muon(params, lr=0.1, max_norm=3.0)
    assert optimizer.step(grads[0]).grad_norm == ss.grad_norm(grads[0])
    assert optimizer.step({name: x * 8 for name, x in grads[1].items()}, grad_scale=8.0).grad_norm == pytest.approx(
        ss.grad_norm(grads[1])
    )


def test_gradients_become_zero_once_after_the_step() -> None:
    """The matrices are made of gradients that are still there; the update too."""
    params, grads = data()
    optimizer = ss.optim.Muon(params, lr=0.1, zero_grads=True)
    given = {name: x.copy() for name, x in grads[0].items()}
    optimizer.bind(given)
    for t in range(3):
        for name, x in given.items():
            x[...] = grads[t][name]
        optimizer.step()
        assert not any(x.any() for x in given.values())
    assert_same_steps(optimizer, stepped({}))


def test_pruned_weights_stay_zero() -> None:
    rng = np.random.default_rng(11)
    masks = {name: rng.random(shape) < 0.6 for name, shape in SHAPES.items()}
    masks["one"][...] = False
    optimizer = stepped({"masks": masks, "ema": 0.5})
    for name, mask in masks.items():
        for array in (optimizer.params[name], *optimizer.state[name].values()):
            assert not array[~mask].any()
        assert optimizer.params[name][mask].all()
    # The matrix that is made orthogonal has zeros there: as with gradients that have.
    dense = stepped({}, lambda grads: {name: x * masks[name] for name, x in grads.items()})
    for name, mask in masks.items():
        assert_same_bits(optimizer.params[name][mask], dense.params[name][mask])


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_copies_follow_the_step_alone(dtype) -> None:
    params, grads = data(dtype)
    options = {"ema": 0.75, **({"master": True} if dtype == "bf16" else {"shadow": "float16"})}
    optimizer = ss.optim.Muon(params, lr=0.1, **options)
    ema = {name: x.astype(np.float32) for name, x in params.items()}
    for t in range(3):
        optimizer.step(grads[t])
        for name, row in optimizer.state.items():
            wide = row["master"] if dtype == "bf16" else params[name]
            ema[name] = ema[name] + (wide - ema[name]) * np.float32(0.25)
            assert_same_bits(row["ema"], ema[name], name)
            if dtype == "bf16":
                assert_same_bits(params[name], row["master"].astype(BFLOAT16))
            else:
                assert_same_bits(row["shadow"], params[name].astype(np.float16))


def test_random_rounding_is_drawn_in_the_step_alone() -> None:
    """The nearest and the random rounding start from the same update; other seeds differ."""
    one, other, nearest = (
        stepped({"rounding": "stochastic", "seed": seed} if seed else {}, steps=1, dtype="bf16") for seed in (1, 2, 0)
    )
    differ = [(one.params[name] != other.params[name]).any() for name in SHAPES]
    assert any(differ)
    for name, param in one.params.items():
        gap = np.abs(param.astype(float) - nearest.params[name].astype(float))
        assert (gap <= np.abs(nearest.params[name].astype(float)) * 2.0**-7).all()
        assert_same_bits(one.state[name]["momentum"], nearest.state[name]["momentum"])


# State.


def test_hidden_arrays_are_not_shown(tmp_path) -> None:
    only = {name: ["momentum"] for name in SHAPES}
    for options in ({}, {"state_dir": tmp_path}):
        params, grads = data()
        optimizer = ss.optim.Muon(params, **options)
        optimizer.step(grads[0])
        assert {name: list(row) for name, row in optimizer.state.items()} == only
        saved = optimizer.state_dict()["state"]
        assert {name: list(row) for name, row in saved.items()} == only
        saved["wide"]["update"] = np.zeros(SHAPES["wide"], np.float32)
        with pytest.raises(ValueError, match=r"state\['wide'\]: missing \[\], extra \['update'\]"):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": saved})


@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16"])
def test_a_resumed_run_equals_a_straight_one(state_dtype) -> None:
    straight = stepped({"state_dtype": state_dtype, "momentum": 0.8})
    first = stepped({"state_dtype": state_dtype, "momentum": 0.8}, steps=1)
    params = {name: x.copy() for name, x in first.params.items()}
    resumed = ss.optim.Muon(params, lr=0.7, nesterov=False, adjust_lr_fn="match_rms_adamw", state_dtype=state_dtype)
    resumed.step(data()[1][2])
    for name, x in first.params.items():
        params[name][...] = x
    resumed.load_state_dict(first.state_dict())
    for t in (1, 2):
        resumed.step(data()[1][t])
    assert_same_steps(resumed, straight)
    assert resumed.state_dict()["steps"] == dict.fromkeys(SHAPES, 3)


def test_tensors_without_gradient_stay() -> None:
    params, grads = data()
    kept = params["tall"].copy()
    optimizer = ss.optim.Muon(params, lr=0.1)
    for t in range(2):
        optimizer.step({**grads[t], "tall": None})
    assert_same_bits(params["tall"], kept)
    assert not optimizer.state["tall"]["momentum"].any()
    assert optimizer.state_dict()["steps"] == {**dict.fromkeys(SHAPES, 2), "tall": 0}
    others, same_grads = data()
    del others["tall"]
    alone = ss.optim.Muon(others, lr=0.1)
    for t in range(2):
        alone.step({name: same_grads[t][name] for name in others})
    assert_same_steps(alone, optimizer)


def test_groups_have_their_own_matrix_part() -> None:
    params, grads = data("f64", grad="f64")
    first = {"ns_steps": 2, "adjust_lr_fn": "match_rms_adamw", "nesterov": False}
    names = list(SHAPES)
    groups = [
        {"params": {name: params[name] for name in names[:3]}, **first},
        {name: params[name] for name in names[3:]},
    ]
    groups[1] = {"params": groups[1]}
    before = {name: x.copy() for name, x in params.items()}
    optimizer = ss.optim.Muon(groups, lr=0.1)
    optimizer.step(grads[0])
    for name, settings in {"wide": first, "row": {}}.items():
        want, _ = expected(before[name], np.zeros_like(before[name]), grads[0][name], lr=0.1, **settings)
        np.testing.assert_allclose(params[name], want, rtol=0, atol=1e-12)


def test_two_optimizers_side_by_side_fit_a_network() -> None:
    """Muon for the matrices, AdamW for the rest, one backward pass for both."""
    rng = np.random.default_rng(13)
    x = rng.standard_normal((200, 6))
    y = np.tanh(x @ rng.standard_normal((6, 3))) + 0.5
    weights = {"w1": rng.standard_normal((6, 16)) * 0.3, "w2": rng.standard_normal((16, 3)) * 0.3}
    biases = {"b1": np.zeros(16), "b2": np.zeros(3)}
    matrices, vectors = ss.optim.Muon(weights, lr=0.02, weight_decay=0.0), ss.optim.AdamW(biases, lr=0.02)
    losses = []
    for _ in range(150):
        hidden = np.tanh(x @ weights["w1"] + biases["b1"])
        error = hidden @ weights["w2"] + biases["b2"] - y
        losses.append(float((error**2).mean()))
        error = error * (2 / error.size)
        back = error @ weights["w2"].T * (1 - hidden**2)
        matrices.step({"w1": x.T @ back, "w2": hidden.T @ error})
        vectors.step({"b1": back.sum(0), "b2": error.sum(0)})
    assert losses[-1] < 0.03 * losses[0]
