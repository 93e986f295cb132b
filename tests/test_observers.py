"""Observers against all batches at once: ranges, averages, percentiles, the least square error, bounded memory."""

import itertools
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from helpers import Array
from stepsmith.quant import Affine, HistogramMSE, MinMax, MovingAverage, Observer, Percentile

SCHEMES = [Affine(), Affine(symmetric=False), Affine(4), Affine(3, symmetric=False)]
OBSERVERS: list[Callable[..., Observer]] = [MinMax, MovingAverage, Percentile, HistogramMSE]


def batches(seed: int = 0, count: int = 7) -> list[Array]:
    """Each larger than the one before it, lopsided, with a far number now and then; three channels on axis 1."""
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal((50, 3, 4)) * (k + 1) * np.array([1.0, 0.1, 7.0])[:, None] + 0.3 for k in range(count)]
    parts[2][0, 0, 0] = 60.0
    return [part.astype(np.float32) for part in parts]


def seen(observer: Observer, parts: list[Array]) -> Observer:
    for part in parts:
        observer.update(part)
    return observer


def rows(parts: list[Array], axis: int | None) -> list[Array]:
    """All numbers of each scale."""
    everything = np.concatenate(parts)
    return [everything.ravel()] if axis is None else list(np.moveaxis(everything, axis, 0).reshape(3, -1))


def scheme_on(scheme: Affine, axis: int | None) -> Affine:
    return Affine(scheme.bits, scheme.symmetric, axis)


@pytest.mark.parametrize("axis", [None, 1, -2])
@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_min_max_is_that_of_all_numbers(scheme: Affine, axis: int | None) -> None:
    scale, point = seen(MinMax(axis), batches()).parameters(scheme_on(scheme, axis))
    everything = rows(batches(), axis)
    wanted = scheme.steps([row.min() for row in everything], [row.max() for row in everything])
    assert (scale == wanted[0].reshape(scale.shape)).all()
    assert (point == wanted[1].reshape(point.shape)).all()
    q = ss.quant.quantize(np.concatenate(batches()), scheme_on(scheme, axis))
    assert (q.scales == scale).all()


@pytest.mark.parametrize("axis", [None, 1])
def test_moving_average_by_hand(axis: int | None) -> None:
    observer = seen(MovingAverage(0.25, axis), batches())
    for k, row in enumerate(zip(*(rows([part], axis) for part in batches()))):
        low, high = float(row[0].min()), float(row[0].max())
        for part in row[1:]:
            low, high = low + 0.25 * (float(part.min()) - low), high + 0.25 * (float(part.max()) - high)
        assert (observer.low[k], observer.high[k]) == (low, high)


def exact_percentile(x: Array, q: float) -> float:
    """The smallest number that so many percent are not above."""
    return float(np.sort(x)[max(int(np.ceil(q / 100 * x.size)) - 1, 0)])


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("q", [90.0, 99.0, 99.9, 100.0])
def test_percentile_is_exact_to_a_bin(q: float, axis: int | None) -> None:
    observer = seen(Percentile(q, axis=axis), batches())
    for k, row in enumerate(rows(batches(), axis)):
        most = exact_percentile(np.abs(row).astype(np.float64), q)
        low, high = observer._range(Affine())
        assert low[k] == -high[k]
        assert most - observer.width[k] <= high[k] <= most + observer.width[k]
        low, high = observer._range(Affine(symmetric=False))
        bounds = -exact_percentile(-row.astype(np.float64), q), exact_percentile(row.astype(np.float64), q)
        assert abs(low[k] - bounds[0]) <= observer.width[k]
        assert abs(high[k] - bounds[1]) <= observer.width[k]
        if q == 100.0:
            assert (low[k], high[k]) == (row.min(), row.max())
    scale, _ = observer.parameters(Affine(axis=axis))
    assert scale.shape == (() if axis is None else (3,))


