"""Every scheme of the list: against its oracle bit by bit, all dtypes and layouts, bad input, out=."""

import re

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from helpers import LAYOUTS, Array, assert_same_bits, laid_out
from quant_cases import CASES, DTYPES, Case, numbers
from reference_quant import ORACLES as BLOCKWISE
from reference_quant_float8 import ORACLES as FLOAT8

ORACLES = {**BLOCKWISE, **FLOAT8}

ids = [repr(case.scheme) for case in CASES]


def check(case: Case, x: Array) -> None:
    """Parts and decoded numbers are the oracle's."""
    with np.errstate(over="ignore", under="ignore"):
        oracle, single = ORACLES[case.scheme.name], np.asarray(x, np.float32)
        want = oracle.encode(single, case.scheme)
        back = oracle.decode(want, case.scheme, x.shape)
    q = ss.quant.quantize(x, case.scheme)
    assert set(q.parts) == set(want)
    for name, part in q.parts.items():
        assert (part.shape, part.dtype) == (want[name].shape, want[name].dtype), name
        assert part.tobytes() == want[name].tobytes(), (name, case, x.shape, x.dtype)
    assert_same_bits(q.dequantize(), back, repr(case.scheme))


def test_every_scheme_has_an_oracle_and_a_row() -> None:
    assert set(ORACLES) == set(ss.quant.REGISTRY) == {case.scheme.name for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_all_shapes_and_dtypes_are_the_oracles(case: Case) -> None:
    for shape in case.shapes:
        for dtype in DTYPES:
            check(case, numbers(shape, dtype))


@pytest.mark.parametrize("case", CASES, ids=ids)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_change_nothing(case: Case, layout: str) -> None:
    shape = next(shape for shape in case.shapes if len(shape) > 1 and 0 not in shape)
    for dtype in DTYPES:
        check(case, laid_out(numbers(shape, dtype), layout))


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_out_takes_any_layout_and_dtype_and_is_returned(case: Case) -> None:
    shape = next(shape for shape in case.shapes if len(shape) > 1 and 0 not in shape)
    x, other = numbers(shape, DTYPES[0]), numbers(shape, DTYPES[0], seed=1)
    q = ss.quant.quantize(x, case.scheme)
    want = q.dequantize()
    with np.errstate(over="ignore", under="ignore"):
        for dtype in DTYPES:
            for layout in LAYOUTS:
                out = laid_out(np.full(shape, 7, dtype), layout)
                assert q.dequantize(out=out) is out
                assert_same_bits(out, want.astype(dtype), layout)
            assert_same_bits(q.dequantize(dtype=dtype), want.astype(dtype))
    again = ss.quant.quantize(other, case.scheme, out=ss.quant.quantize(x, case.scheme))
    fresh = ss.quant.quantize(other, case.scheme)
    assert all(again.parts[name].tobytes() == fresh.parts[name].tobytes() for name in fresh.parts)


@pytest.mark.parametrize("case", CASES, ids=ids)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_is_refused_before_anything_is_written_or_zero(case: Case, dtype: np.dtype) -> None:
    shape = max((shape for shape in case.shapes if len(shape) > 1), key=np.prod)
    x = numbers(shape, dtype)
    out = ss.quant.quantize(x, case.scheme)
    before = {name: part.tobytes() for name, part in out.parts.items()}
    places = [tuple(n // 2 for n in shape), tuple(n - 1 for n in shape)]
    bad, clean = x.copy(), x.copy()
    for place in places:
        bad[place], clean[place] = np.nan, 0.0
    for given in (None, out):
        with pytest.raises(ValueError, match=re.escape(f"index {list(places[0])}")):
            ss.quant.quantize(bad, case.scheme, out=given)
    assert {name: part.tobytes() for name, part in out.parts.items()} == before
    zeroed, want = ss.quant.quantize(bad, case.scheme, nan="zero"), ss.quant.quantize(clean, case.scheme)
    assert all(zeroed.parts[name].tobytes() == want.parts[name].tobytes() for name in want.parts)


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_zero_is_exact_and_an_all_zero_block_is_clean(case: Case) -> None:
    shape = max((shape for shape in case.shapes if len(shape) > 1), key=np.prod)
    x = np.zeros(shape, np.float32)
    assert not ss.quant.quantize(x, case.scheme).dequantize().any()
    x.reshape(-1)[::3] = np.random.default_rng(0).standard_normal(x.reshape(-1)[::3].size)
    back = ss.quant.quantize(x, case.scheme).dequantize()
    assert np.isfinite(back).all()
    assert not case.has_zero or not back[x == 0].any()


def test_bad_arguments_are_named() -> None:
    x, nf4 = np.zeros((3, 4), np.float32), ss.quant.NF4()
    q = ss.quant.quantize(x, nf4)
    quantize = ss.quant.quantize
    with pytest.raises(TypeError, match="quantize: x must be a NumPy array"):
        quantize([1.0], nf4)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="quantize: x must be float32"):
        quantize(np.zeros(3, int), nf4)
    with pytest.raises(TypeError, match="native byte order"):
        quantize(x.astype(">f4"), nf4)
    with pytest.raises(TypeError, match="scheme must be one of stepsmith"):
        quantize(x, "nf4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nan must be one of raise, zero, got 'skip'"):
        quantize(x, nf4, nan="skip")
    with pytest.raises(
        ValueError, match=r"out must have scheme NF4\(block_size=64, double_quant=False\) and shape \(4, 3\)"
    ):
        quantize(x.reshape(4, 3), nf4, out=q)
    with pytest.raises(TypeError, match="out must be a QuantizedArray, got ndarray"):
        quantize(x, nf4, out=x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"dequantize: out must have shape \(3, 4\)"):
        q.dequantize(out=np.zeros((4, 3), np.float32))
    with pytest.raises(TypeError, match="dequantize: out must be float32"):
        q.dequantize(out=np.zeros((3, 4), np.int8))
    read_only = np.zeros((3, 4), np.float32)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="out must be writable"):
        q.dequantize(out=read_only)
    with pytest.raises(ValueError, match="block_size must be a power of two, got 48"):
        ss.quant.NF4(48)
    with pytest.raises(ValueError, match="block_size must be at least 32, got 16"):
        ss.quant.Dynamic8(16)


def test_parts_must_be_what_the_scheme_says() -> None:
    q = ss.quant.quantize(np.ones((5, 5), np.float32), ss.quant.Dynamic8())
    assert ss.quant.QuantizedArray(q.scheme, q.shape, q.parts).dequantize().all()
    with pytest.raises(ValueError, match=r"parts must be \['codes', 'scales'\], got \['codes'\]"):
        ss.quant.QuantizedArray(q.scheme, q.shape, {"codes": q.codes})
    with pytest.raises(TypeError, match="must have dtype uint8, got int8"):
        ss.quant.QuantizedArray(q.scheme, q.shape, {**q.parts, "codes": q.codes.view(np.int8)})
    with pytest.raises(ValueError, match=r"must have shape \(1,\), got \(2,\)"):
        ss.quant.QuantizedArray(q.scheme, q.shape, {**q.parts, "scales": np.ones(2, np.float32)})
    with pytest.raises(ValueError, match=r"parts\['codes'\] must be in C order"):
        ss.quant.QuantizedArray(q.scheme, q.shape, {**q.parts, "codes": q.codes.T})


def test_out_that_overlaps_is_refused() -> None:
    q = ss.quant.quantize(np.ones(256, np.float32), ss.quant.Dynamic8())
    room = np.zeros(1024, np.uint8)
    shared = ss.quant.QuantizedArray(q.scheme, q.shape, {"codes": room[:256], "scales": q.scales})
    with pytest.raises(ValueError, match="x must not share memory"):
        ss.quant.quantize(room.view(np.float32), ss.quant.Dynamic8(), out=shared)
    with pytest.raises(ValueError, match="must not share memory"):
        shared.dequantize(out=room.view(np.float32))


@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
def test_infinity_is_the_largest_number(infinity: float) -> None:
    x = np.ones(200, np.float32)
    x[100] = infinity
    q = ss.quant.quantize(x, ss.quant.Dynamic8())
    assert q.scales[0] == np.finfo(np.float32).max
    assert q.dequantize()[100] in (q.scales[0], -q.scales[0] * np.float32(0.99296874))
    half = x.astype(ml_dtypes.bfloat16)
    assert ss.quant.quantize(half, ss.quant.NF4()).scales[1] == np.finfo(np.float32).max
