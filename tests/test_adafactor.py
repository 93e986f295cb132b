"""Adafactor: means over rows and columns of every shape, their bits, their state; zero gradients move nothing."""

import math
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from helpers import LAYOUTS, Array, assert_same_bits, laid_out, values
from reference import Reference
from reference_storage import DTYPES
from stepsmith._core import CHUNK

# Sums of columns go by 64 rows; rows are summed by 128 lanes in blocks of 4,096.
HEIGHTS = (1, 63, 64, 65, 128, 130)
WIDTHS = (1, 127, 128, 129, 4095, 4096, 4097, 9000)
SHAPES = [
    *[(height, 5) for height in HEIGHTS],
    *[(3, width) for width in WIDTHS],
    (65, 4097),
    (66, 100),
    (65, 128),
    (130, 129),
    (4097, 3),
    (5, 65, 7),
    (3, 1, 130),
    (2, 3, 66, 5),
    (2, 3, 3, 3),
    (1, 1),
    (7, 1, 1),
    (),
    (1,),
    (4099,),
]
EMPTY = [(0,), (0, 3), (3, 0), (0, 2, 3), (2, 0, 3), (2, 3, 0)]
SETTINGS = {"lr": 0.3, "weight_decay": 0.1, "d": 0.5}
THREADS = (1, 2, 3, 7)


def drawn(shapes: Any, dtype: str = "f32", steps: int = 3) -> tuple[dict[str, Array], list[dict[str, Array]]]:
    rng = np.random.default_rng(3)
    params = {str(shape): values(rng, shape, DTYPES[dtype]) for shape in shapes}
    return params, [{name: values(rng, x.shape, DTYPES[dtype]) for name, x in params.items()} for _ in range(steps)]


def assert_equals_the_oracle(
    rule: str, params: Any, all_grads: Any, threads: int = 1, moves: bool = True, **options: Any
) -> None:
    reference = Reference(rule, params, **options)
    start = {name: x.copy() for name, x in params.items()}
    optimizer = ss.optim.REGISTRY[rule](params, on_nonfinite="propagate", **options)
    for grads in all_grads:
        norm = reference.step(grads)
        with ss.threads(threads):
            assert optimizer.step(grads).grad_norm == norm
        for name, param in params.items():
            assert_same_bits(param, reference.params[name], f"{name} {threads}")
            assert list(optimizer.state[name]) == list(reference.state[name])
            for slot, array in optimizer.state[name].items():
                assert_same_bits(array, reference.state[name][slot], f"{name} {slot} {threads}")
    assert not moves or all((param != start[name]).any() for name, param in params.items() if param.size)


@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_shape_equals_the_oracle(dtype, state_dtype) -> None:
    params, grads = drawn(SHAPES + EMPTY, dtype, steps=2)
    assert_equals_the_oracle("adafactor", params, grads, threads=3, state_dtype=state_dtype, **SETTINGS)


@pytest.mark.parametrize("threads", THREADS)
def test_bits_are_those_of_any_thread_count(threads) -> None:
    """One matrix of more than a chunk, a batch of them, a vector; alone they are large enough for several threads."""
    shapes = [(301, 331), (5, 70, 131), (CHUNK + 1,), (CHUNK + 3, 1), (1, CHUNK + 3)]
    assert_equals_the_oracle("adafactor", *drawn(shapes, steps=2), threads=threads, max_norm=1.0, **SETTINGS)
    assert ss._core.info()["last_threads"] == threads


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_means_and_norms_count_in_c_order(dtype, layout) -> None:
    """So do the stored means, which have the parameter's own shape if a matrix has one row or one column."""
    shapes = [(66, 131), (3, 65, 9), (131,), (2, 1, 3), (3, 5, 1), (2, 3, 1, 4), (5, 1), (1, 5), (2, 3, 1, 1)]
    params, grads = drawn(shapes, dtype)
    clothed = {name: laid_out(x, layout) for name, x in params.items()}
    other = {name: laid_out(x, LAYOUTS[::-1][LAYOUTS.index(layout)]) for name, x in grads[0].items()}
    assert_equals_the_oracle("adafactor", clothed, [other, grads[1]], **SETTINGS)


