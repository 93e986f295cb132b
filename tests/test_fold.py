"""A batch norm folded into the layer before it computes the same."""

from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
ULP = {np.float32: 2e-6, np.float64: 4e-15}


def trained(features: int, dtype: type, **settings: Any) -> ss.nn.BatchNorm:
    """A batch norm whose every number counts."""
    bn = ss.nn.BatchNorm(features, dtype=dtype, **settings)
    rng = np.random.default_rng(features)
    bn.running_mean[...] = rng.normal(size=features) * 3
    bn.running_var[...] = rng.uniform(0.01, 4.0, features)
    for param in bn.params.values():
        param[...] = rng.normal(size=features)
    return bn


@pytest.mark.parametrize("dtype", ULP)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_folded_linear_equals_linear_and_batch_norm(dtype: type, bias: bool, affine: bool) -> None:
    layer, bn = ss.nn.Linear(7, 5, bias, rng=1, dtype=dtype), trained(5, dtype, affine=affine, eps=1e-3)
    if bias:
        layer.bias[...] = RNG.normal(size=5)
    x = RNG.normal(size=(33, 7)).astype(dtype)
    want = bn(layer(x)).copy()
    before = layer.weight.copy()
    folded = ss.nn.Linear(7, 5, dtype=dtype, rng=0)
    folded.weight[...], folded.bias[...] = ss.norm.fold_batch_norm(layer.weight, layer.bias, bn)
    np.testing.assert_allclose(folded(x), want, rtol=0, atol=ULP[dtype] * np.abs(want).max())
    assert (layer.weight == before).all()
    assert np.abs(want - layer(x)).max() > 0.1


@pytest.mark.parametrize("dtype", ULP)
def test_folded_convolution_equals_convolution_and_batch_norm(dtype: type) -> None:
    weight, bias, bn = RNG.normal(size=(4, 3, 2, 2)).astype(dtype), RNG.normal(size=4).astype(dtype), trained(4, dtype)
    x = RNG.normal(size=(5, 3, 6, 7)).astype(dtype)

    def convolve(weight: Array, bias: Array) -> Array:
        windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(2, 3))
        return np.ascontiguousarray(np.einsum("ncijkl,ockl->noij", windows, weight) + bias[:, None, None])

    want = bn(convolve(weight, bias))
    got = convolve(*ss.norm.fold_batch_norm(weight, bias, bn))
    np.testing.assert_allclose(got, want, rtol=0, atol=ULP[dtype] * np.abs(want).max())


def test_numbers_are_rounded_once() -> None:
    """Half a spacing at most; bfloat16 by way of float32 would lose more at a tie."""
    for dtype in (np.float32, np.float16, ml_dtypes.bfloat16):
        weight = RNG.normal(size=(3, 400)).astype(dtype)
        bn = trained(3, np.float32)
        s = bn.weight.astype(np.float64) / np.sqrt(bn.running_var.astype(np.float64) + 1e-5)
        want = weight.astype(np.float64) * s[:, None]
        got, shift = ss.norm.fold_batch_norm(weight, None, bn)
        assert got.dtype == shift.dtype == dtype
        spacing = np.spacing(np.abs(got)).astype(np.float64)
        assert (np.abs(got.astype(np.float64) - want) <= spacing / 2).all()
    tie = SimpleNamespace(
        running_mean=np.zeros(1), running_var=np.array([1.0]), weight=np.array([1 + 2**-8 + 2**-40]), bias=None, eps=0.0
    )
    one = np.ones((1, 1), ml_dtypes.bfloat16)
    assert float(ss.norm.fold_batch_norm(one, None, tie)[0][0, 0]) == 1 + 2**-7, "by way of float32 it would be 1"


def test_layouts_do_not_matter() -> None:
    weight, bn = RNG.normal(size=(4, 3, 2)), trained(4, np.float64)
    want = ss.norm.fold_batch_norm(weight, None, bn)
    got = ss.norm.fold_batch_norm(np.asfortranarray(weight), None, bn)
    assert all((a == b).all() for a, b in zip(got, want, strict=True))


LINEAR, BN = np.ones((3, 2), np.float32), ss.nn.BatchNorm(3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((LINEAR, None, ss.nn.Linear(2, 3)), TypeError, r"bn must be a batch norm, got Linear without running_mean"),
        ((LINEAR, None, None), TypeError, r"bn must be a batch norm, got NoneType"),
        (
            (LINEAR, None, ss.nn.BatchNorm(3, track_running_stats=False)),
            ValueError,
            r"bn must track running statistics",
        ),
        (
            (LINEAR, None, ss.nn.BatchNorm(2)),
            ValueError,
            r"bn.running_mean must have shape \(3,\) as weight has channels, got \(2,\)",
        ),
        ((LINEAR.tolist(), None, BN), TypeError, r"weight must be a NumPy array"),
        ((LINEAR.astype(int), None, BN), TypeError, r"weight must be float32.*got int64"),
        ((LINEAR[0, 0] + np.zeros((), np.float32), None, BN), TypeError, r"weight must be a NumPy array"),
        ((np.zeros((), np.float32), None, BN), ValueError, r"weight must have shape \(out, ...\), got \(\)"),
        ((LINEAR, np.ones(2, np.float32), BN), ValueError, r"bias must have shape \(3,\), got \(2,\)"),
        ((LINEAR, np.ones(3), BN), TypeError, r"bias must have dtype float32, got float64"),
    ],
)
def test_refused(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"fold_batch_norm: {message}"):
        ss.norm.fold_batch_norm(*arguments)
