"""Every scheme of the list on a GPU: codes, scales and numbers have the CPU's bits."""

import re
from math import prod
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from gpu_layouts import LAYOUTS, on_device
from gpu_shim import array as shim
from helpers import Array, assert_same_bits
from quant_cases import CASES, DTYPES, Case, numbers
from stepsmith import _core
from stepsmith.cuda.quant.affine import LONGEST
from stepsmith.cuda.quant.blocks import CODECS
from stepsmith.cuda.quant.ggml import KINDS
from stepsmith.quant import GGML, MX, NF4, NVFP4, Affine, Dynamic8, Float8, QuantizedArray

F32 = DTYPES[0]
ids = [repr(case.scheme) for case in CASES]
SMALL = 10_000
"""Elements of the largest array of a quick run."""


def shape_of(case: Case) -> tuple[int, ...]:
    """The largest shape that is still small, of more than one axis where there is one."""
    shapes = [shape for shape in case.shapes if prod(shape) <= SMALL]
    return max((shape for shape in shapes if len(shape) > 1), key=prod, default=max(shapes, key=prod))


def is_quick(case: Case, shape: tuple[int, ...]) -> bool:
    """The largest one that is small, and all that are tiny."""
    largest = max((shape for shape in case.shapes if prod(shape) <= SMALL), key=prod)
    return shape == largest or prod(shape) < 300


def with_shapes() -> Any:
    """Cases with their quick shapes, and as slow ones with all others."""
    rows = []
    for case, name in zip(CASES, ids):
        quick = [shape for shape in case.shapes if is_quick(case, shape)]
        slow = [shape for shape in case.shapes if shape not in quick]
        rows.append(pytest.param(case, quick, id=name))
        rows.append(pytest.param(case, slow, marks=pytest.mark.slow, id=f"{name}-large"))
    return pytest.mark.parametrize(("case", "shapes"), rows)


every = pytest.mark.parametrize("case", CASES, ids=ids)


def assert_same_parts(got: QuantizedArray, want: QuantizedArray, what: object = "") -> None:
    """Parts of an array of the device, bit by bit."""
    assert got.device == "cuda:0"
    on_host = got.to("cpu")
    assert (on_host.scheme, on_host.shape, set(on_host.parts)) == (want.scheme, want.shape, set(want.parts))
    for name, part in want.parts.items():
        assert on_host.parts[name].dtype == part.dtype
        assert_same_bits(
            on_host.parts[name].view(f"u{part.itemsize}"), part.view(f"u{part.itemsize}"), f"{what} {name}"
        )


def both(gpu: Any, x: Array, scheme: Any, layout: str = "C") -> tuple[QuantizedArray, QuantizedArray]:
    """On the device and on the host, compared."""
    got, want = ss.quant.quantize(on_device(gpu, x, layout), scheme), ss.quant.quantize(x, scheme)
    assert_same_parts(got, want, (scheme, x.shape, x.dtype, layout))
    return got, want


def test_every_codec_of_the_core_has_a_kernel() -> None:
    assert {*CODECS, *KINDS} == set(_core.CODECS)
    assert set(KINDS) == set(ss.quant.ggml.KINDS)


@pytest.mark.usefixtures("schedule")
@with_shapes()
def test_codes_scales_and_numbers_are_the_cpus(gpu: Any, case: Case, shapes: list[tuple[int, ...]]) -> None:
    for shape in shapes:
        for dtype in DTYPES if prod(shape) >= 300 else DTYPES[:1]:
            got, want = both(gpu, numbers(shape, dtype), case.scheme)
            assert_same_bits(got.dequantize(dtype=dtype).get(), want.dequantize(dtype=dtype), repr(case))


@every
def test_layouts_change_nothing(gpu: Any, case: Case) -> None:
    shape = min((shape for shape in case.shapes if len(shape) > 1 and prod(shape) > 60), key=prod)
    x = numbers(shape, DTYPES[2])
    for layout in LAYOUTS:
        got, want = both(gpu, x, case.scheme, layout)
        out = on_device(gpu, np.full(shape, 7, DTYPES[3]), layout)
        assert got.dequantize(out=out) is out
        with np.errstate(over="ignore", under="ignore"):
            assert_same_bits(out.get(), want.dequantize(dtype=DTYPES[3]), layout)


