"""Files of the format gguf: back as they were, equal to what the package reads, and clear words about bad ones."""

import builtins
import sys
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from helpers import LAYOUTS, laid_out
from quant_cases import DTYPES, numbers
from stepsmith.quant.ggml import KINDS

METADATA = {
    "general.architecture": "test",
    "name": "größe",
    "empty": "",
    "count": -5,
    "large": 2**64 - 1,
    "rate": 1e-300,
    "flag": True,
    "names": ["a", "b"],
    "sizes": [1, 2, 3],
}


def arrays() -> dict[str, Any]:
    plain = {f"{dtype}.{shape}": numbers(shape, dtype) for dtype in DTYPES for shape in [(5,), (3, 4, 2, 1), (2, 0)]}
    x = numbers((2, 3, 512), DTYPES[0])
    blocks = {kind: ss.quant.quantize(x, ss.quant.GGML(kind)) for kind in KINDS}
    return {**plain, **blocks, "none": ss.quant.quantize(x[:, :0], ss.quant.GGML("q8_0"))}


def same(got: Any, want: Any) -> None:
    if isinstance(want, ss.quant.QuantizedArray):
        assert (got.scheme, got.shape) == (want.scheme, want.shape)
        got, want = got.codes, want.codes
    assert (type(got), got.dtype, got.shape, got.tobytes()) == (np.ndarray, want.dtype, want.shape, want.tobytes())
    assert got.flags.writeable


def test_arrays_and_metadata_come_back(tmp_path: Path) -> None:
    want = arrays()
    ss.quant.save_gguf(tmp_path / "a.gguf", want, METADATA)
    got, metadata = ss.quant.load_gguf(tmp_path / "a.gguf")
    assert list(got) == list(want)
    for name in want:
        same(got[name], want[name])
    assert metadata == METADATA
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]


def test_the_package_reads_what_is_written(tmp_path: Path) -> None:
    x = numbers((3, 256), DTYPES[0])
    q = {kind: ss.quant.quantize(x, ss.quant.GGML(kind)) for kind in KINDS}
    ss.quant.save_gguf(tmp_path / "a.gguf", q)
    for tensor in gguf.GGUFReader(tmp_path / "a.gguf").tensors:
        assert tensor.tensor_type.name.lower() == tensor.name
        assert gguf.dequantize(tensor.data, tensor.tensor_type).tobytes() == q[tensor.name].dequantize().tobytes()


def test_layouts_are_written_in_c_order(tmp_path: Path) -> None:
    for dtype in DTYPES:
        x = numbers((3, 4), dtype)
        want = {layout: laid_out(x, layout) for layout in LAYOUTS}
        ss.quant.save_gguf(tmp_path / "a.gguf", want)
        got, metadata = ss.quant.load_gguf(tmp_path / "a.gguf")
        assert metadata == {"general.architecture": "stepsmith"}
        for layout in LAYOUTS:
            same(got[layout], x)


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    ss.quant.save_gguf(path, {"w": numbers((4, 8), DTYPES[0])}, {"key": ["text", "more"]})
    whole = path.read_bytes()
    for end in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="load_gguf: path must be that of a whole"):
            ss.quant.load_gguf(path)


def is_refused(path: Path) -> bool:
    """Whether loading fails, in our words."""
    try:
        ss.quant.load_gguf(path)
    except ValueError as error:
        if str(error).startswith("load_gguf: "):
            return True
        raise
    return False


def test_any_damaged_byte_of_the_head_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    ss.quant.save_gguf(path, {"w": numbers((4, 8), DTYPES[0])}, {"key": ["text", "more"]})
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole) - 128):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        refused += is_refused(path)
    assert refused > 100


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"PK\x03\x04" + bytes(1000))
    with pytest.raises(ValueError, match="magic"):
        ss.quant.load_gguf(path)
    with pytest.raises(FileNotFoundError):
        ss.quant.load_gguf(tmp_path / "missing.gguf")
    writer = gguf.GGUFWriter(path, "test")
    writer.add_tensor("w", np.zeros((2, 84), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q2_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(
        ValueError, match=r"load_gguf: 'w' must have floats, integers or blocks of the kinds q8_0.*Q2_K"
    ):
        ss.quant.load_gguf(path)


def test_what_a_file_cannot_hold_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    path, one = tmp_path / "a.gguf", np.ones(2, np.float32)
    ss.quant.save_gguf(path, {"w": one})
    before = path.read_bytes()
    bad: list[tuple[type[Exception], str, dict[Any, Any], dict[Any, Any]]] = [
        (TypeError, r"arrays\['w'\] must be float32", {"w": np.zeros(3, int)}, {}),
        (TypeError, r"arrays\['w'\] must be quantized by GGML", {"w": ss.quant.quantize(one, ss.quant.NF4())}, {}),
        (ValueError, r"must have one to four axes, got shape \(\)", {"w": np.zeros((), np.float32)}, {}),
        (ValueError, "must have one to four axes", {"w": np.zeros((1,) * 5, ml_dtypes.bfloat16)}, {}),
        (TypeError, "names of arrays must be strings, got 3", {3: one}, {}),
        (ValueError, "names of arrays must have 1 to 63 bytes, got 'ä", {"ä" * 32: one}, {}),
        (TypeError, r"metadata\['k'\] must be a string, a number", {}, {"k": None}),
        (TypeError, r"metadata\['k'\] must be a string, a number", {}, {"k": [1, b""]}),
        (ValueError, r"metadata\['k'\] must have elements of one kind, got \[1, 'a'\]", {}, {"k": [1, "a"]}),
        (ValueError, r"metadata\['k'\] must have elements of one kind, got \[\]", {}, {"k": []}),
        (ValueError, r"metadata\['k'\] must fit into 64 bits", {}, {"k": 2**64}),
        (TypeError, "keys of metadata must be strings, got 1", {}, {1: "a"}),
        (ValueError, "must not be empty or the file's own, got 'general.alignment'", {}, {"general.alignment": 3}),
        (TypeError, r"metadata\['general.architecture'\] must be a string", {}, {"general.architecture": 3}),
    ]
    for kind, message, given, metadata in bad:
        with pytest.raises(kind, match=f"save_gguf: .*{message}"):
            ss.quant.save_gguf(path, given, metadata)
        assert path.read_bytes() == before
    with pytest.raises(OSError, match="missing"):
        ss.quant.save_gguf(tmp_path / "missing" / "a.gguf", {"w": one})


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "gguf":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "gguf")
    monkeypatch.setattr(builtins, "__import__", without)
    for call in (lambda: ss.quant.save_gguf(tmp_path / "a", {}), lambda: ss.quant.load_gguf(tmp_path / "a")):
        with pytest.raises(ImportError, match=r"needs the package gguf: pip install 'stepsmith\[gguf\]'"):
            call()
