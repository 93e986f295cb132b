"""Activations of CuPy arrays have the bits of the CPU's."""

from typing import Any

import numpy as np
import pytest

from helpers import assert_same_bits
from reference_storage import DTYPES, compute_type
from stepsmith import _core, nn

KINDS = list(_core.ACTIVATIONS)
SHAPES = [(1, 1, 1), (3, 5, 1), (4000, 10, 1), (9, 4, 7), (5, 2049, 1), (2, 3, 3001), (0, 4, 3)]
LARGE = [(40, 3000, 1), (3, 5, 14_000), (9, 70, 1001), (1, 33_000, 2), (900, 1200, 1), (4, 3, 100_001), (3, 5, 9001)]
activate, activate_backward = nn.functional.activate, nn.functional.activate_backward


def make(shape: tuple[int, ...], dtype: str, axis: int = 1) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal(shape) * 3 for _ in range(2))
    if dtype != "f64":  # whose digits show the order of a sum
        x, dy = (array.astype(np.float32).astype(DTYPES[dtype]) for array in (x, dy))
    odd = [np.nan, np.inf, -np.inf, 0.0, -0.0, 300.0, -300.0]
    x[:1].reshape(-1)[2:9] = odd[: max(x[:1].size - 2, 0)]
    return x, dy, rng.standard_normal(shape[axis]).astype(compute_type(DTYPES[dtype]))


def both(gpu: Any, kind: str, x: Any, dy: Any, bias: Any, **options: Any) -> None:
    """Forward and backward on the host and on the device."""
    y, saved = activate(x, kind, bias, **options)
    dx, dbias = activate_backward(dy, saved)
    own, own_saved = activate(gpu.asarray(x), kind, None if bias is None else gpu.asarray(bias), **options)
    own_dx, own_dbias = activate_backward(gpu.asarray(dy), own_saved)
    assert_same_bits(own.get(), y, "y")
    assert_same_bits(own_dx.get(), dx, "dx")
    assert (own_dbias is None) == (dbias is None)
    if dbias is not None:
        assert_same_bits(own_dbias.get(), dbias, "dbias")


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_equals_the_cpu(gpu: Any, kind: str, dtype: str) -> None:
    x, dy, bias = make((7, 131, 1), dtype)
    both(gpu, kind, x, dy, None)
    both(gpu, kind, x, dy, bias, axis=1)


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize("shape", [*SHAPES, *(pytest.param(shape, marks=pytest.mark.slow) for shape in LARGE)], ids=str)
def test_every_shape_equals_the_cpu(gpu: Any, shape: tuple[int, ...]) -> None:
    for dtype in ("f32", "f64", "bf16"):
        x, dy, bias = make(shape, dtype)
        both(gpu, "silu", x, dy, bias, axis=1)
        both(gpu, "relu", x, dy, None)


@pytest.mark.usefixtures("schedule")
def test_sums_of_long_runs_are_cut_as_the_cpu_cuts_them(gpu: Any) -> None:
    for dtype in ("f64", "bf16"):
        x, dy, bias = make((2, 3, 23_001), dtype)
        both(gpu, "relu", x, dy, bias, axis=1)


def test_scalars_reach_the_kernel(gpu: Any) -> None:
    x, dy, _ = make((5, 33), "f32")
    both(gpu, "leaky_relu", x, dy, None, negative_slope=0.3)
    both(gpu, "elu", x, dy, None, alpha=1.7)
    both(gpu, "hardtanh", x, dy, None, min_val=-0.5, max_val=2.0)
    both(gpu, "softplus", x, dy, None, beta=2.0, threshold=1.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_do_not_matter(gpu: Any, dtype: str) -> None:
    x, dy, bias = make((9, 6, 50), dtype)
    y, saved = activate(x, "gelu", bias, axis=1)
    dx, dbias = activate_backward(dy, saved)
    wide = gpu.zeros((9, 12, 103), x.dtype)
    for view in (lambda a: a[:, ::2, 1:101:2], lambda a: a[:, 5::-1, 50:0:-1], lambda a: a[:, 3:9, 53:]):
        own_x, own_dy, out = view(wide.copy()), view(wide.copy()), view(wide.copy())
        own_x[...], own_dy[...] = gpu.asarray(x), gpu.asarray(dy)
        wide_bias = gpu.zeros(12, bias.dtype)
        wide_bias[::2] = gpu.asarray(bias)
        got, own_saved = activate(own_x, "gelu", wide_bias[::2], axis=1, out=out)
        assert got is out
        assert_same_bits(out.get(), y)
        again, own_dbias = activate_backward(own_dy, own_saved, out=(out, None))
        assert again is out
        assert_same_bits(out.get(), dx)
        assert_same_bits(own_dbias.get(), dbias)


@pytest.mark.parametrize("dtype", DTYPES)
def test_output_in_the_place_of_the_input(gpu: Any, dtype: str) -> None:
    x, dy, bias = make((50, 130), dtype)
    y, saved = activate(x, "tanh", bias)
    dx, _ = activate_backward(dy, saved)
    own, own_dy, own_bias = gpu.asarray(x), gpu.asarray(dy), gpu.asarray(bias)
    inplace = own.copy()
    assert activate(inplace, "tanh", own_bias, out=inplace)[0] is inplace
    assert_same_bits(inplace.get(), y)
    buffer = gpu.empty((51, 130), x.dtype)
    buffer[1:] = own
    assert_same_bits(activate(buffer[1:], "tanh", own_bias, out=buffer[:-1])[0].get(), y)
    _, own_saved = activate(own, "tanh", own_bias)
    assert_same_bits(activate_backward(own_dy, own_saved, out=(own_dy, None))[0].get(), dx)


def test_refused_before_anything_is_written(gpu: Any) -> None:
    x, out, host = gpu.ones((3, 4)), gpu.zeros((3, 4)), np.ones((3, 4))
    on_gpu, on_host = (f"must be an array of {kind} as the other arrays are, got one of" for kind in ("CuPy", "NumPy"))
    for error, message, other in [
        (
            TypeError,
            f"activate: bias {on_gpu} NumPy",
            {"bias": np.ones(4)},
        ),
        (
            TypeError,
            f"activate: bias {on_host} CuPy",
            {"x": host, "bias": out[0]},
        ),
        (TypeError, f"activate: out {on_gpu} NumPy", {"out": host}),
        (TypeError, f"activate: out {on_host} CuPy", {"x": host}),
        (TypeError, "activate: x must be float32, float64, bfloat16 or float16", {"x": gpu.ones(3, np.int64)}),
        (ValueError, r"activate: bias must have shape \(4,\), got \(3,\)", {"bias": gpu.ones(3)}),
        (ValueError, r"activate: out must have shape \(3, 4\), got \(4, 3\)", {"out": gpu.ones((4, 3))}),
        (ValueError, "activate: out must not repeat elements", {"out": gpu.broadcast_to(gpu.ones(4), (3, 4))}),
    ]:
        with pytest.raises(error, match=message):
            activate(**{"x": x, "kind": "gelu", "out": out, **other})
    _, saved = activate(x, "gelu")
    with pytest.raises(TypeError, match=f"activate_backward: dy {on_gpu} NumPy"):
        activate_backward(host, saved, out=(out, None))
    assert not out.get().any()


def test_the_kinds_are_those_of_the_core() -> None:
    from stepsmith.cuda import activation

    assert set(activation.KINDS) == set(KINDS)
