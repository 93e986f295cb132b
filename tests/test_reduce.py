"""Fixed-shape sums and the largest magnitude equal the oracle at every level, as do norms and clipping."""

import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import stepsmith as ss
from battery import REDUCED, REDUCED_LARGE, REDUCTIONS, SHAPE, THREADS, layouts, reduced_data
from helpers import assert_same_bits, different, values
from reference_reduce import clip_factor
from reference_reduce import reduce as oracle
from reference_storage import BFLOAT16, DTYPES, compute_type, decode, encode
from reference_sums import fixed_sum
from stepsmith import _core

GOLDEN = Path(__file__).parent / "golden"
ARRAYS = np.load(GOLDEN / "layers.npz")
CLIPS = [row for row in json.loads((GOLDEN / "layers.json").read_text()) if row["op"] == "clip_grad_norm"]
SOME = [np.array([3.0, -4.0], np.float32), np.array([[12.0]], np.float64)]


@cache
def flat_oracle(dtype: str, n: int, kind: str) -> str:
    return oracle([reduced_data(dtype, n)], kind).hex()


@pytest.mark.parametrize("dtype", DTYPES)
def test_flat_reductions_equal_the_oracle_at_any_thread_count(battery, level, dtype) -> None:
    report = battery("reduce", level)["reductions"]
    assert report["isa"] == level
    results = report["results"]
    for n in (*REDUCED, REDUCED_LARGE):
        kinds = REDUCTIONS if n < REDUCED_LARGE or dtype == "f32" else ("sum_squares",)
        for kind in kinds:
            want = flat_oracle(dtype, n, kind)
            assert n < 127 or float.fromhex(want) != 0.0
            assert {results[f"{dtype} {n} {kind} {count}"] for count in THREADS} == {want}, (n, kind)


@pytest.mark.parametrize("dtype", DTYPES)
def test_reductions_do_not_depend_on_the_layout(battery, level, dtype) -> None:
    results = battery("reduce", level)["reductions"]["results"]
    array = reduced_data(dtype, math.prod(SHAPE)).reshape(SHAPE)
    for kind in REDUCTIONS:
        want = oracle([array], kind).hex()
        assert {results[f"{dtype} {name} {kind}"] for name in layouts(array)} == {want}
    row = np.broadcast_to(array[0, 0], (5, 7, SHAPE[2]))
    assert results[f"{dtype} broadcast"] == oracle([row], "sum").hex()
    mixed = [array[0], array[1].astype(np.float64), array[2, :0], array[3].T]
    assert results[f"{dtype} mixed"] == oracle(mixed, "sum_squares").hex()


def test_reductions_ran_on_the_threads_asked_for(battery, level) -> None:
    threads = {(n, count): ran for n, count, ran in battery("reduce", level)["reductions"]["threads"]}
    for count in THREADS:
        assert threads[524289, count] == threads[REDUCED_LARGE, count] == count
        assert threads[4097, count] == 1


def test_the_oracle_s_order_matters() -> None:
    """Another tree gives other bits, so the comparisons above can fail; and the tree is the documented one."""
    x = reduced_data("f64", 98305)
    exact = math.fsum(x)
    assert fixed_sum(x) != np.cumsum(x)[-1]
    assert abs(fixed_sum(x) - exact) < 1e-9
    ones = np.zeros(4097)
    ones[[0, 64, 128, 4096]] = [1.0, 2.0**-53, 2.0**-53, 2.0**-52]
    # Lane 0 rounds 1 + 2^-53 away, lane 64 folds onto it and is rounded away too; the second block counts.
    assert fixed_sum(ones) == 1.0 + 2.0**-52
    assert _core.reduce("test", ["x"], [ones], "sum") == 1.0 + 2.0**-52


