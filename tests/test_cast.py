"""Casts are ml_dtypes' and NumPy's for every number, in every direction and layout; 8-bit floats saturate."""

import itertools
import re

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from helpers import LAYOUTS, Array, laid_out
from reference_quant import GOLDEN

E4M3, E5M2 = np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2)
BF16, F16, F32, F64 = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
NARROW = (E4M3, E5M2, BF16, F16)
ALL = (*NARROW, F32, F64)
PAIRS = list(itertools.product(ALL, ALL))
LARGEST = {E4M3: 448.0, E5M2: 57344.0}


def plain(x: Array, dtype: np.dtype) -> Array:
    """The peers' cast, by way of float32."""
    with np.errstate(all="ignore"):
        single = x.astype(F32)
        return single if dtype == F32 else single.astype(dtype) if x.dtype != dtype else x


def saturated(x: Array, dtype: np.dtype) -> Array:
    """The same, where what is too large is the largest number first."""
    if x.dtype == dtype:
        return x
    with np.errstate(all="ignore"):
        single = x.astype(F32)
        return plain(np.where(np.isnan(single), single, np.clip(single, -LARGEST[dtype], LARGEST[dtype])), dtype)


def bits(x: Array) -> Array:
    return np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}")


def assert_same(got: Array, want: Array, what: object = "") -> None:
    """Bits, NaN with NaN of the same sign."""
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    same = bits(got) == bits(want)
    if not same.all():
        wrong = ~same & ~(np.isnan(got) & np.isnan(want) & (np.signbit(got) == np.signbit(want)))
        assert not wrong.any(), (what, np.flatnonzero(wrong)[:5], got[wrong][:5], want[wrong][:5])


def check(x: Array) -> None:
    """float32 to each narrower type, both ways of overflow."""
    for dtype in NARROW:
        want = plain(x, dtype)
        assert_same(ss.cast(x, dtype, saturate=False), want, dtype)
        if dtype in LARGEST:
            largest = LARGEST[dtype]
            ends = np.array([largest, -largest], F32).astype(dtype)
            want = np.where(x > largest, ends[0], np.where(x < -largest, ends[1], want))
        assert_same(ss.cast(x, dtype), want, dtype)


def stratified() -> Array:
    """Under each upper half of a float32 sixteen lower ones, those at the ends and in the middle among them."""
    lower = np.random.default_rng(0).integers(0, 1 << 16, (1 << 16, 16), np.uint32)
    lower[:, :6] = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
    return ((np.arange(1 << 16, dtype=np.uint32)[:, None] << 16) | lower).view(F32)


def every(dtype: np.dtype) -> Array:
    """All numbers of a type of at most 16 bits, float32 and float64 of many magnitudes."""
    if dtype.itemsize <= 2:
        return np.arange(1 << 8 * dtype.itemsize, dtype=f"u{dtype.itemsize}").view(dtype)
    wide = stratified().reshape(-1)[::37]
    with np.errstate(all="ignore"):
        return wide if dtype == F32 else wide.astype(F64) * (1 + 2.0**-30)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_golden(dtype: np.dtype) -> None:
    x, want = GOLDEN[f"cast-{dtype}/x"], GOLDEN[f"cast-{dtype}/y"]
    got = ss.cast(x, dtype, saturate=False).astype(F32)
    assert ((got == want) | (np.isnan(got) & np.isnan(want))).all()
    assert (np.signbit(got) == np.signbit(want)).all()


def test_a_stratified_million_of_float32() -> None:
    check(stratified())


@pytest.mark.slow
def test_every_float32() -> None:
    for first in range(0, 1 << 32, 1 << 24):
        check(np.arange(first, first + (1 << 24), dtype=np.uint64).astype(np.uint32).view(F32))


