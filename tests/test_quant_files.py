"""Saved arrays: there and back bit by bit, files of other programs, damage of any byte, writes that fail."""

import os
import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import stepsmith as ss
from helpers import LAYOUTS, Array, laid_out, run_python
from quant_cases import CASES, numbers
from stepsmith.quant import QuantizedArray, _archive, _tensors

PLAIN_DTYPES = [np.dtype(code) for code in "?bBhHiIlLefdF"]
PLAIN_DTYPES += [np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")]
PLAIN_DTYPES += [np.dtype(getattr(ml_dtypes, name)) for name in ("float8_e8m0fnu", "int4", "uint4", "float4_e2m1fn")]


def assert_same(got: Any, want: Any) -> None:
    """Both quantized alike, or plain arrays of the same bytes."""
    assert type(got) is type(want)
    if isinstance(want, QuantizedArray):
        assert (got.scheme, got.shape, list(got.parts)) == (want.scheme, want.shape, list(want.parts))
        for name, part in want.parts.items():
            assert_same(got.parts[name], part)
    else:
        assert (got.dtype, got.shape, got.tobytes()) == (want.dtype, want.shape, want.tobytes())


def some() -> dict[str, Any]:
    x = numbers((5, 7), np.dtype(np.float32))
    return {"b.weight": ss.quant.quantize(x, ss.quant.NF4()), "a.bias": np.arange(5.0), "c": x.astype("float16")[::2]}


def test_every_scheme_comes_back(tmp_path: Path) -> None:
    tensors = {}
    for i, case in enumerate(CASES):
        for shape in case.shapes:
            if np.prod(shape) < 10_000:
                tensors[f"{i}{shape}"] = ss.quant.quantize(numbers(shape, np.dtype(np.float32)), case.scheme)
    ss.quant.save(tmp_path / "all.safetensors", tensors)
    back = ss.quant.load(tmp_path / "all.safetensors")
    assert list(back) == list(tensors)
    for name, q in tensors.items():
        assert_same(back[name], q)
        assert back[name].dequantize().tobytes() == q.dequantize().tobytes()
        assert all(part.flags.writeable and part.flags.aligned for part in back[name].parts.values())


@pytest.mark.parametrize("dtype", PLAIN_DTYPES, ids=str)
def test_plain_arrays_come_back_in_any_layout(dtype: np.dtype, tmp_path: Path) -> None:
    x = (np.arange(30).reshape(5, 6) % 7 / 2).astype(np.float32).astype(dtype)
    tensors = {layout: laid_out(x, layout) for layout in LAYOUTS if layout != "misaligned" or x.itemsize > 1}
    tensors |= {"0-d": x[1:2, 1].reshape(()), "empty": x[:0], "broadcast": np.broadcast_to(x[0], (3, 6))}
    ss.quant.save(str(tmp_path / "x"), tensors)
    back = ss.quant.load(str(tmp_path / "x"))
    for name, array in tensors.items():
        assert_same(back[name], array)
    assert set(load_file(tmp_path / "x")) == set(tensors)


def test_equal_tensors_are_equal_bytes(tmp_path: Path) -> None:
    metadata = {"format": "pt", "é": '"', "b": "\x00\n", "a": ""}
    for i in range(8):
        ss.quant.save(tmp_path / str(i), some(), metadata)
    assert len({(tmp_path / str(i)).read_bytes() for i in range(8)}) == 1
    assert ss.quant.load(tmp_path / "0").metadata == metadata
    assert list(ss.quant.load(tmp_path / "0").metadata) == list(metadata)


def test_other_programs_read_the_parts(tmp_path: Path) -> None:
    tensors = some()
    ss.quant.save(tmp_path / "x", tensors, {"format": "pt"})
    theirs = load_file(tmp_path / "x")
    assert theirs["b.weight.codes"].tobytes() == tensors["b.weight"].codes.tobytes()
    assert theirs["c"].tobytes() == tensors["c"].tobytes()
    assert ss.quant.load(tmp_path / "x").metadata == {"format": "pt"}


def test_files_of_other_programs_are_plain_arrays(tmp_path: Path) -> None:
    x = numbers((4, 6), np.dtype(np.float32))
    theirs: dict[str, Array] = {"mask": x > 0, "whole": x.astype(np.int8)}
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"):
        theirs[name] = np.abs(x).astype(getattr(ml_dtypes, name))
    save_file(theirs, tmp_path / "x", {"stepsmiths": "several"})
    back = ss.quant.load(tmp_path / "x")
    assert back.metadata == {"stepsmiths": "several"}
    assert set(back) == set(theirs)
    for name, array in theirs.items():
        assert_same(back[name], array)


def loaded_or_error(path: Path) -> tuple[ss.quant.Tensors | None, str]:
    try:
        return ss.quant.load(path), ""
    except ValueError as error:
        return None, str(error)


def test_any_damage_of_a_byte_is_named(tmp_path: Path) -> None:
    """Each byte is changed in turn: an error that names the file, or nothing was lost (a space of the header)."""
    path, tensors = tmp_path / "x.safetensors", some()
    ss.quant.save(path, tensors, {"made by": "hand"})
    good = path.read_bytes()
    harmless = 0
    for i in range(len(good)):
        path.write_bytes(good[:i] + bytes([good[i] ^ (1 << i % 8)]) + good[i + 1 :])
        back, error = loaded_or_error(path)
        if back is None:
            assert error.startswith(f"load: {path} ")
            continue
        harmless += 1
        assert (list(back), back.metadata) == (list(tensors), {"made by": "hand"})
        for name, value in tensors.items():
            assert_same(back[name], value)
    assert harmless < 12
    for end in (0, 1, 7, 8, 100, len(good) - 1):
        path.write_bytes(good[:end])
        with pytest.raises(ValueError, match="must be a safetensors file, got one with"):
            ss.quant.load(path)
    path.write_bytes(good + b"x")
    with pytest.raises(ValueError, match="must be a safetensors file"):
        ss.quant.load(path)


def test_a_damaged_tensor_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    ss.quant.save(path, some())
    content = path.read_bytes()
    codes = some()["b.weight"].codes.tobytes()
    path.write_bytes(content.replace(codes, codes[:-1] + bytes([codes[-1] ^ 1])))
    message = f"load: {path} is damaged: 'b.weight.codes' has not the SHA-256 that was saved"
    with pytest.raises(ValueError, match=re.escape(message)):
        ss.quant.load(path)


def test_tensors_that_went_or_came_are_named(tmp_path: Path) -> None:
    ss.quant.save(tmp_path / "x", some())
    theirs = load_file(tmp_path / "x")
    with _tensors.TensorFile("test", tmp_path / "x") as file:
        metadata = file.metadata
    save_file({**theirs, "more": np.zeros(3)}, tmp_path / "y", metadata)
    with pytest.raises(ValueError, match="'more' is not in the list"):
        ss.quant.load(tmp_path / "y")
    save_file({name: array for name, array in theirs.items() if name != "a.bias"}, tmp_path / "y", metadata)
    with pytest.raises(ValueError, match=r"'a\.bias' is missing"):
        ss.quant.load(tmp_path / "y")
    save_file({**theirs, "a.bias": theirs["a.bias"].reshape(5, 1)}, tmp_path / "y", metadata)
    with pytest.raises(ValueError, match=r"'a\.bias' has not the shape"):
        ss.quant.load(tmp_path / "y")


def test_what_this_version_does_not_know_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ss.quant.save(tmp_path / "x", some())
    with monkeypatch.context() as patch:
        patch.delitem(ss.quant.REGISTRY, "nf4")
        with pytest.raises(
            ValueError, match=r"got 'b\.weight' of another one \(scheme: name must be one of .*dynamic8"
        ):
            ss.quant.load(tmp_path / "x")
    with monkeypatch.context() as patch:
        patch.setattr(_archive, "VERSION", 2)
        with pytest.raises(ValueError, match="must be of format 2, got one of format 1"):
            ss.quant.load(tmp_path / "x")


def test_unknown_dtypes_of_others_are_named(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}}'
    (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + b"12")
    with pytest.raises(ValueError, match=r"'a' of .* must have a dtype of NumPy or ml_dtypes, got F4"):
        ss.quant.load(tmp_path / "x")


