"""Clipping inside a step by value, by other norms, and by unit (adaptive gradient clipping)."""

import math

import numpy as np
import pytest

import stepsmith as ss
from battery import CONFIGS
from helpers import assert_same_bits, different, misaligned, values
from reference_stages import Staged
from reference_storage import DTYPES

RNG = np.random.default_rng(101)
CHUNK = ss._core.CHUNK
INF = math.inf


def both(config, params, grads, grad_scale=1.0, steps=2, **settings):
    """The optimizer and the oracle; norms and parameters are the same. Returns the last norm."""
    rule, hyperparameters = CONFIGS[config]
    reference = Staged(rule, params, **{**hyperparameters, **settings})
    start = {name: np.array(x) for name, x in params.items()}
    optimizer = ss.optim.REGISTRY[rule](params, **{**hyperparameters, **settings})
    for _ in range(steps):
        info = optimizer.step(grads, grad_scale)
        want = reference.step(grads, grad_scale)
        assert info.grad_norm == want or (math.isnan(info.grad_norm) and math.isnan(want))
    for name, x in params.items():
        assert_same_bits(x, np.asarray(reference.params[name]), name)
        assert (
            x.size < 32 or 0.0 in {settings.get("agc"), settings.get("max_norm")} or different(x, start[name]).size > 0
        )
    return info.grad_norm


