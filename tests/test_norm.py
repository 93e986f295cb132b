"""Norms of rows against the oracle bit for bit, the golden vectors and PyTorch's conventions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from helpers import LAYOUTS, assert_same_bits, laid_out
from reference_norm import RowNorm
from reference_storage import DTYPES, compute_type

GOLDEN = Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "norm.json").read_text())
SHAPES = [(1, 1), (3, 5), (2, 64), (9, 63), (9, 80), (17, 130), (5, 511), (4, 513), (3, 4097), (1, 70_001), (70, 1030)]
KINDS = {"layer": ("deviation", 1e-5), "rms": ("root_mean_square", 1e-6)}

Array = np.ndarray[Any, Any]


def close(got: Array | None, want: Array, tolerance: float, least: float, what: str) -> None:
    assert got is not None
    assert got.shape == want.shape
    limit = tolerance * max(float(np.abs(want).max(initial=0.0)), least)
    assert np.abs(got.astype(np.float64) - want).max(initial=0.0) <= limit, what


def run_golden(
    case: dict[str, Any], x: Array, dy: Array, params: list[Array], fields: dict[str, Array]
) -> list[Array | None]:
    norm, op = ss.norm, case["op"]
    if op == "layer_norm":
        y, saved = norm.layer_norm(x, *params, eps=case["eps"])
        return [y, *norm.layer_norm_backward(dy, saved)]
    if op == "rms_norm":
        y, saved = norm.rms_norm(x, *params, eps=case["eps"])
        return [y, *norm.rms_norm_backward(dy, saved)]
    if op == "group_norm":
        y, saved = norm.group_norm(x, *params, groups=case["groups"], eps=case["eps"])
        return [y, *norm.group_norm_backward(dy, saved)]
    if op == "instance_norm":
        y, saved = norm.instance_norm(x, *params, eps=case["eps"])
        return [y, *norm.instance_norm_backward(dy, saved)]
    if op == "batch_norm":
        running = [np.zeros(x.shape[1], x.dtype), np.ones(x.shape[1], x.dtype)]
        if not case["training"]:
            running = [fields[name].astype(x.dtype) for name in ("running_mean", "running_var")]
        y, saved = norm.batch_norm(x, *params, *running, training=case["training"], eps=case["eps"])
        return [y, *norm.batch_norm_backward(dy, saved), *running]
    y, saved = norm.weight_norm(x, params[0], axis=case["dim"])
    return [y, *norm.weight_norm_backward(dy, saved)]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_golden(case: dict[str, Any], dtype: str) -> None:
    with np.load(GOLDEN / "norm.npz") as arrays:
        fields = {key.split("/")[1]: arrays[key] for key in arrays if key.split("/")[0] == case["case"]}
    x, dy = (fields[name].astype(DTYPES[dtype]) for name in ("x", "dy"))
    names = [f"p{i}" for i in range(len(case["params"]))]
    got = run_golden(case, x, dy, [fields[name].astype(DTYPES[dtype]) for name in names], fields)
    narrow = 1e-5 if "offset" in case["case"] else 2e-6
    tolerance = 1e-12 if dtype == "f64" else narrow
    # A row of one element has gradients that are 0, of which the golden vectors keep some rounding.
    least = float(np.abs(x).max()) if x.shape[-1] == 1 else 0.0
    wanted = [fields["y"], fields["dx"], *(fields[f"d{name}"] for name in names)]
    wanted += [fields[name] for name in ("running_mean", "running_var") if name in fields]
    for k, want in enumerate(wanted):
        close(got[k], want.reshape(np.shape(got[k])), tolerance, least, f"{case['case']} {k}")


def make(shape: tuple[int, ...], dtype: str, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    rng = np.random.default_rng(seed)
    compute = compute_type(DTYPES[dtype])
    x, dy = (rng.standard_normal(shape).astype(np.float32).astype(DTYPES[dtype]) for _ in range(2))
    weight, bias = (rng.standard_normal(shape[-1]).astype(compute) for _ in range(2))
    return (x * DTYPES[dtype].type(2) + DTYPES[dtype].type(1)).astype(DTYPES[dtype]), dy, weight, bias


def check_rows(kind: str, shape: tuple[int, int], dtype: str, affine: bool) -> None:
    x, dy, weight, bias = make(shape, dtype)
    divisor, eps = KINDS[kind]
    oracle, w = RowNorm(divisor, eps), weight if affine else None
    b = bias if affine and kind == "layer" else None
    forward, backward = getattr(ss.norm, f"{kind}_norm"), getattr(ss.norm, f"{kind}_norm_backward")
    y, saved = forward(x, *(p for p in (w, b) if p is not None))
    want, mean, rstd = oracle.forward(x, w, b)
    assert_same_bits(saved.mean, mean, "mean")
    assert_same_bits(saved.rstd, rstd, "rstd")
    assert_same_bits(y, want, "y")
    dx, *params = backward(dy, saved)
    assert_same_bits(dx, oracle.backward(dy, x, w, mean, rstd), "dx")
    if affine:
        for got, sums in zip(params, oracle.by_place(dy, x, mean, rstd, None, 1), strict=False):
            assert_same_bits(got, sums.astype(weight.dtype), "sums")


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_equal_the_oracle(kind: str, shape: tuple[int, int], dtype: str, affine: bool) -> None:
    check_rows(kind, shape, dtype, affine)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_do_not_matter(layout: str) -> None:
    x, dy, weight, bias = make((37, 130), "f32")
    y, saved = ss.norm.layer_norm(x, weight, bias)
    gradients = ss.norm.layer_norm_backward(dy, saved)
    out, dx = laid_out(np.zeros_like(x), layout), laid_out(np.zeros_like(x), layout)
    got, saved = ss.norm.layer_norm(laid_out(x, layout), weight, bias, out=out)
    assert got is out
    assert_same_bits(out, y)
    again = ss.norm.layer_norm_backward(laid_out(dy, layout), saved, out=(dx, None, None))
    assert again[0] is dx
    for a, b in zip(again, gradients, strict=True):
        assert_same_bits(a, b)


def test_output_in_the_place_of_the_input() -> None:
    x, dy, weight, bias = make((9, 700), "f32")
    y, saved = ss.norm.layer_norm(x, weight, bias)
    inplace = x.copy()
    assert_same_bits(ss.norm.layer_norm(inplace, weight, bias, out=inplace)[0], y)
    buffer = np.empty((10, 700), np.float32)
    buffer[1:] = x
    _, lost = ss.norm.layer_norm(buffer[1:], weight, bias, out=buffer[:-1])
    assert_same_bits(buffer[:-1], y)
    with pytest.raises(ValueError, match="layer_norm_backward: saved must hold x"):
        ss.norm.layer_norm_backward(dy, lost)
    dx = ss.norm.layer_norm_backward(dy, saved)[0]
    assert_same_bits(ss.norm.layer_norm_backward(dy, saved, out=(dy, None, None))[0], dx)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 130), (1, 70_001)], ids=str)
def test_residual_equals_the_unfused_sequence(kind: str, dtype: str, shape: tuple[int, int]) -> None:
    x, residual, weight, bias = make(shape, dtype)
    params = (weight, bias) if kind == "layer" else (weight,)
    compute = compute_type(DTYPES[dtype])
    h = (x.astype(compute) + residual.astype(compute)).astype(DTYPES[dtype])
    want, other = getattr(ss.norm, f"{kind}_norm")(h, *params)
    y, total, saved = getattr(ss.norm, f"add_{kind}_norm")(x, residual, *params)
    assert_same_bits(total, h)
    assert_same_bits(y, want)
    dy, dh = make(shape, dtype, 1)[0], make(shape, dtype, 2)[1]
    plain = getattr(ss.norm, f"{kind}_norm_backward")(dy, other)
    fused = getattr(ss.norm, f"add_{kind}_norm_backward")(dy, saved, dh)
    divisor, eps = KINDS[kind]
    wanted = RowNorm(divisor, eps).backward(dy, h, weight, saved.mean, saved.rstd, dh)
    assert_same_bits(fused[0], wanted)
    for a, b in zip(fused[1:], plain[1:], strict=True):
        assert_same_bits(a, b)
    inplace = x.copy()
    y, total, _ = getattr(ss.norm, f"add_{kind}_norm")(inplace, residual, *params, out=(None, inplace))
    assert total is inplace
    assert_same_bits(total, h)
    assert_same_bits(y, want)
