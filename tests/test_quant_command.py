"""``stepsmith quantize`` and ``stepsmith inspect``: real weights, choice of tensors, errors of users, memory, bar."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import stepsmith as ss
from checkpoints import PACKAGES, checkpoint
from helpers import Array, run_python
from stepsmith import cli
from stepsmith.quant import QuantizedArray
from stepsmith.quant._command import parse_settings
from test_quant_files import assert_same


class Ran:
    """What a command printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        self.code = cli.main([str(argument) for argument in arguments])
        self.out, self.err = capsys.readouterr()

    def row(self, name: str) -> list[str]:
        """The words of a tensor's line."""
        return next(line.split() for line in self.out.splitlines() if line.split()[0] == name)


def arrays() -> dict[str, Array]:
    x = np.random.default_rng(0).standard_normal((40, 24)).astype(np.float32)
    return {
        "a.weight": x,
        "a.bias": x[0],
        "b.weight": x[:30].astype(ml_dtypes.bfloat16),
        "b.index": np.arange(12).reshape(3, 4),
        "half": x[:3].astype(np.float16),
        "scale": np.array(2.0),
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_file(arrays(), tmp_path / "model.safetensors", {"format": "pt"})
    return tmp_path / "model.safetensors"


def kinds(path: Path) -> dict[str, bool]:
    return {name: isinstance(value, QuantizedArray) for name, value in ss.quant.load(path).items()}


@pytest.mark.parametrize("package", PACKAGES)
def test_real_weights(package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = checkpoint(package, tmp_path), tmp_path / "small.safetensors"
    ran = Ran(capsys, "quantize", source, target, "--scheme", "nf4")
    assert (ran.code, ran.err) == (0, "")
    before, after = ss.quant.load(source), ss.quant.load(target)
    assert list(after) == list(before)
    assert sum(isinstance(value, QuantizedArray) for value in after.values()) >= 2
    for name, x in before.items():
        assert isinstance(x, np.ndarray)
        if x.ndim < 2 or x.dtype.kind != "f":
            assert_same(after[name], x)
            assert ran.row(name)[5] == "kept:"
            continue
        q = ss.quant.quantize(x, ss.quant.NF4())
        assert_same(after[name], q)
        error, sizes = q.error(x), (f"{x.nbytes:,}", f"{q.nbytes:,}")
        shape = "x".join(map(str, x.shape))
        assert ran.row(name) == [name, shape, "float32", *sizes, f"{error.sqnr:.2f}", f"{error.max:.3g}", "quantized"]
        assert 15 < error.sqnr < 30
    assert os.path.getsize(target) < 0.2 * os.path.getsize(source)
    assert Ran(capsys, "inspect", target).out.endswith("hashes: all as they were saved\n")


def test_floats_of_two_axes_are_quantized_by_default(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = model.parent / "out.safetensors"
    ran = Ran(
        capsys, "quantize", model, target, "--scheme", "dynamic8", "--set", "block_size=32", "--set", "signed=True"
    )
    assert [name for name, is_quantized in kinds(target).items() if is_quantized] == ["a.weight", "b.weight", "half"]
    back = ss.quant.load(target)
    assert back["a.weight"].scheme == ss.quant.Dynamic8(32)
    assert back.metadata == {"format": "pt"}
    for name in ("a.bias", "b.index", "scale"):
        assert_same(back[name], arrays()[name])
    assert ran.row("b.index")[-2:] == ["kept:", "int64"]
    assert ran.row("a.bias")[-3:] == ["kept:", "1", "axis"]
    assert ran.row("scale")[-3:] == ["kept:", "no", "axes"]
    total = ran.row("total")
    sizes = [sum(value.nbytes for value in values.values()) for values in (arrays(), back)]
    assert total == ["total", *(f"{size:,}" for size in sizes)]
    assert "\ndynamic8 block_size=32: 3 of 6 tensors quantized, 3 kept\n" in ran.out


def test_globs_and_sizes_choose(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def chosen(*options: str) -> list[str]:
        target = model.parent / "out.safetensors"
        ran = Ran(capsys, "quantize", model, target, "--scheme", "nf4", "--force", *options)
        assert ran.code == 0, ran.err
        return [name for name, is_quantized in kinds(target).items() if is_quantized]

    assert sorted(chosen("--include", "*.weight")) == ["a.weight", "b.weight"]
    assert sorted(chosen("--include", "a.*", "--include", "scale")) == ["a.bias", "a.weight", "scale"]
    assert chosen("--exclude", "[bh]*") == ["a.weight"]
    assert chosen("--include", "a.*", "--exclude", "*.bias") == ["a.weight"]
    assert sorted(chosen("--min-size", "720")) == ["a.weight", "b.weight"]
    assert chosen("--min-size", "721") == ["a.weight"]
    assert chosen("--include", "b.index") == []


def test_what_a_scheme_cannot_hold_is_kept(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ss.quant.NF4.parts

    def picky(scheme: ss.quant.NF4, shape: tuple[int, ...]) -> Any:
        if shape[0] != 40:
            raise ValueError("NF4: the first axis must have 40 elements")
        return parts(scheme, shape)

    monkeypatch.setattr(ss.quant.NF4, "parts", picky)
    target = model.parent / "out.safetensors"
    ran = Ran(capsys, "quantize", model, target, "--scheme", "nf4")
    assert [name for name, is_quantized in kinds(target).items() if is_quantized] == ["a.weight"]
    assert "kept: NF4: the first axis must have 40 elements" in ran.out


def test_what_would_not_be_smaller_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = {"one": np.ones((1, 1), np.float16), "two": np.ones((1, 2), np.float32)}
    ss.quant.save(tmp_path / "x.safetensors", tensors)
    ran = Ran(capsys, "quantize", tmp_path / "x.safetensors", tmp_path / "y.safetensors", "--scheme", "nf4")
    assert ran.row("one")[-3:] == ["kept:", "not", "smaller"]
    assert kinds(tmp_path / "y.safetensors") == {"one": False, "two": True}


def test_what_is_quantized_already_is_kept(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = model.parent / "1.safetensors", model.parent / "2.safetensors"
    Ran(capsys, "quantize", model, first, "--scheme", "nf4", "--include", "a.weight")
    ran = Ran(capsys, "quantize", first, second, "--scheme", "fp4")
    back = ss.quant.load(second)
    assert_same(back["a.weight"], ss.quant.load(first)["a.weight"])
    assert back["b.weight"].scheme == ss.quant.FP4()
    assert "kept: nf4\n" in ran.out
    assert back.metadata == {"format": "pt"}


def test_force_replaces_the_input_too(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Ran(capsys, "quantize", model, model, "--scheme", "nf4").code == 2
    assert_same(load_file(model)["half"], arrays()["half"])
    assert Ran(capsys, "quantize", model, model, "--scheme", "nf4", "--force").code == 0
    assert_same(ss.quant.load(model)["half"], ss.quant.quantize(arrays()["half"], ss.quant.NF4()))
    assert os.listdir(model.parent) == [model.name]


def test_nan_is_an_error_or_zero(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = arrays()
    tensors["a.weight"][3, 5] = np.nan
    save_file(tensors, model)
    target = model.parent / "out.safetensors"
    ran = Ran(capsys, "quantize", model, target, "--scheme", "nf4")
    assert ran.code == 2
    assert "'a.weight': quantize: x must not have NaN" in ran.err
    assert not target.exists()
    assert Ran(capsys, "quantize", model, target, "--scheme", "nf4", "--nan", "zero").code == 0
    assert ss.quant.load(target)["a.weight"].dequantize()[3, 5] == 0


USERS_ERRORS = {
    "missing": (["quantize", "no.safetensors", "out"], "no.safetensors: No such file or directory"),
    "folder": (["quantize", ".", "out"], ".: Is a directory"),
    "no safetensors": (["quantize", "text", "out"], "text must be a safetensors file, got one with"),
    "empty": (["quantize", "empty", "out"], "empty must be a safetensors file, got one with"),
    "output exists": (["quantize", "model.safetensors", "text"], "the output text exists; --force replaces it"),
    "output folder": (["quantize", "model.safetensors", "."], "the output must be a file, got the folder ."),
    "no folder": (
        ["quantize", "model.safetensors", "no/out"],
        "the output must be in a folder that exists, got no/out",
    ),
    "scheme": (["quantize", "model.safetensors", "out", "--scheme", "nf5"], "scheme: name must be one of "),
    "setting": (
        ["quantize", "model.safetensors", "out", "--set", "x=1"],
        "settings of nf4 are block_size, double_quant, got 'x'",
    ),
    "value": (
        ["quantize", "model.safetensors", "out", "--set", "block_size=a"],
        "block_size must be an integer, got 'a'",
    ),
    "pair": (
        ["quantize", "model.safetensors", "out", "--set", "block_size"],
        "--set must be NAME=VALUE, got 'block_size'",
    ),
    "glob": (["quantize", "model.safetensors", "out", "--include", "x*"], "must match a tensor, got 'x*'"),
    "exclude": (["quantize", "model.safetensors", "out", "--exclude", "x*"], "must match a tensor, got 'x*'"),
    "inspect": (["inspect", "no.safetensors"], "no.safetensors: No such file or directory"),
    "ending": (["inspect", "text"], "the file must end with .safetensors or .gguf, got text"),
    "no gguf": (["inspect", "text.gguf"], "text.gguf must be a GGUF file, got one with"),
    "missing gguf": (["inspect", "no.gguf"], "no.gguf: No such file or directory"),
}


@pytest.mark.parametrize("case", USERS_ERRORS)
def test_errors_of_users_are_a_sentence_and_exit_code_2(
    case: str, model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    for name, content in {"text": "not a model", "text.gguf": "not a model", "empty": ""}.items():
        Path(name).write_text(content)
    arguments, message = USERS_ERRORS[case]
    if arguments[0] == "quantize" and "--scheme" not in arguments:
        arguments = [*arguments, "--scheme", "nf4"]
    before = sorted(os.listdir())
    ran = Ran(capsys, *arguments)
    assert ran.code == 2
    assert ran.err.startswith(f"stepsmith {arguments[0]}: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert ran.out == ""
    assert sorted(os.listdir()) == before


def test_settings_are_numbers_words_or_texts() -> None:
    pairs = ["bits=4", "symmetric=False", "axis=none", "convention=onnx", "q=0.5", "empty=", "eq=a=b"]
    want = {"bits": 4, "symmetric": False, "axis": None, "convention": "onnx", "q": 0.5, "empty": "", "eq": "a=b"}
    assert parse_settings(pairs) == want
    with pytest.raises(ValueError, match="--set must name a setting once, got bits twice"):
        parse_settings(["bits=4", "bits=5"])


def test_inspect_shows_files_of_both_kinds(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = Ran(capsys, "inspect", model)
    assert ran.row("b.weight") == ["b.weight", "30x24", "bfloat16", "1,440"]
    assert ran.row("scale") == ["scale", "()", "float64", "8"]
    assert "6 tensors\nmetadata:\n  format: pt\nno hashes: not saved by stepsmith\n" in ran.out
    target = model.parent / "out.safetensors"
    Ran(capsys, "quantize", model, target, "--scheme", "nf4")
    ran = Ran(capsys, "inspect", target)
    assert ran.row("a.weight") == ["a.weight", "40x24", "nf4", "540"]
    assert "format: pt\nhashes: all as they were saved\n" in ran.out


def test_inspect_finds_damage(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ss.quant.save(model, arrays())
    content = model.read_bytes()
    start = content.index(arrays()["a.bias"].tobytes())
    model.write_bytes(content[:start] + b"x" + content[start + 1 :])
    ran = Ran(capsys, "inspect", model)
    assert ran.code == 2
    assert ran.row("a.bias") == ["a.bias", "24", "float32", "96"]
    assert ran.err == f"stepsmith inspect: {model} is damaged: 'a.bias' has not the SHA-256 that was saved\n"


def test_inspect_reads_gguf(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list([f"token {i}\n" for i in range(500)])
    writer.add_tensor("plain", np.ones((3, 32), np.float32))
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("codes", gguf.quantize(np.ones((3, 64), np.float32), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ran = Ran(capsys, "inspect", path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.row("plain") == ["plain", "3x32", "F32", "384"]
    assert ran.row("codes") == ["codes", "3x64", "Q8_0", "204"]
    assert "  general.architecture: llama\n" in ran.out
    assert max(map(len, ran.out.splitlines())) < 140
    monkeypatch.setitem(sys.modules, "gguf", None)
    ran = Ran(capsys, "inspect", path)
    assert ran.code == 2
    assert "stepsmith[gguf]" in ran.err


PEAK = """
import contextlib, os, resource, sys
import numpy as np
import stepsmith as ss
from stepsmith import cli

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

os.chdir("{folder}")
ss.quant.save("small.safetensors", {{"x": np.ones((3, 3), np.float32)}})
with contextlib.redirect_stdout(sys.stderr):
    cli.main(["quantize", "small.safetensors", "out.safetensors", "--scheme", "nf4"])
    before = peak()
    cli.main(["quantize", "large.safetensors", "out.safetensors", "--scheme", "nf4", "--force"])
print(peak() - before)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="reads getrusage")
def test_the_file_is_in_memory_once(tmp_path: Path) -> None:
    """48 MiB of tensors that are kept, which are pages of the file, and 48 MiB that are quantized."""
    kept = {f"bias.{i}": np.full(1 << 20, i, np.float32) for i in range(12)}
    ss.quant.save(
        tmp_path / "large.safetensors", kept | {f"w.{i}": x.reshape(1024, -1) for i, x in enumerate(kept.values())}
    )
    assert int(run_python(PEAK.format(folder=tmp_path))) < 1.4 * (96 << 10)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a terminal")
def test_a_terminal_gets_a_bar_and_nothing_else_does(model: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    command = [sys.executable, "-m", "stepsmith", "quantize", str(model), str(model), "--scheme", "nf4", "--force"]
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    shown = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal, check=True, timeout=60)
    os.close(terminal)
    bar = os.read(main, 10_000).decode()
    os.close(main)
    assert "0%" in bar
    assert "B/s" in bar
    assert b"quantized" in shown.stdout