@pytest.mark.parametrize("dtype", DTYPES)
def test_max_abs_finds_nan_and_infinity_anywhere(dtype) -> None:
    for n in (1, 63, 65, 4097, 98305):
        for place in {0, n // 2, n - 1}:
            x = values(np.random.default_rng(3), n, DTYPES[dtype])
            x[place] = -np.inf
            assert _core.reduce("test", ["x"], [x], "max_abs") == math.inf
            x[-1 - place] = np.nan
            assert math.isnan(_core.reduce("test", ["x"], [x], "max_abs"))


@pytest.mark.parametrize("case", CLIPS, ids=lambda row: row["case"])
def test_clip_grad_norm_equals_golden(case) -> None:
    grads = {f"g{i}": ARRAYS[f"{case['case']}/g{i}"].copy() for i in range(3)}
    norm_type = float(case["norm_type"])
    total = ss.clip_grad_norm(grads, case["max_norm"], norm_type)
    assert total == pytest.approx(float(ARRAYS[f"{case['case']}/total"]), rel=2e-6)
    assert total > case["max_norm"]
    for i, grad in enumerate(grads.values()):
        want = ARRAYS[f"{case['case']}/c{i}"]
        assert different(grad, ARRAYS[f"{case['case']}/g{i}"]).size > 0
        np.testing.assert_allclose(grad, want, rtol=0, atol=2e-6 * np.abs(want).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm_type", [1.0, 2.0, math.inf])
def test_clip_grad_norm_equals_the_oracle(dtype, norm_type) -> None:
    rng = np.random.default_rng(5)
    grads = [values(rng, shape, DTYPES[dtype]) for shape in ((67, 3), (40000,), (), (0, 4))]
    grads += [values(rng, (9, 7), np.float64).T, values(rng, 77, BFLOAT16)[::-2]]
    before = [grad.copy() for grad in grads]
    kind = {1.0: "sum_abs", 2.0: "sum_squares", math.inf: "max_abs"}[norm_type]
    norm = oracle(before, kind)
    norm = math.sqrt(norm) if norm_type == 2.0 else norm
    assert ss.grad_norm([*grads, None], norm_type) == norm
    assert ss.clip_grad_norm(grads, norm / 3, norm_type) == norm
    factor = clip_factor(norm / 3, norm)
    for got, grad in zip(grads, before):
        compute = compute_type(grad.dtype)
        assert_same_bits(got, encode(decode(grad, compute) * compute(factor), grad.dtype))
    again = [grad.copy() for grad in grads]
    ss.clip_grad_norm(grads, 2 * norm, norm_type)
    for got, want in zip(grads, again):
        assert_same_bits(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_clip_grad_value_equals_the_oracle(dtype) -> None:
    grads = [values(np.random.default_rng(7), n, DTYPES[dtype]) for n in (0, 1, 63, 65, 70001)]
    grads[3][:4] = [np.nan, np.inf, -np.inf, -0.0]
    before = [grad.copy() for grad in grads]
    ss.clip_grad_value(grads, 0.3)
    assert different(grads[4], before[4]).size > 100
    for got, grad in zip(grads, before):
        x = decode(grad, compute_type(grad.dtype))
        limit = x.dtype.type(0.3)
        x = np.where(x > limit, limit, x)
        assert_same_bits(got, encode(np.where(x < -limit, -limit, x), grad.dtype))


def test_a_norm_that_is_not_finite_is_said_or_spreads() -> None:
    grads = [np.array([1.0, np.nan], np.float32), np.array([1.0], np.float32)]
    with pytest.raises(ss.NonFiniteError, match=r"^clip_grad_norm: the norm of grads must be finite, got nan$"):
        ss.clip_grad_norm(grads, 1.0, error_if_nonfinite=True)
    assert grads[1].tolist() == [1.0]
    assert math.isnan(ss.clip_grad_norm(grads, 1.0))
    assert np.isnan(grads[1]).all()
    huge = [np.array([1e300, 1e300])]
    assert ss.grad_norm(huge) == math.inf
    assert ss.grad_norm(huge, math.inf) == 1e300


def test_no_gradients_have_norm_zero() -> None:
    assert ss.grad_norm([]) == 0.0
    assert ss.grad_norm({"a": None}) == 0.0
    assert ss.clip_grad_norm([None, np.zeros(0, np.float32)], 1.0) == 0.0


READ_ONLY = np.ones(3, np.float32)
READ_ONLY.flags.writeable = False
TWICE = np.ones(6, np.float32)
BAD = [
    (lambda: ss.grad_norm(SOME, 3.0), ValueError, "grad_norm: norm_type must be 1, 2 or inf, got 3.0"),
    (
        lambda: ss.clip_grad_norm(SOME, -1.0),
        ValueError,
        "clip_grad_norm: max_norm must be finite and at least 0, got -1.0",
    ),
    (lambda: ss.clip_grad_norm(SOME, math.nan), ValueError, "max_norm must be finite and at least 0, got nan"),
    (lambda: ss.clip_grad_norm(SOME, "1"), TypeError, "clip_grad_norm: max_norm must be a number, got '1'"),
    (lambda: ss.clip_grad_value(SOME, -0.5), ValueError, "clip_grad_value: clip_value must be finite and at least 0"),
    (lambda: ss.grad_norm([SOME[0], [1.0]]), TypeError, "grad_norm: grads['1'] must be a NumPy array"),
    (
        lambda: ss.grad_norm({"w": np.ones(3, int)}),
        TypeError,
        "grad_norm: grads['w'] must be float32, float64, bfloat16",
    ),
    (lambda: ss.grad_norm([SOME[0].astype(">f4")]), TypeError, "native byte order, got dtype('>f4')"),
    (lambda: ss.grad_norm([np.ma.ones(3)]), TypeError, "got a masked array"),
    (
        lambda: ss.clip_grad_norm([SOME[0], READ_ONLY], 1.0),
        ValueError,
        "grads['1'] must be writable, got a read-only array",
    ),
    (lambda: ss.clip_grad_value([SOME[0], READ_ONLY], 1.0), ValueError, "clip_grad_value: grads['1'] must be writable"),
    (
        lambda: ss.clip_grad_norm([TWICE[:4], TWICE[3:]], 1.0),
        ValueError,
        "grads['0'] and grads['1'] must not share elements",
    ),
    (
        lambda: ss.clip_grad_norm([np.lib.stride_tricks.as_strided(TWICE, (3, 3), (4, 4))], 1.0),
        ValueError,
        "clip_grad_norm: grads['0'] must not repeat elements",
    ),
    (lambda: _core.reduce("f", ["x"], [SOME[0]], "mean"), ValueError, "sum, sum_abs, sum_squares, max_abs, got 'mean'"),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=range(len(BAD)))
def test_bad_arguments_are_named_and_nothing_is_written(call, kind, message) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert [x.tolist() for x in SOME] == [[3.0, -4.0], [[12.0]]]
    assert (TWICE == 1).all()
    assert (READ_ONLY == 1).all()
