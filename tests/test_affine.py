"""Affine codes with known scales: golden vectors, both conventions, what is refused; scales of ranges."""

import json
import sys

import numpy as np
import pytest

import stepsmith as ss
from helpers import HERE, LAYOUTS, Array, assert_same_bits, laid_out, run_python
from quant_cases import CASES, DTYPES, numbers
from reference_affine import codes_of, decode_affine, pack_low, packed_rows, step_of, unpack_low
from reference_quant import GOLDEN
from stepsmith.quant import Affine, quantize_affine

ROWS = [row for row in json.loads((HERE / "golden" / "quant.json").read_text()) if row["op"] == "quantize_affine"]
GIVEN = [case for case in CASES if isinstance(case.scheme, Affine)]


@pytest.mark.parametrize("convention", ["onnx", "torch"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["case"])
def test_golden_codes_and_numbers(row: dict, convention: str) -> None:
    bits = {"int8": 8, "uint8": 8, "int4": 4}[row["dtype"]]
    symmetric = row["dtype"] != "uint8"
    scheme = Affine(bits, symmetric, row.get("axis"), None, convention, "full" if symmetric else "narrow")
    assert (scheme.qmin, scheme.qmax) == (row["qmin"], row["qmax"])
    x, case = GOLDEN[f"{row['case']}/x"], row["case"]
    scale = row["scale"] if "scale" in row else GOLDEN[f"{case}/scale"]
    q = quantize_affine(x, scheme, scale, row.get("zero_point"))
    codes = q.codes if bits == 8 else unpack_low(q.codes, 4, x.size, symmetric).reshape(x.shape)
    assert (codes == GOLDEN[f"{case}/q"]).all()
    assert (q.dequantize() == GOLDEN[f"{case}/dq"]).all()


def test_conventions_differ_where_the_reciprocal_rounds() -> None:
    x, s = np.float32([0.273939937]), np.float32(0.00214854861)
    assert quantize_affine(x, Affine(), s).codes == [127]
    assert quantize_affine(x, Affine(symmetric=False), s).codes == [127]
    assert quantize_affine(x, Affine(symmetric=False, convention="torch"), s).codes == [128]


def given(scheme: Affine, shape: tuple[int, ...]) -> tuple[Array, Array | None]:
    """Scales over four orders of magnitude and any zero points."""
    rng, steps = np.random.default_rng(3), scheme.steps_shape(shape)
    scale = np.exp(rng.uniform(-7, 2, steps)).astype(np.float32)
    return scale, None if scheme.symmetric else rng.integers(scheme.qmin, scheme.qmax + 1, steps).astype(np.int32)


@pytest.mark.parametrize("case", GIVEN, ids=[repr(case.scheme) for case in GIVEN])
def test_given_scales_are_the_oracles(case) -> None:
    scheme = case.scheme
    for shape in case.shapes:
        for dtype in DTYPES[:: 1 if np.prod(shape) < 5000 else 3]:
            x = numbers(shape, dtype)
            scale, point = given(scheme, shape)
            index, flat = step_of(shape, scheme), np.zeros(scale.size, np.int32) if point is None else point.ravel()
            with np.errstate(over="ignore", under="ignore"):
                codes = codes_of(np.asarray(x, np.float32), scale.ravel()[index], flat[index], scheme)
            if scheme.bits in (2, 4):
                codes = pack_low(codes.reshape(packed_rows(shape, scheme)), scheme.bits)
            q = quantize_affine(x, scheme, scale, point)
            assert (q.codes.astype(int) == codes).all(), (shape, dtype)
            assert q.scales.tobytes() == scale.tobytes()
            again = ss.quant.quantize(x, scheme)
            assert quantize_affine(x, scheme, scale, point, out=again) is again
            assert all(again.parts[name].tobytes() == part.tobytes() for name, part in q.parts.items())
            assert_same_bits(q.dequantize(), decode_affine(dict(q.parts), scheme, shape))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_given_scales_and_layouts(layout: str) -> None:
    x, scheme = numbers((40, 70, 9), DTYPES[0]), Affine(bits=4, symmetric=False, axis=1)
    scale, point = given(scheme, x.shape)
    want = quantize_affine(x, scheme, scale, point)
    assert quantize_affine(laid_out(x, layout), scheme, scale, point).codes.tobytes() == want.codes.tobytes()


def test_infinity_saturates() -> None:
    x = np.float32([np.inf, -np.inf, 0.0, 1.0] * 70)
    assert quantize_affine(x, Affine(), 0.1).codes[:4].tolist() == [127, -127, 0, 10]
    for symmetric in (True, False):
        back = ss.quant.quantize(x, Affine(symmetric=symmetric)).dequantize()
        assert np.isfinite(back).all()
        assert back[0] > 1e38
        assert back[1] < -1e38
        assert back[2] == 0


def test_nan_is_refused_before_anything_is_written_or_zero() -> None:
    x = np.ones((70, 1000), np.float32)
    x[3, 7] = x[69, 999] = np.nan
    out = ss.quant.quantize(np.full(x.shape, 0.5, np.float32), Affine())
    for given_out in (None, out):
        with pytest.raises(ValueError, match=r"quantize_affine: x must not have NaN .* index \[3, 7\]"):
            quantize_affine(x, Affine(), 0.25, out=given_out)
    assert (out.codes == 127).all()
    codes = quantize_affine(x, Affine(), 0.25, nan="zero", out=out).codes
    assert (codes == np.where(np.isnan(x), 0, 4)).all()


MEMORY = """
import numpy as np
import stepsmith as ss
from stepsmith.quant import Affine

def kib(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))

def grown(array, out, scheme):
    q = ss.quant.quantize(array, scheme)
    y, saved = ss.quant.fake_quantize(array, 0.1, out=out)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = kib("VmRSS")
    ss.quant.quantize(array, scheme, out=q)
    ss.quant.quantize_affine(array, scheme, q.scales, q.parts.get("zero_points"), out=q)
    q.dequantize(out=out)
    ss.quant.fake_quantize(array, 0.1, out=out)
    ss.quant.fake_quantize_backward(array, saved, out=(out, None))
    return kib("VmHWM") - before

x = np.random.default_rng(0).standard_normal((1024, 2048)).astype(np.float32)
room = np.empty_like(x)
settings = ({}, {"axis": 0}, {"axis": 1}, {"group_size": 64}, {"axis": 1, "symmetric": False}, {"bits": 4, "axis": 1})
with ss.threads(2):
    for given in settings:
        scheme = Affine(**given)
        grown(x[:65, :65].copy(), room[:65, :65], scheme)  # pages of the program count too: they are read here
        print(grown(x, room, scheme), grown(x.T, room.T, scheme))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for the memory at its highest")
def test_nothing_of_the_arrays_size_is_allocated() -> None:
    grown = [int(line) for line in run_python(MEMORY).split()]
    assert len(grown) == 12
    # The array has 8 MiB, its codes 2 or 1.
    assert max(grown) < 300, grown


RANGES = [(-1.0, 3.0), (0.5, 2.0), (-3.0, -1.0), (0.0, 0.0), (-1e-40, 1e-40), (-1e38, 3e38), (-np.inf, 1.0)]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("scaling", ["narrow", "observer", "full", None])
def test_scales_of_ranges(bits: int, scaling: str | None) -> None:
    scheme = Affine(bits, symmetric=scaling is not None, scaling=scaling or "narrow")
    low, high = np.array(RANGES).T
    scale, point = scheme.steps(low, high)
    most = np.finfo(np.float32).max
    low, high = np.clip(low, -most, 0).astype(np.float32), np.clip(high, 0, most).astype(np.float32)
    if scaling is None:
        wide = (high.astype(np.float64) - low) / (2**bits - 1)
        wide = np.minimum(wide, most / np.maximum(point, 2**bits - 1 - point))
        assert np.allclose(scale[wide > 1e-37], wide[wide > 1e-37], rtol=3e-7)
        # 0 has a code, and both ends are at most a step away from one.
        assert (point[wide < 1e-37] == 0).all()
        assert (np.abs((0 - point) * scale.astype(np.float64) - low)[wide > 1e-37] <= scale[wide > 1e-37]).all()
    else:
        divisor = 2 ** (bits - 1) - 1 + {"narrow": 0, "observer": 0.5, "full": 1}[scaling]
        wanted = np.maximum(-low, high) / np.float32(divisor)
        wanted = np.where(wanted < np.finfo(np.float32).tiny, 1, np.minimum(wanted, np.float32(most / -scheme.qmin)))
        assert (scale[:-1] == wanted[:-1]).all()
        assert np.isclose(scale[-1], wanted[-1], rtol=2e-7)
        assert not point.any()


def test_bad_arguments_are_named() -> None:
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(ValueError, match="Affine: bits must be at most 8, got 9"):
        Affine(9)
    with pytest.raises(ValueError, match="Affine: axis must be None with group_size, got 0"):
        Affine(axis=0, group_size=32)
    with pytest.raises(ValueError, match="Affine: group_size must be a multiple of 2, got 33"):
        Affine(4, group_size=33)
    with pytest.raises(ValueError, match="convention must be one of onnx, torch, got 'tf'"):
        Affine(convention="tf")
    with pytest.raises(ValueError, match="scaling must be 'narrow' for asymmetric codes, got 'full'"):
        Affine(symmetric=False, scaling="full")
    with pytest.raises(ValueError, match=r"axis must be one of an array of shape \(3, 4\), got 2"):
        ss.quant.quantize(x, Affine(axis=2))
    with pytest.raises(TypeError, match="quantize_affine: scheme must be an Affine, got NF4"):
        quantize_affine(x, ss.quant.NF4(), 1.0)  # type: ignore[arg-type]
    for scale, got in ((0.0, "0.0"), (-1, "-1"), (np.nan, "nan"), (1e-40, "1e-40"), (np.inf, "inf")):
        with pytest.raises(ValueError, match=f"scale must be finite normal float32 numbers above 0, got {got}"):
            quantize_affine(x, Affine(), scale)
    with pytest.raises(TypeError, match="scale must be numbers, got <U1"):
        quantize_affine(x, Affine(), "a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"scale must have shape \(4,\) or be one number, got shape \(3,\)"):
        quantize_affine(x, Affine(axis=1), np.ones(3))
    with pytest.raises(ValueError, match="zero_point must be 0 for symmetric codes, got 3"):
        quantize_affine(x, Affine(), 1.0, 3)
    with pytest.raises(ValueError, match=r"zero_point must be in \[0, 15\], got 16"):
        quantize_affine(x, Affine(4, symmetric=False), 1.0, 16)
    with pytest.raises(TypeError, match="zero_point must be integers, got float64"):
        quantize_affine(x, Affine(symmetric=False), 1.0, 1.5)
    with pytest.raises(ValueError, match="quantize_affine: out must have scheme"):
        quantize_affine(x, Affine(), 1.0, out=ss.quant.quantize(x, Affine(4)))
    with pytest.raises(ValueError, match="low and high must not be NaN"):
        Affine().steps(np.nan, 1.0)
