"""``stepsmith inspect``: what a file holds."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from stepsmith._table import Table, count
from stepsmith.quant._archive import Archive, Entry
from stepsmith.quant._command import shape_text

__all__ = ["show"]

LONGEST = 100
"""Characters of an entry of the metadata that are shown."""


def show(path: str) -> None:
    """Print tensors, metadata and what became of the hashes; errors are OSError and ValueError."""
    ending = os.path.splitext(path)[1].lower()
    if ending not in READERS:
        raise ValueError(f"the file must end with {' or '.join(READERS)}, got {path}")
    READERS[ending](path)


def _safetensors(path: str) -> None:
    with Archive("inspect", path) as archive:
        _print({name: archive.entry(name) for name in archive}, archive.metadata)
        if not archive.has_hashes:
            print("no hashes: not saved by stepsmith")
            return
        # Checked tensor by tensor as they are read.
        for name in archive:
            archive.read(name)
        print("hashes: all as they were saved")


def _gguf(path: str) -> None:
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ImportError("a .gguf file needs the package gguf: pip install 'stepsmith[gguf]'") from error
    try:
        reader: Any = GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        raise ValueError(f"{path} must be a GGUF file, got one with {error}") from None
    entries = {}
    for tensor in reader.tensors:
        # GGUF names the innermost axis first.
        shape = tuple(int(length) for length in reversed(tensor.shape))
        entries[tensor.name] = Entry(shape, tensor.tensor_type.name, int(tensor.n_bytes), True)
    _print(entries, {key: _shown(field) for key, field in reader.fields.items()})


def _shown(field: Any) -> str:
    """The first elements of an array are enough of it."""
    return str(field.contents(slice(LONGEST)))


def _print(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> None:
    table = Table(("tensor", "shape", "dtype or scheme", "bytes"), "<<<>")
    for name, entry in entries.items():
        table.add(name, shape_text(entry.shape), entry.kind, f"{entry.nbytes:,}")
    table.add("total", "", "", f"{sum(entry.nbytes for entry in entries.values()):,}")
    print(table)
    print(count(len(entries), "tensor"))
    if metadata:
        print("metadata:")
    for key, value in sorted(metadata.items()):
        line = " ".join(value.split())
        print(f"  {key}: {line if len(line) <= LONGEST else line[:LONGEST] + '...'}")


READERS: dict[str, Callable[[str], None]] = {".safetensors": _safetensors, ".gguf": _gguf}
"""Ending of a file → what shows it."""