def test_names_that_collide_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    q, path = some()["b.weight"], tmp_path / "x"
    for tensors in ({"w": q, "w.codes": np.zeros(3)}, {"w.scales": np.zeros(3), "w": q}):
        with pytest.raises(ValueError, match=r"names of tensors and parts must differ, got 'w\.(codes|scales)'"):
            ss.quant.save(path, tensors)
    with pytest.raises(ValueError, match="got '__metadata__' for something else"):
        ss.quant.save(path, {"__metadata__": np.zeros(3)})
    for key in ("stepsmith", "stepsmith.sha256"):
        with pytest.raises(ValueError, match="metadata must not have the keys 'stepsmith' and"):
            ss.quant.save(path, {}, {key: "x"})
    with pytest.raises(TypeError, match="metadata must be strings by name, got 'epoch': 3"):
        ss.quant.save(path, {}, {"epoch": 3})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match=r"tensors\['x'\] must be a NumPy array"):
        ss.quant.save(path, {"x": [1.0]})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="tensors must have strings as names, got 1"):
        ss.quant.save(path, {1: np.zeros(3)})  # type: ignore[dict-item]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("dtype", ["object", ">f4", "complex128", "U3", "datetime64[s]", "longdouble", "i4,f4"])
def test_dtypes_that_no_file_holds_are_refused(dtype: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"tensors\['x'\] must have a dtype of safetensors or ml_dtypes in native byte"):
        ss.quant.save(tmp_path / "x", {"x": np.zeros(3, dtype)})