def square_error(x: Array, scheme: Affine, low: float, high: float) -> float:
    scale, point = scheme.steps(low, high)
    back = ss.quant.quantize_affine(x, scheme, scale, None if scheme.symmetric else point).dequantize()
    return float(np.sum((back.astype(np.float64) - x) ** 2))


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_histogram_finds_nearly_the_least_error_of_all_candidates(scheme: Affine, axis: int | None) -> None:
    observer = seen(HistogramMSE(8192, axis), batches())
    low, high = observer._range(scheme)
    for k, row in enumerate(rows(batches(), axis)):
        errors = [square_error(row, scheme, row.min() * s / 100, row.max() * s / 100) for s in range(1, 101)]
        found = square_error(row, scheme, low[k], high[k])
        assert found <= min(errors) * 1.03
        # At few bits the whole range is far from the best one.
        assert scheme.bits == 8 or found < errors[-1] * 0.9


def test_histograms_do_not_depend_on_the_order_of_batches_nor_grow() -> None:
    orders = [list(order) for order in itertools.islice(itertools.permutations(batches(count=5)), 0, 120, 17)]
    observers = [seen(HistogramMSE(64), order) for order in orders]
    for observer in observers:
        assert (observer.width == observers[0].width).all()
        assert (observer.counts == observers[0].counts).all()
    everything = np.concatenate(batches(count=5)).ravel()
    wanted, _ = np.histogram(everything.astype(np.float64), observers[0].edges()[0])
    assert (observers[0].counts[0] == wanted).all()
    assert observers[0].counts.shape == (1, 64)
    assert observers[0].width / 2 * 64 > np.abs(everything).max() >= observers[0].width / 4 * 32


def test_histograms_of_zeros_tiny_and_huge_numbers() -> None:
    zeros = seen(HistogramMSE(), [np.zeros((3, 4))])
    assert zeros.parameters(Affine()) == (1.0, 0)
    for size in (1e-30, 1e30, 2.0**-10, 1 - 2**-53):
        observer = seen(Percentile(100.0), [np.zeros(3), np.array([size, -size / 3]), np.array([size / 2])])
        assert observer.counts.sum() == 6
        low, high = observer._range(Affine(symmetric=False))
        assert (low[0], high[0]) == (-size / 3, size)


@pytest.mark.parametrize("kind", OBSERVERS)
def test_dtypes_layouts_and_empty_batches(kind: Callable[..., Observer]) -> None:
    x = batches()[0].astype(ml_dtypes.bfloat16)
    plain = seen(kind(axis=1), [x.astype(np.float64)])
    other = seen(kind(axis=1), [np.asfortranarray(x), x[:0]])
    assert other.batches == 1
    for scheme in (Affine(axis=1), Affine(4, symmetric=False, axis=1)):
        for a, b in zip(plain.parameters(scheme), other.parameters(scheme), strict=True):
            assert (a == b).all()


@pytest.mark.parametrize("kind", OBSERVERS)
def test_bad_input_is_named_and_changes_nothing(kind: Callable[..., Observer]) -> None:
    observer, name = kind(axis=1), kind.__name__
    with pytest.raises(ValueError, match=f"{name}: update must come before parameters, got no batch"):
        observer.parameters(Affine(axis=1))
    observer.update(batches()[0])
    before = observer.parameters(Affine(axis=1))
    bad = batches()[1]
    bad[3, 1, 2] = np.nan
    with pytest.raises(ValueError, match=f"{name}: batch must be finite, got nan"):
        observer.update(bad)
    with pytest.raises(ValueError, match=f"{name}: batch must have 3 indices along axis 1, got 4"):
        observer.update(np.zeros((5, 4)))
    with pytest.raises(ValueError, match=rf"{name}: batch must have axis 1, got shape \(3,\)"):
        observer.update(np.zeros(3))
    with pytest.raises(TypeError, match=f"{name}: batch must be float32"):
        observer.update(np.zeros((2, 3), int))
    with pytest.raises(ValueError, match=f"{name}: scheme must have one scale for each of axis 1, got Affine"):
        observer.parameters(Affine())
    with pytest.raises(TypeError, match=f"{name}: scheme must be an Affine, got NF4"):
        observer.parameters(ss.quant.NF4())  # type: ignore[arg-type]
    assert (observer.parameters(Affine(axis=1))[0] == before[0]).all()
    assert observer.batches == 1


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"MovingAverage: momentum must be in \(0, 1\], got 0"):
        MovingAverage(0.0)
    with pytest.raises(ValueError, match=r"Percentile: q must be in \(50, 100\], got 101"):
        Percentile(101.0)
    with pytest.raises(ValueError, match="HistogramMSE: bins must be a multiple of 4, got 102"):
        HistogramMSE(102)
