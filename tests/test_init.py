"""Initializers: mean, variance and bounds at five standard errors, seeds, dtypes, errors."""

import math

import numpy as np
import pytest

from stepsmith import init

N_OUT, N_IN = 300, 200
VARIANCE = {
    init.xavier_uniform: 2.0 / (N_IN + N_OUT),
    init.xavier_normal: 2.0 / (N_IN + N_OUT),
    init.he_uniform: 2.0 / N_IN,
    init.he_normal: 2.0 / N_IN,
}
# Fourth standardized moment, which sets the spread of a sample's variance.
KURTOSIS = {init.xavier_uniform: 1.8, init.he_uniform: 1.8, init.xavier_normal: 3.0, init.he_normal: 3.0}
every = pytest.mark.parametrize("function", VARIANCE, ids=lambda function: function.__name__)


@every
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_moments_are_the_formula_s(function, gain) -> None:
    weight = function((N_OUT, N_IN), np.random.default_rng(7), gain=gain, dtype=np.float64)
    n, variance = weight.size, gain**2 * VARIANCE[function]
    assert abs(weight.mean()) < 5 * math.sqrt(variance / n)
    assert abs((weight**2).mean() - variance) < 5 * variance * math.sqrt((KURTOSIS[function] - 1) / n)
    fourth = (weight**4).mean() / variance**2
    assert abs(fourth - KURTOSIS[function]) < 0.15, "uniform and normal must not be mixed up"


@pytest.mark.parametrize("function", [init.xavier_uniform, init.he_uniform], ids=lambda function: function.__name__)
def test_uniform_fills_its_bounds(function) -> None:
    bound = math.sqrt(3.0 * VARIANCE[function])
    weight = function((N_OUT, N_IN), np.random.default_rng(8), dtype=np.float64)
    assert 0.999 * bound < weight.max() <= bound
    assert -bound <= weight.min() < -0.999 * bound


@every
def test_seed_decides_and_dtype_only_rounds(function) -> None:
    draws = [function((5, 7), np.random.default_rng(seed), dtype=np.float64) for seed in (1, 1, 2)]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).all()
    single = function((5, 7), np.random.default_rng(1))
    assert single.dtype == np.float32
    assert (single == draws[0].astype(np.float32)).all()


@every
@pytest.mark.parametrize("shape", [(), (3,), (0, 3), (3, 0)])
def test_shape_without_fans_is_an_error(function, shape) -> None:
    with pytest.raises(ValueError, match=r"init: shape must have two or more axes"):
        function(shape, np.random.default_rng(0))


def test_kernel_counts_in_both_fans() -> None:
    assert init.fans((8, 3, 5, 5)) == (75, 200)


def test_zeros_draw_nothing() -> None:
    rng = np.random.default_rng(0)
    assert (init.zeros((3, 4), rng, dtype=np.float64) == np.zeros((3, 4))).all()
    assert rng.random() == np.random.default_rng(0).random()


def test_generator_keys_are_independent() -> None:
    draws = {init.generator(*key).random() for key in [(0,), (0, 0), (0, 1), (1, 0), (0, 1, 0)]}
    assert len(draws) == 5
