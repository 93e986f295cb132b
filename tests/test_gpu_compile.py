"""Every kernel as machine code, without a GPU: what the compiler says of registers and memory, and what it wrote."""

import re

import pytest

from gpu_shim import ahead
from stepsmith.cuda import _nvrtc
from stepsmith.cuda._source import FOLDER, _text, programs

MOST_REGISTERS = 128
"""Of a thread: with more only one block of 256 threads has room on a multiprocessor."""

_RULE = "\nRULE("

_REPORT = re.compile(
    r"entry function '(?P<name>\w+)'.*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)


def devices():
    more = [pytest.param(number, marks=pytest.mark.slow) for number in ahead.MORE_DEVICES]
    return [*ahead.DEVICES, *more]


@pytest.mark.parametrize("device", devices())
@pytest.mark.parametrize("program", programs())
def test_every_kernel_compiles_without_spills(program, device):
    log = ahead.report(program, f"sm_{device}").log
    reports = [match.groupdict() for match in _REPORT.finditer(log)]
    assert {report["name"] for report in reports} == set(re.findall(r"\.entry (\w+)", ptx(program)))
    for report in reports:
        assert (report["stores"], report["loads"]) == ("0", "0"), report
        assert int(report["registers"]) <= MOST_REGISTERS, report


def ptx(program):
    return ahead.report(program, f"sm_{ahead.DEVICES[0]}").ptx


def test_every_program_that_is_launched_is_among_them():
    texts = [path.read_text() for path in FOLDER.parent.rglob("*.py")]
    launched = {name for text in texts for name in re.findall(r"\blaunch\w*\(\s*\"(\w+)\"", text)}
    assert {"uniform", "norm_rows", "softmax"} <= launched <= set(programs())


@pytest.mark.parametrize("program", programs())
def test_every_operation_is_rounded_by_itself(program):
    text = ptx(program)
    assert not re.findall(r"\b(?:fma|mad)\.\S*f(?:32|64)|\.ftz|\.approx", text)
    assert "call.uni" not in text or "__internal" not in text


VECTORS = [
    ("quantize", "quantize", "ld.global.v4.u32"),
    ("quantize", "dequantize", "st.global.v4.f32"),
    ("ggml", "quantize_ggml", "ld.global.v4.u32"),
    ("affine", "affine_blocks", "ld.global.v4.u32"),
    ("affine", "affine_dequantize", "st.global.v4.f32"),
    ("fake", "fake_quantize_f32", "ld.global.v4.f32"),
]
"""Programs, kernels, and what moves the numbers of their arrays of float32."""


@pytest.mark.parametrize(("program", "kernel", "instruction"), VECTORS)
def test_main_kernels_move_16_bytes_at_once(program, kernel, instruction):
    (body,) = (part for part in ptx(program).split(".entry ") if part.startswith(f"{kernel}("))
    assert instruction in body
    # Memory of any kind is slower, and the compiler may not put it off.
    assert not re.findall(r"\b(?:ld|st)\.(?:v[24]\.)?[bfu](?:16|32|64)", body)


@pytest.mark.parametrize("program", [name for name in programs() if _RULE in _text(f"{name}.cuh")])
def test_a_step_reads_and_writes_sixteen_bytes_at_once(program):
    text = ptx(program)
    assert "ld.global.v4.f32" in text
    assert "st.global.v4.f32" in text
    assert "ld.global.v2.f64" in text
    assert not re.findall(r"\b(?:ld|st)\.v[24]\.", text), "an address that may be of any memory"


@pytest.mark.parametrize("program", ["activation", "norm_rows", "norm_rows_backward", "softmax", "softmax_backward"])
def test_rows_are_read_and_written_sixteen_bytes_at_once(program):
    text = ptx(program)
    for access in ("ld.global.v4.f32", "st.global.v4.f32", "ld.global.v2.f64", "st.global.v2.f64", "ld.global.v2.u32"):
        assert access in text
    assert not re.findall(r"\b(?:ld|st)\.v[24]\.", text), "an address that may be of any memory"


def test_a_product_and_a_sum_would_be_fused_without_the_option():
    text = 'extern "C" __global__ void f(float *x) { x[0] = x[1] * x[2] + x[3]; }'
    options = [option for option in _nvrtc.OPTIONS if not option.startswith("--fmad")]
    assert "fma.rn.f32" in _nvrtc.compiler().compile("f.cu", text, "compute_75", options).code.decode()
    assert "fma.rn.f32" not in _nvrtc.compiler().compile("f.cu", text, "compute_75").code.decode()


def test_an_error_shows_the_line_of_the_file():
    text = '#line 1 "wrong.cuh"\nvoid f() {\n    return 1 +;\n}\n'
    with pytest.raises(RuntimeError, match=r"NVRTC failed: .*COMPILATION\n.*wrong\.cuh\(2\): error"):
        _nvrtc.compiler().compile("f.cu", text, "compute_75")


def test_a_missing_compiler_names_the_extra(monkeypatch):
    monkeypatch.setattr(_nvrtc, "_candidates", lambda _: iter(["/nowhere/libnvrtc.so"]))
    with pytest.raises(ImportError, match=r"needs NVRTC 12 of the CUDA toolkit.*stepsmith\[cuda12\]"):
        _nvrtc.compiler.__wrapped__(12)