@every
def test_nan_is_refused_before_anything_is_written_or_zero(gpu: Any, case: Case) -> None:
    shape = max((shape for shape in case.shapes if len(shape) > 1 and prod(shape) <= SMALL), key=prod)
    x = numbers(shape, F32)
    out = ss.quant.quantize(gpu.asarray(x), case.scheme)
    before = {name: part.tobytes() for name, part in out.parts.items()}
    bad, places = x.copy(), [tuple(n // 2 for n in shape), tuple(n - 1 for n in shape)]
    for place in places:
        bad[place] = np.nan
    for given in (None, out):
        with pytest.raises(
            ValueError, match=re.escape(f"NaN (nan='zero' takes it for 0), got one at index {list(places[0])}")
        ):
            ss.quant.quantize(gpu.asarray(bad), case.scheme, out=given)
    assert {name: part.tobytes() for name, part in out.parts.items()} == before
    assert_same_parts(
        ss.quant.quantize(gpu.asarray(bad), case.scheme, nan="zero"), ss.quant.quantize(bad, case.scheme, nan="zero")
    )
    again = ss.quant.quantize(gpu.asarray(-x), case.scheme, out=out)
    assert again is out
    assert_same_parts(out, ss.quant.quantize(-x, case.scheme))


@every
def test_infinity_and_zeros_of_both_signs(gpu: Any, case: Case) -> None:
    shape = shape_of(case)
    x = numbers(shape, F32).reshape(-1)
    x[:: max(x.size // 7, 1)] = np.inf
    x[1 :: max(x.size // 5, 2)] = -np.inf
    got, want = both(gpu, x.reshape(shape), case.scheme)
    assert_same_bits(got.dequantize().get(), want.dequantize())
    for zero in (0.0, -0.0):
        got, want = both(gpu, np.full(shape, zero, np.float32), case.scheme)
        assert_same_bits(got.dequantize().get(), want.dequantize())


@pytest.mark.usefixtures("gpu")
@every
def test_moves_keep_bits_and_scheme(case: Case) -> None:
    want = ss.quant.quantize(numbers(shape_of(case), F32), case.scheme)
    assert want.device == "cpu"
    got = want.to("cuda")
    assert_same_parts(got, want)
    assert got.to("cuda:0") is got
    assert_same_bits(got.dequantize().get(), want.dequantize())
    assert all(part.dtype.kind in "iuf" for part in got.parts.values())


# Rows of a multiple of four but no whole groups; one, two, four and all lanes a group; longer runs than a warp takes.
CUTS = [
    (Affine(bits=4, group_size=6, symmetric=False), (5, 8)),
    (Affine(bits=2, group_size=12), (7, 64)),
    (Affine(group_size=3), (4, 20)),
    (Affine(bits=4, group_size=128, convention="torch"), (3, 100)),
    (Affine(bits=4, axis=0), (3, LONGEST + 2)),
    (Affine(bits=2, symmetric=False, axis=0), (6, 9)),
    (Affine(axis=1), (2, 3, 1)),
    (Affine(bits=4, axis=-1, symmetric=False), (400, 7)),
]


@pytest.mark.usefixtures("schedule")
@pytest.mark.parametrize(("scheme", "shape"), CUTS, ids=repr)
def test_affine_codes_however_an_array_is_cut(gpu: Any, scheme: Affine, shape: tuple[int, ...]) -> None:
    got, want = both(gpu, numbers(shape, F32), scheme)
    assert_same_bits(got.dequantize().get(), want.dequantize())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "scheme", [NF4(32), Dynamic8(32), Float8("e4m3fn", 64), MX("mxfp4"), GGML("q6_k"), Affine()], ids=repr
)
def test_blocks_whose_numbers_lie_around_middles(gpu: Any, scheme: Any, seed: int) -> None:
    q = ss.quant.quantize(np.random.default_rng(seed).standard_normal((16, 256)).astype(np.float32), scheme)
    levels = np.sort(q.dequantize(), axis=-1)
    x = ((levels[:, 1:] + levels[:, :-1]) / 2).astype(np.float32)
    x = np.concatenate([levels[:, :1], x], axis=1)
    for near in (x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))):
        both(gpu, near, scheme)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_ggml_that_are_seldom(gpu: Any, kind: str) -> None:
    rng, levels = np.random.default_rng(0), {"q8_0": 127, "q4_0": 8, "q4_1": 15, "q5_0": 16}.get(kind, 32)
    halves = rng.integers(-2 * levels, 2 * levels, (40, 256)).astype(np.float32) / 2
    top = np.array([levels, -levels] * 20, np.float32)[:, None]
    above = np.abs(rng.standard_normal((20, 256))).astype(np.float32) + np.float32(3)
    huge = np.linspace(-1e30, 1e30, 2560, dtype=np.float32).reshape(10, 256)
    edge = rng.uniform(-65504 * levels, 65504 * levels, (6, 256)).astype(np.float32)
    for row, most in enumerate((65519, 65520, 65521, -65519, -65520, -65521)):
        edge[row, ::32] = np.float32(most) * levels
    near = [halves, np.nextafter(halves, np.float32(0)), np.nextafter(halves, 2 * halves)]
    for x in near:
        x[:, 5::32] = top
    for x in (*near, above, -above, huge, edge):
        got, want = both(gpu, x, GGML(kind))
        assert_same_bits(got.dequantize().get(), want.dequantize())


@pytest.mark.usefixtures("gpu")
def test_numbers_of_any_codes_and_scales() -> None:
    rng = np.random.default_rng(0)
    for scheme, shape in [
        (MX("mxfp8_e4m3"), (5, 70)),
        (MX("mxfp8_e5m2"), (4096,)),
        (MX("mxfp4"), (5, 70)),
        (NVFP4(), (5, 70)),
    ]:
        parts = {}
        for name, (of, dtype) in scheme.parts(shape).items():
            size = prod(of) * dtype.itemsize
            parts[name] = (
                rng.integers(0, 256, size, np.uint8).view(dtype).reshape(of) if of else np.asarray(0.37, dtype)
            )
        want = QuantizedArray(scheme, shape, parts)
        assert_same_bits(want.to("cuda").dequantize().get(), want.dequantize(), repr(scheme))


def test_the_host_waits_only_for_what_it_must_know(gpu: Any) -> None:
    x = gpu.asarray(numbers((3, 512), F32))
    for scheme in (NF4(), GGML("q4_0"), Affine(bits=4, axis=0), Affine(axis=1)):
        q = ss.quant.quantize(x, scheme)
        before = shim.syncs
        ss.quant.quantize(x, scheme, out=q, nan="zero")
        q.dequantize()
        assert shim.syncs == before, scheme
    q = ss.quant.quantize(x, NVFP4())
    before = shim.syncs
    q.dequantize()
    assert shim.syncs == before


def test_arrays_of_two_kinds_are_refused(gpu: Any) -> None:
    x = numbers((3, 64), F32)
    on_host, there = ss.quant.quantize(x, NF4()), ss.quant.quantize(gpu.asarray(x), NF4())
    bad = [
        lambda: ss.quant.quantize(x, NF4(), out=there),
        lambda: ss.quant.quantize(gpu.asarray(x), NF4(), out=on_host),
        lambda: there.dequantize(out=np.empty_like(x)),
        lambda: on_host.dequantize(out=gpu.asarray(x)),
        lambda: QuantizedArray(NF4(), (3, 64), {"codes": there.codes, "scales": on_host.scales}),
        lambda: there.error(x),
        lambda: there.matmul(x),
        lambda: on_host.matmul(gpu.asarray(x)),
        lambda: ss.quant.quantize_affine(gpu.asarray(x), Affine(axis=1), np.ones(64)),
        lambda: ss.quant.quantize_affine(x, Affine(axis=1), gpu.ones(64)),
        lambda: Affine().steps(gpu.ones(3), np.ones(3)),
    ]
    for call in bad:
        with pytest.raises(TypeError, match=r"CuPy.* NumPy|NumPy.* CuPy"):
            call()
    with pytest.raises(ValueError, match=r"QuantizedArray\.to: device must be 'cpu', 'cuda' or 'cuda:N', got 'gpu'"):
        on_host.to("gpu")


def test_outputs_that_overlap_are_refused(gpu: Any) -> None:
    q = ss.quant.quantize(gpu.ones(256, np.float32), Dynamic8())
    room = gpu.zeros(1024, np.uint8)
    shared = QuantizedArray(q.scheme, q.shape, {"codes": room[:256], "scales": q.scales})
    with pytest.raises(ValueError, match="x must not share memory"):
        ss.quant.quantize(room.view(np.float32), Dynamic8(), out=shared)
    with pytest.raises(ValueError, match="must not share memory"):
        shared.dequantize(out=room.view(np.float32))
    with pytest.raises(ValueError, match="out must not repeat elements"):
        q.dequantize(out=gpu.broadcast_to(gpu.zeros(1, np.float32), (256,)))


def test_figures_of_the_error_are_near_the_cpus(gpu: Any) -> None:
    x = np.random.default_rng(1).standard_normal((70, 300)).astype(np.float32)
    for layout in ("C", "F"):
        got = ss.quant.quantize(gpu.asarray(x), NF4()).error(on_device(gpu, x, layout))
        want = ss.quant.quantize(x, NF4()).error(x)
        assert got.max == want.max
        assert np.allclose(got, want, rtol=1e-12)


def test_files_are_written_from_the_host(gpu: Any, tmp_path: Any) -> None:
    x = numbers((3, 256), F32)
    arrays = {"mx": ss.quant.quantize(x, MX()), "nf4": ss.quant.quantize(x, NF4(double_quant=True)), "plain": x}
    there = {name: value.to("cuda") if name != "plain" else gpu.asarray(value) for name, value in arrays.items()}
    for name, tensors in (("host", arrays), ("gpu", there)):
        ss.quant.save(tmp_path / name, tensors)
    assert (tmp_path / "host").read_bytes() == (tmp_path / "gpu").read_bytes()
    blocks = {"w": ss.quant.quantize(x, GGML("q8_0")), "b": x[0]}
    ss.quant.save_gguf(tmp_path / "a.gguf", blocks)
    ss.quant.save_gguf(tmp_path / "b.gguf", {"w": blocks["w"].to("cuda"), "b": gpu.asarray(x[0])})
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