def test_everything_together_equals_the_plain_formula() -> None:
    """Not the oracle's lines: NumPy's means, in float64."""
    rng = np.random.default_rng(5)
    p, variances = rng.standard_normal((4, 6, 5)), [np.zeros((4, 6)), np.zeros((4, 5))]
    param = p.copy()
    optimizer = ss.optim.Adafactor([param], lr=0.6, eps=(1e-9, 0.5), d=0.7, weight_decay=0.1)
    for t in range(1, 6):
        g = rng.standard_normal(p.shape)
        beta2 = 1 - t**-0.8
        variances = [beta2 * v + (1 - beta2) * (g * g).mean(axis) for v, axis in zip(variances, (2, 1))]
        rows, columns = variances
        v = rows[:, :, None] * columns[:, None, :] / rows.mean(1)[:, None, None]
        u = g / np.sqrt(v)
        alpha = max(0.5, math.sqrt((p * p).mean())) * min(0.6, 1 / math.sqrt(t))
        p = p * (1 - 0.6 * 0.1) - alpha * u / max(1, math.sqrt((u * u).mean()) / 0.7)
        optimizer.step([g])
        np.testing.assert_allclose(param, p, rtol=1e-11)
    np.testing.assert_allclose(optimizer.state["0"]["row_var"][..., 0], rows, rtol=1e-12)
    np.testing.assert_allclose(optimizer.state["0"]["col_var"][:, 0], columns, rtol=1e-12)


@pytest.mark.parametrize("eps1", [None, 0.0, 1e-30, 1e-200, 1e-3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_gradients_move_nothing(dtype, eps1) -> None:
    """Neither before nor after other gradients, for an ε1 whose square is 0 too; nor do rows and columns of zeros."""
    params, grads = drawn(SHAPES, dtype)
    optimizer = ss.optim.Adafactor(params, lr=0.3, eps=(eps1, 1e-3))
    zeros = {name: np.zeros_like(x) for name, x in params.items()}
    for t in range(3):
        kept = {name: x.copy() for name, x in params.items()}
        optimizer.step(zeros)
        for name, x in params.items():
            assert_same_bits(x, kept[name], name)
        if t == 1:
            for x in grads[0].values():
                if x.ndim > 1:
                    x[..., 0, :] = 0
                    x[..., :, -1] = 0
        optimizer.step(grads[0])
        for name, x in params.items():
            assert np.isfinite(x.astype(float)).all(), name
            if t == 1 and x.ndim > 1:
                assert_same_bits(x[..., 0, :], kept[name][..., 0, :], name)
                assert_same_bits(x[..., :, -1], kept[name][..., :, -1], name)


def test_state_is_shaped_as_the_means() -> None:
    params, _ = drawn([(5, 65, 7), (2, 3, 4, 5), (3, 4), (9,), ()])
    for state_dtype in ("float32", "bfloat16"):
        state = ss.optim.Adafactor(params, state_dtype=state_dtype).state
        shapes = {name: {slot: x.shape for slot, x in row.items()} for name, row in state.items()}
        assert shapes == {
            "(5, 65, 7)": {"row_var": (5, 65, 1), "col_var": (5, 1, 7)},
            "(2, 3, 4, 5)": {"row_var": (2, 3, 4, 1), "col_var": (2, 3, 1, 5)},
            "(3, 4)": {"row_var": (3, 1), "col_var": (1, 4)},
            "(9,)": {"variance": (9,)},
            "()": {"variance": ()},
        }
        assert {x.dtype.name for row in state.values() for x in row.values()} == {state_dtype}


@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16"])
def test_a_resumed_run_equals_a_straight_one(state_dtype) -> None:
    params, grads = drawn([(5, 65, 7), (130, 3), (9,)])
    grads[1]["(130, 3)"] = None
    again = {name: x.copy() for name, x in params.items()}
    straight = ss.optim.Adafactor(params, state_dtype=state_dtype, **SETTINGS)
    first = ss.optim.Adafactor(again, state_dtype=state_dtype, **SETTINGS)
    for t in range(3):
        straight.step(grads[t])
    first.step(grads[0])
    saved = first.state_dict()
    resumed = ss.optim.Adafactor(again, state_dtype=state_dtype)
    resumed.load_state_dict(saved)
    for t in (1, 2):
        resumed.step(grads[t])
    for name, x in params.items():
        assert_same_bits(again[name], x, name)
        for slot, array in straight.state[name].items():
            assert_same_bits(resumed.state[name][slot], array, name)
    assert resumed.state_dict()["steps"] == {"(5, 65, 7)": 3, "(130, 3)": 2, "(9,)": 3}
    saved["state"]["(130, 3)"]["row_var"] = np.zeros((130, 3), np.float32)
    with pytest.raises(ValueError, match=r"row_var'\] must be .* of shape \(130, 1\), got float32 of shape \(130, 3\)"):
        resumed.load_state_dict(saved)


def test_a_gradient_that_is_refused_leaves_the_means() -> None:
    params, grads = drawn([(66, 5), (9,)])
    optimizer = ss.optim.Adafactor(params)
    optimizer.step(grads[0])
    before = {name: {slot: x.copy() for slot, x in row.items()} for name, row in optimizer.state.items()}
    kept = {name: x.copy() for name, x in params.items()}
    grads[1]["(9,)"][3] = np.inf
    with pytest.raises(ss.NonFiniteError):
        optimizer.step(grads[1])
    for name, row in before.items():
        assert_same_bits(params[name], kept[name])
        for slot, x in row.items():
            assert_same_bits(optimizer.state[name][slot], x)
