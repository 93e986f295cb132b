"""Figures of the quantization error: against brute force, and where a quotient has no meaning."""

import math

import ml_dtypes
import numpy as np
import pytest

from helpers import LAYOUTS, Array, laid_out, run_python
from quant_cases import CASES, DTYPES, Case, numbers
from stepsmith.quant import NF4, Dynamic8, QuantizationError, quantize


def brute(x: Array, y: Array) -> QuantizationError:
    """The formulas, an element at a time, with sums that are exact."""
    pairs = list(zip(x.astype(np.float64).reshape(-1).tolist(), y.astype(np.float64).reshape(-1).tolist()))
    errors = [b - a for a, b in pairs]
    noise, signal = math.fsum(e * e for e in errors), math.fsum(a * a for a, _ in pairs)
    decoded, product = math.fsum(b * b for _, b in pairs), math.fsum(a * b for a, b in pairs)
    return QuantizationError(
        max(abs(e) for e in errors),
        math.sqrt(noise / len(pairs)),
        10 * math.log10(signal / noise) if noise else math.inf,
        product / math.sqrt(signal * decoded) if decoded else 0.0,
    )


@pytest.mark.parametrize("case", CASES, ids=[repr(case.scheme) for case in CASES])
def test_figures_are_the_formulas(case: Case) -> None:
    for dtype in DTYPES:
        for shape in case.shapes:
            x = numbers(shape, dtype)
            if 0 < x.size < 40_000 and x.astype(np.float64).any():
                q = quantize(x, case.scheme)
                assert q.error(x) == pytest.approx(brute(x, q.dequantize()), rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts_change_no_bit(dtype: np.dtype) -> None:
    x = numbers((7, 131, 37), dtype)
    q = quantize(x, NF4())
    want = q.error(x)
    assert 0 < want.rms < want.max
    assert all(q.error(laid_out(x, layout)) == want for layout in LAYOUTS)


def test_the_error_is_that_of_the_array_that_is_given() -> None:
    """float64 and bfloat16 are compared as they are, not as what they become."""
    x = np.full(4, 1 + 2.0**-30)
    assert quantize(x, Dynamic8()).error(x).max == 2.0**-30
    y = x.astype(ml_dtypes.bfloat16)
    assert quantize(y, Dynamic8()).error(y).max == 0


def test_exact_empty_and_zero_arrays() -> None:
    exact = QuantizationError(max=0.0, rms=0.0, sqnr=math.inf, cosine=1.0)
    for x in (np.zeros(0, np.float32), np.zeros((3, 0, 2), np.float32), np.zeros(70, np.float32)):
        assert quantize(x, NF4()).error(x) == exact
    x = np.array([1.0, -1.0, 0.0], np.float32)
    assert quantize(x, NF4()).error(x)._replace(cosine=1.0) == exact
    assert quantize(x, NF4()).error(x).cosine == pytest.approx(1, abs=1e-15)
    one = np.ones(3, np.float32)
    assert quantize(one, NF4()).error(np.zeros(3, np.float32)) == (1.0, 1.0, -math.inf, 0.0)
    assert quantize(np.zeros(3, np.float32), NF4()).error(one) == (1.0, 1.0, 0.0, 0.0)
    assert quantize(one, NF4()).error(-one) == (2.0, 2.0, pytest.approx(-10 * math.log10(4)), pytest.approx(-1.0))


def test_huge_and_tiny_numbers_overflow_nothing() -> None:
    for scale in (2.0**120, 2.0**-140):
        x = (numbers((500,), np.dtype(np.float64)) * 0 + np.linspace(-1, 1, 500)) * scale
        x = x.astype(np.float32)
        error = quantize(x, NF4()).error(x)
        assert 10 < error.sqnr < 40
        assert 0.9 < error.cosine < 1


def test_what_is_not_finite_shows() -> None:
    x = np.ones(5, np.float32)
    q = quantize(x, NF4())
    x[2] = np.nan
    assert all(math.isnan(figure) for figure in q.error(x))
    x[2] = np.inf
    assert (q.error(x).max, q.error(x).rms) == (math.inf, math.inf)


def test_another_kind_of_array_is_refused() -> None:
    q = quantize(np.ones((2, 3), np.float32), NF4())
    with pytest.raises(ValueError, match=r"QuantizedArray\.error: x must have shape \(2, 3\), got \(3, 2\)"):
        q.error(np.ones((3, 2), np.float32))
    with pytest.raises(TypeError, match=r"QuantizedArray\.error: x must be float32"):
        q.error(np.ones((2, 3), int))


PEAK = """
import tracemalloc
import numpy as np
import stepsmith as ss

ss.keep_memory(0)
x = np.ones((1 << 11, 1 << 11)).T
q = ss.quant.quantize(x, ss.quant.NF4())
tracemalloc.start()
q.error(x)
print(tracemalloc.get_traced_memory()[1])
"""


def test_one_decoded_array_is_all_that_is_allocated() -> None:
    assert int(run_python(PEAK)) < (4 << 22) + (2 << 20)