@pytest.mark.parametrize("dtypes", PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_every_direction(dtypes: tuple[np.dtype, np.dtype]) -> None:
    x, dtype = every(dtypes[0]), dtypes[1]
    assert_same(ss.cast(x, dtype, saturate=False), plain(x, dtype))
    if dtype in LARGEST:
        assert_same(ss.cast(x, dtype), saturated(x, dtype))
    if x.dtype == dtype:
        assert bits(ss.cast(x, dtype)).tobytes() == bits(x).tobytes()


@pytest.mark.parametrize("dtypes", PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def test_layouts_and_shapes_change_nothing(dtypes: tuple[np.dtype, np.dtype]) -> None:
    rng = np.random.default_rng(1)
    for shape in ((), (0,), (2, 0, 3), (1,), (13, 11), (3, 5, 7), (70_001,)):
        x = plain(np.asarray(rng.standard_normal(shape) * 2.0 ** rng.uniform(-9, 9, shape)), dtypes[0])
        want = ss.cast(x, dtypes[1])
        assert_same(want, (saturated if dtypes[1] in LARGEST else plain)(x, dtypes[1]))
        for given, taken in zip(LAYOUTS, LAYOUTS[1:] + LAYOUTS[:1]):
            out = laid_out(np.zeros(shape, dtypes[1]), taken)
            assert ss.cast(laid_out(x, given), dtypes[1], out=out) is out
            assert_same(out, want, (given, taken, shape))
    assert_same(ss.cast(np.broadcast_to(x[:1], (3, 1)), dtypes[1]), np.repeat(want[:1][None], 3, 0))


@pytest.mark.parametrize("dtypes", [(E4M3, E5M2), (E5M2, E4M3), (BF16, F16), (F16, BF16), (F32, F32), (E4M3, E4M3)])
def test_out_may_take_the_place_of_x(dtypes: tuple[np.dtype, np.dtype]) -> None:
    x = plain(np.random.default_rng(2).standard_normal((300, 301)), dtypes[0])
    for layout in ("C", "F", "strided", "misaligned"):
        given = laid_out(x, layout)
        want = ss.cast(given, dtypes[1])
        out = given.view(dtypes[1]) if dtypes[0] != dtypes[1] else given
        assert_same(ss.cast(given, dtypes[1], out=out), want, layout)


def test_what_is_refused_is_named_and_nothing_is_written() -> None:
    x = np.ones((4, 4), np.float32)
    refuse = "x must be float32, float64, bfloat16, float16, float8_e4m3fn or float8_e5m2 in native byte order"
    with pytest.raises(TypeError, match="cast: x must be a NumPy array"):
        ss.cast([1.0], E4M3)  # type: ignore[arg-type]
    for bad in (np.int8, ">f4", ml_dtypes.float8_e4m3, np.longdouble):
        with pytest.raises(TypeError, match=refuse):
            ss.cast(x.astype(bad), E4M3)
        with pytest.raises(TypeError, match=refuse.replace("x must", "dtype must")):
            ss.cast(x, bad)
    with pytest.raises(TypeError, match="saturate must be True or False, got 1"):
        ss.cast(x, E4M3, saturate=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="out must have dtype float8_e4m3fn, got uint8"):
        ss.cast(x, E4M3, out=np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=re.escape("out must have shape (4, 4), got (16,)")):
        ss.cast(x, E4M3, out=np.zeros(16, E4M3))
    with pytest.raises(TypeError, match="masked array"):
        ss.cast(np.ma.masked_array(x.astype(E4M3)), F32)
    for dtype in (E4M3, BF16):
        out = np.zeros((4, 4), dtype)
        out.flags.writeable = False
        with pytest.raises(ValueError, match="cast: out must be writable"):
            ss.cast(x, dtype, out=out)
        with pytest.raises(ValueError, match="out must not repeat elements"):
            ss.cast(x, dtype, out=np.lib.stride_tricks.as_strided(np.zeros(8, dtype), (4, 4), (dtype.itemsize,) * 2))
        within = x.copy()
        out = within.view(dtype).reshape(-1)[:16].reshape(4, 4)
        with pytest.raises(ValueError, match="x and out must not share elements"):
            ss.cast(within, dtype, out=out)
        assert (within == 1).all()
    codes = np.ones(10, E4M3)
    with pytest.raises(ValueError, match="x and out must not share elements"):
        ss.cast(codes[1:], E5M2, out=codes[:-1].view(E5M2))
