"""Activations of arrays against the oracle bit for bit, the golden vectors, and what they refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_activation as oracle
from helpers import LAYOUTS, assert_same_bits, laid_out
from reference_storage import DTYPES, compute_type
from stepsmith import _core, nn

GOLDEN = Path(__file__).parent / "golden"
KINDS = list(_core.ACTIVATIONS)
LAYERS: dict[str, nn.Module] = {
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU("tanh"),
    "silu": nn.SiLU(),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "softplus": nn.Softplus(),
    "hardtanh": nn.Hardtanh(),
    "softsign": nn.Softsign(),
    "relu": nn.ReLU(),
    "leaky_relu": nn.LeakyReLU(),
    "elu": nn.ELU(),
}
SHAPES = [
    (1, 1, 1),
    (3, 5, 1),
    (700, 10, 1),
    (9, 4, 7),
    (5, 2049, 1),
    (2, 3, 3001),
    (40, 3000, 1),
    (3, 5, 14_000),
    (0, 4, 3),
]

Array = np.ndarray[Any, Any]
activate, activate_backward = nn.functional.activate, nn.functional.activate_backward


def make(shape: tuple[int, ...], dtype: str, axis: int = 1) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(0)
    x, dy = ((rng.standard_normal(shape) * 3).astype(np.float32).astype(DTYPES[dtype]) for _ in range(2))
    return x, dy, rng.standard_normal(shape[axis]).astype(compute_type(DTYPES[dtype]))


def check(kind: str, x: Array, dy: Array, bias: Array | None, shape: tuple[int, int, int], **options: Any) -> None:
    scalars = {name: value for name, value in options.items() if name != "axis"}
    y, saved = activate(x, kind, bias, **options)
    assert_same_bits(y.reshape(shape), oracle.forward(kind, x.reshape(shape), bias, **scalars), "y")
    dx, dbias = activate_backward(dy, saved)
    want, sums = oracle.backward(kind, dy.reshape(shape), x.reshape(shape), bias, **scalars)
    assert_same_bits(dx.reshape(shape), want, "dx")
    assert (dbias is None) == (bias is None)
    if dbias is not None and bias is not None:
        assert_same_bits(dbias, sums.astype(bias.dtype), "dbias")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_equals_the_oracle(kind: str, dtype: str) -> None:
    x, dy, bias = make((37, 130, 1), dtype)
    check(kind, x, dy, None, (37, 130, 1))
    check(kind, x, dy, bias, (37, 130, 1), axis=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_equals_the_oracle(shape: tuple[int, int, int], dtype: str) -> None:
    x, dy, bias = make(shape, dtype)
    check("silu", x, dy, bias, shape, axis=1)
    check("silu", x, dy, None, shape)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 80), st.integers(1, 90), st.sampled_from(KINDS), st.sampled_from(list(DTYPES))
)
def test_any_shape_equals_the_oracle(samples: int, channels: int, inner: int, kind: str, dtype: str) -> None:
    x, dy, bias = make((samples, channels, inner), dtype)
    check(kind, x, dy, bias, (samples, channels, inner), axis=1)


@pytest.mark.parametrize(
    ("kind", "scalars"),
    [
        ("leaky_relu", {"negative_slope": 0.3}),
        ("elu", {"alpha": 1.7}),
        ("hardtanh", {"min_val": -0.5, "max_val": 2.0}),
        ("softplus", {"beta": 2.0, "threshold": 1.0}),
    ],
)
def test_scalars_reach_the_kernel(kind: str, scalars: dict[str, float]) -> None:
    x, dy, _ = make((5, 33, 1), "f32")
    inner = {"inv_beta": 0.5} if kind == "softplus" else {}
    y, saved = activate(x, kind, **scalars)
    assert_same_bits(y, oracle.forward(kind, x, None, **scalars, **inner))
    assert_same_bits(activate_backward(dy, saved)[0], oracle.backward(kind, dy, x, None, **scalars, **inner)[0])
    assert (y != activate(x, kind)[0]).any()


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("kind", KINDS)
def test_golden(kind: str, dtype: str) -> None:
    with np.load(GOLDEN / "layers.npz") as arrays:
        x, dy, want, dx = (arrays[f"act-{kind}/{name}"] for name in ("in0", "dy", "y", "d0"))
    tolerance = {"f64": 1e-12, "f32": 2e-6}[dtype]
    y, saved = activate(x.astype(DTYPES[dtype]), kind)
    got = activate_backward(dy.astype(DTYPES[dtype]), saved)[0]
    assert np.abs(y - want).max() <= tolerance * np.abs(want).max()
    assert np.abs(got - dx).max() <= tolerance * np.abs(dx).max()


def test_every_kind_has_golden_vectors_and_a_layer() -> None:
    names = {case["case"] for case in json.loads((GOLDEN / "layers.json").read_text())}
    assert {f"act-{kind}" for kind in KINDS} <= names
    assert set(LAYERS) == set(KINDS)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_is_its_function(kind: str) -> None:
    x, dy, _ = make((7, 33, 1), "f32")
    layer = LAYERS[kind]
    y, saved = activate(x, kind)
    assert_same_bits(layer(x, training=True), y)
    assert_same_bits(layer.backward(dy), activate_backward(dy, saved)[0])
    assert layer.backward(dy, False) is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_matter(layout: str) -> None:
    x, dy, bias = make((9, 6, 50), "f32")
    y, saved = activate(x, "gelu", bias, axis=1)
    dx, dbias = activate_backward(dy, saved)
    out, grad = laid_out(np.zeros_like(x), layout), laid_out(np.zeros_like(x), layout)
    got, saved = activate(laid_out(x, layout), "gelu", laid_out(bias, layout), axis=-2, out=out)
    assert got is out
    assert_same_bits(out, y)
    again = activate_backward(laid_out(dy, layout), saved, out=(grad, None))
    assert again[0] is grad
    assert_same_bits(grad, dx)
    assert_same_bits(again[1], dbias)


@pytest.mark.parametrize("dtype", DTYPES)
def test_output_in_the_place_of_the_input(dtype: str) -> None:
    x, dy, bias = make((50, 130), dtype)
    y, saved = activate(x, "tanh", bias)
    dx, _ = activate_backward(dy, saved)
    inplace = x.copy()
    got, lost = activate(inplace, "tanh", bias, out=inplace)
    assert got is inplace
    assert_same_bits(inplace, y)
    with pytest.raises(ValueError, match="activate_backward: saved must hold x"):
        activate_backward(dy, lost)
    buffer = np.empty((51, 130), x.dtype)
    buffer[1:] = x
    assert_same_bits(activate(buffer[1:], "tanh", bias, out=buffer[:-1])[0], y)
    for target in (dy, x):
        kept = target.copy()
        assert_same_bits(activate_backward(dy, saved, out=(target, None))[0], dx)
        target[...] = kept


def test_nan_and_infinity_travel() -> None:
    x = np.array([np.nan, np.inf, -np.inf])
    for kind in KINDS:
        y, saved = activate(x, kind)
        dx, _ = activate_backward(np.ones(3), saved)
        assert np.isnan([y[0], dx[0]]).all()
        assert not np.isnan([y[1:], dx[1:]]).any(), kind


def test_refused_before_anything_is_written() -> None:
    x, out = np.ones((3, 4)), np.zeros((3, 4))
    bad: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (TypeError, "activate: x must be a NumPy array", {"x": [1.0]}),
        (
            TypeError,
            "activate: x must be float32, float64, bfloat16 or float16",
            {"x": np.ones(3, np.int64), "out": None},
        ),
        (ValueError, "activate: kind must be one of elu, .*, got 'mish'", {"kind": "mish"}),
        (TypeError, "activate: relu takes the scalars none, got alpha", {"kind": "relu", "alpha": 1.0}),
        (TypeError, "activate: alpha must be a number, got 'a'", {"kind": "elu", "alpha": "a"}),
        (ValueError, "activate: beta must be finite and more than 0, got 0", {"kind": "softplus", "beta": 0.0}),
        (ValueError, "activate: min_val must be at most max_val, 1.0, got 2.0", {"kind": "hardtanh", "min_val": 2.0}),
        (ValueError, r"activate: bias must have shape \(4,\), got \(3,\)", {"bias": np.ones(3)}),
        (TypeError, "activate: bias must have dtype float64, got float32", {"bias": np.ones(4, np.float32)}),
        (ValueError, "activate: axis must be at most 1, got 2", {"bias": np.ones(4), "axis": 2}),
        (ValueError, r"activate: out must have shape \(3, 4\), got \(4, 3\)", {"out": np.ones((4, 3))}),
        (TypeError, "activate: out must have dtype float64, got float32", {"out": np.ones((3, 4), np.float32)}),
        (
            ValueError,
            "activate: out must not repeat elements",
            {"out": np.lib.stride_tricks.as_strided(np.ones(4), (3, 4), (0, 8))},
        ),
    ]
    for error, message, other in bad:
        with pytest.raises(error, match=message):
            activate(**{"x": x, "kind": "gelu", "out": out, **other})
    _, saved = activate(x, "gelu")
    with pytest.raises(TypeError, match="activate_backward: dy must have the dtype of x, float64, got float32"):
        activate_backward(np.ones((3, 4), np.float32), saved, out=(out, None))
    layer = nn.GELU()
    layer(x)
    with pytest.raises(TypeError, match="GELU: dy must have the dtype of x"):
        layer.backward(np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match="GELU: approximate must be one of none, tanh, got 'erf'"):
        nn.GELU("erf")
    assert not out.any()