def test_a_file_is_replaced_as_a_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tensors = tmp_path / "x.safetensors", some()
    ss.quant.save(path, tensors)
    before = path.read_bytes()

    def fail(*_paths: str) -> None:
        raise OSError("no more power")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(OSError, match="no more power"):
                ss.quant.save(path, {"other": np.zeros(3)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]
    (tmp_path / "link").symlink_to(path)
    ss.quant.save(tmp_path / "link", {"other": np.zeros(3)})
    assert (tmp_path / "link").is_symlink()
    assert list(ss.quant.load(path)) == ["other"]
    (tmp_path / "made").touch()
    assert path.stat().st_mode == (tmp_path / "made").stat().st_mode


def test_paths_that_cannot_be_written_or_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing/x\.safetensors"):
        ss.quant.save(tmp_path / "missing" / "x.safetensors", {})
    with pytest.raises(OSError, match="directory"):
        ss.quant.save(tmp_path, {})
    with pytest.raises(FileNotFoundError, match="nothing"):
        ss.quant.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        ss.quant.load(tmp_path)
    assert os.listdir(tmp_path) == []


def test_an_empty_list_comes_back(tmp_path: Path) -> None:
    ss.quant.save(tmp_path / "x", {})
    assert ss.quant.load(tmp_path / "x") == {}


FULL = """
import resource
import numpy as np
import stepsmith as ss

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    ss.quant.save("{path}", {{"x": np.zeros(100_000)}})
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="sets a limit")
def test_a_disk_that_is_full_leaves_the_old_file(tmp_path: Path) -> None:
    path, tensors = tmp_path / "x", some()
    ss.quant.save(path, tensors)
    said = run_python(FULL.format(path=path))
    assert said.startswith(f"save: cannot write {path}: ")
    assert_same(ss.quant.load(path)["a.bias"], tensors["a.bias"])
    assert os.listdir(tmp_path) == ["x"]


PEAK = """
import resource, sys
import numpy as np
import stepsmith as ss

def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

ss.quant.save("{path}", {{"small": np.zeros(3)}})
ss.quant.load("{path}")
tensors = {{str(i): np.full(1 << 20, i, np.float32) for i in range(16)}}
before = peak()
ss.quant.save("{path}", tensors)
print(peak() - before)
del tensors
before = peak()
back = ss.quant.load("{path}")
print(peak() - before)
assert (back["3"] == 3).all()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="reads getrusage")
def test_neither_way_takes_the_files_size_again(tmp_path: Path) -> None:
    """64 MiB: saving adds nothing to them, loading stays below what they had taken before."""
    saving, loading = map(int, run_python(PEAK.format(path=tmp_path / "x")).split())
    assert saving < 16 << 10
    assert loading < 16 << 10