UNITS = {
    "no-axes": (),
    "one-element": (1,),
    "one-axis": (700,),
    "one-long-axis": (CHUNK + 4097,),
    "a-row-of-units": (1, 513),
    "units-of-one": (4099, 1),
    "units-of-one-3d": (130, 1, 1),
    "units-of-three": (1367, 3),
    "units-across-blocks": (7, 1500),
    "units-of-a-block": (3, 4096),
    "units-of-a-block-and-one": (9, 4097),
    "units-longer-than-a-chunk": (2, CHUNK + 1),
    "convolution": (16, 3, 5, 5),
    "convolution-1d": (33, 7, 9),
    "empty": (0, 4),
    "empty-units": (4, 0),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("units", UNITS)
def test_units_of_every_length_equal_the_oracle(units, dtype) -> None:
    shape = UNITS[units]
    other = {"f32": "bf16", "f64": "f16", "bf16": "f64", "f16": "f32"}[dtype]
    params = {"w": np.asarray(values(RNG, shape, DTYPES[dtype])), "b": np.ones(3, np.float32)}
    grads = {"w": np.asarray(values(RNG, shape, DTYPES[other])), "b": np.ones(3, np.float32)}
    both("sgd-momentum", params, grads, steps=1, agc=0.01)
    both("adamw", params, grads, 4.0, steps=1, agc=0.05, clip_value=0.1, max_norm=1.0)


@pytest.mark.parametrize("layout", [np.asfortranarray, misaligned, lambda x: np.repeat(x, 2, axis=1)[:, ::2]])
@pytest.mark.parametrize("which", ["param", "grad", "both"])
def test_units_are_those_of_the_logical_array(layout, which) -> None:
    x, g = values(RNG, (41, 130, 3), np.float32), values(RNG, (41, 130, 3), np.float32)
    param = layout(x) if which != "grad" else x.copy()
    grad = layout(g) if which != "param" else g.copy()
    both("sgd", {"w": param}, {"w": grad}, agc=0.02)


def plain_agc(param: np.ndarray, grad: np.ndarray, agc: float) -> np.ndarray:
    """Brock et al. 2021 in float64."""
    axes = tuple(range(1, param.ndim)) if param.ndim > 1 else None
    p, g = (np.sqrt(np.sum(x.astype(np.float64) ** 2, axis=axes, keepdims=True)) for x in (param, grad))
    limit = agc * np.maximum(p, 1e-3)
    return grad * np.where(g > limit, limit / np.maximum(g, 1e-300), 1.0)


@pytest.mark.parametrize("shape", [(), (700,), (40, 30), (16, 3, 5, 5), (5, 5000)])
@pytest.mark.parametrize("agc", [0.01, 0.3])
def test_it_is_the_paper_s_formula(shape, agc) -> None:
    param = np.asarray(RNG.standard_normal(shape).astype(np.float32))
    grad = np.asarray((RNG.standard_normal(shape) * 0.2).astype(np.float32))
    stepped = param.copy()
    ss.optim.SGD([stepped], lr=1.0, agc=agc).step([grad])
    want = param.astype(np.float64) - plain_agc(param, grad, agc)
    np.testing.assert_allclose(stepped, want, rtol=1e-6, atol=1e-6)
    assert agc > 0.01 or shape == () or np.abs(stepped - (param - grad)).max() > 1e-3, "something was clipped"


def test_zero_parameters_can_start_and_zero_gradients_stay_zero() -> None:
    grad = np.ones((3, 4), np.float32)
    grad[1] = 0
    param = np.zeros((3, 4), np.float32)
    both("sgd", {"w": param.copy()}, {"w": grad}, steps=1, agc=0.5)
    ss.optim.SGD([param], lr=1.0, agc=0.5).step([grad])
    assert (param[1] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(param[0]), 0.5e-3, rtol=1e-6)
    both("adamw", {"w": np.ones((2, 3), np.float64)}, {"w": np.zeros((2, 3))}, agc=0.0)
    still = np.ones((2, 3), np.float64)
    ss.optim.SGD([still], lr=1.0, agc=0.0).step([np.ones((2, 3))])
    assert (still == 1).all()


@pytest.mark.parametrize("norm_type", [1, 2, INF])
@pytest.mark.parametrize("clip_value", [None, 0.2, 1e3])
@pytest.mark.parametrize("grad_scale", [1.0, -7.0, 0.3])
def test_every_norm_clips_as_the_oracle(norm_type, clip_value, grad_scale) -> None:
    for max_norm in (1e9, 0.5, 0.0):
        params = {name: values(RNG, n, DTYPES[name]) for name, n in zip(DTYPES, (70001, 513, 65, 4097))}
        grads = {name: values(RNG, x.shape, np.float32) for name, x in params.items()}
        settings = {"max_norm": max_norm, "norm_type": norm_type, "clip_value": clip_value}
        assert both("adamw", params, grads, grad_scale, **settings) > 0


@pytest.mark.parametrize("norm_type", [1.0, 2.0, INF])
def test_the_norm_is_that_of_grad_norm(norm_type) -> None:
    params = {"a": values(RNG, 5000, np.float32), "b": values(RNG, (7, 9), np.float64)}
    grads = {name: values(RNG, x.shape, x.dtype) for name, x in params.items()}
    want = ss.grad_norm(grads, norm_type)
    settings = {"max_norm": 1.0, "norm_type": norm_type}
    assert ss.optim.SGD(params, lr=0.0, **settings).step(grads).grad_norm == want > 0
    assert ss.optim.SGD(params, lr=0.0, **settings).step(grads, 2.0).grad_norm == want / 2
    assert ss.optim.SGD(params, lr=0.0, agc=0.1, **settings).step(grads).grad_norm == want
    clipped = {name: grad.copy() for name, grad in grads.items()}
    ss.clip_grad_value(clipped, 0.25)
    info = ss.optim.SGD(params, lr=0.0, clip_value=0.25, **settings).step(grads)
    assert info.grad_norm == ss.grad_norm(clipped, norm_type) < want


def test_the_number_clips_first_and_then_the_norm() -> None:
    param = np.zeros(3, np.float32)
    info = ss.optim.SGD([param], lr=1.0, clip_value=3.0, max_norm=2.5).step([np.float32([40, -30, 0]) * 2], 2.0)
    assert info.grad_norm == math.sqrt(18)
    np.testing.assert_allclose(param, [-2.5 / math.sqrt(2), 2.5 / math.sqrt(2), 0], rtol=1e-6)


@pytest.mark.parametrize("norm_type", [1, 2])
def test_a_norm_that_overflows_is_refused_unless_values_are_clipped_before(norm_type) -> None:
    param, grad = np.ones(9), np.full(9, 1e308)
    settings = {"max_norm": 1.0, "norm_type": norm_type}
    for more in ({}, {"agc": 0.1}, {"masks": {"0": np.ones(9, bool)}}):
        with pytest.raises(ss.NonFiniteError, match=r"^SGD: the norm of all gradients must be finite, got inf$"):
            ss.optim.SGD([param], **settings, **more).step([grad])
    assert (param == 1).all()
    assert not ss.optim.SGD([param], **settings, clip_value=2.0).step([grad]).skipped
    assert ss.optim.SGD([param], max_norm=1.0, norm_type=INF).step([grad]).grad_norm == 1e308


@pytest.mark.parametrize("settings", [{"agc": 0.1}, {"clip_value": 1e305}, {"masks": {"b": np.arange(9) % 2 == 0}}])
def test_what_float64_holds_is_finite_beside_float32(settings) -> None:
    params, grads = {"a": np.ones(9, np.float32), "b": np.ones(9)}, {"a": np.ones(9), "b": np.full(9, 1e300)}
    for more in ({}, {"max_norm": 1.0, "norm_type": INF}):
        optimizer = ss.optim.SGD(params, lr=0.0, **settings, **more)
        assert optimizer.step(grads).grad_norm == (1e300 if more else None)
        with pytest.raises(ss.NonFiniteError, match=r"^SGD: grads\['a'\] must be finite, got inf at index \[0\]$"):
            optimizer.step({**grads, "a": grads["b"]})


@pytest.mark.parametrize("bad", [math.nan, INF, -INF, 1e300])
@pytest.mark.parametrize(
    "settings", [{"clip_value": 0.5}, {"agc": 0.1}, {"clip_value": 0.5, "max_norm": 1.0, "norm_type": INF}]
)
def test_what_is_not_finite_is_seen_before_it_is_clipped(bad, settings) -> None:
    param, grad = np.ones((5, 700), np.float32), np.ones((5, 700))
    grad[3, 5] = bad
    got = {math.inf: "inf", -math.inf: "-inf", 1e300: "inf"}.get(bad, "nan")
    with pytest.raises(ss.NonFiniteError, match=rf"^SGD: grads\['0'\] must be finite, got {got} at index \[3, 5\]$"):
        ss.optim.SGD([param], **settings).step([grad])
    assert (param == 1).all()


@pytest.mark.parametrize("bad", [math.nan, INF, -INF])
@pytest.mark.parametrize("norm_type", [1, 2, INF])
@pytest.mark.parametrize("agc", [None, 0.1])
@pytest.mark.parametrize("clip_value", [None, 0.5])
def test_propagate_does_as_the_oracle(bad, norm_type, agc, clip_value) -> None:
    params = {"w": values(RNG, (5, 700), np.float32), "x": values(RNG, 5, np.float64)}
    grads = {name: values(RNG, x.shape, np.float32) for name, x in params.items()}
    grads["w"][3, 5] = bad
    settings = {"max_norm": 1.0, "norm_type": norm_type, "agc": agc, "clip_value": clip_value}
    both("adamw", params, grads, 2.0, on_nonfinite="propagate", **settings)


def test_a_scale_whose_inverse_is_infinite_in_float32_pads_nothing() -> None:
    """Behind the last element stands +0.0, which times infinity would be NaN."""
    params = {"w": values(RNG, (3, 130), np.float32)}
    grads = {"w": np.where(RNG.random((3, 130)) < 0.5, -1, 1).astype(np.float32)}
    settings = {"clip_value": 0.5, "max_norm": 1.0, "agc": 0.1, "on_nonfinite": "propagate"}
    assert both("sgd", params, grads, 1e-40, **settings) == math.sqrt(390 * 0.25)


WRONG = {
    "norm-type": ({"norm_type": 3}, ValueError, "norm_type must be 1, 2 or inf, got 3"),
    "norm-name": ({"norm_type": "2"}, TypeError, "norm_type must be 1, 2 or inf, got '2'"),
    "norm-list": ({"norm_type": [2]}, TypeError, r"norm_type must be 1, 2 or inf, got \[2\]"),
    "norm-nan": ({"norm_type": math.nan}, ValueError, "norm_type must be 1, 2 or inf, got nan"),
    "clip-negative": ({"clip_value": -1}, ValueError, "clip_value must be finite and at least 0, got -1"),
    "clip-nan": ({"clip_value": math.nan}, ValueError, "clip_value must be finite and at least 0, got nan"),
    "clip-name": ({"clip_value": "1"}, TypeError, "clip_value must be a number, got '1'"),
    "agc-negative": ({"agc": -0.5}, ValueError, "agc must be finite and at least 0, got -0.5"),
    "agc-infinite": ({"agc": INF}, ValueError, "agc must be finite and at least 0, got inf"),
    "agc-flag": ({"agc": True}, TypeError, "agc must be a number, got True"),
    "unknown": ({"clip": 1}, TypeError, ".*clip.*"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_numbers_are_refused(case) -> None:
    settings, kind, message = WRONG[case]
    with pytest.raises(kind, match=f"^(AdamW: )?{message}$"):
        ss.optim.AdamW([np.ones(3)], **settings)
