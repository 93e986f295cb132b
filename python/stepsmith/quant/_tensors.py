"""Tensors of a .safetensors file: which there are, one at a time, and a file that is written whole or not at all."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Self

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = ["DTYPES", "Stored", "TensorFile", "write"]

Array = NDArray[Any]
Path = str | os.PathLike[str]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "C64": np.dtype(np.complex64),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
}
"""How the format calls them. safetensors writes all, but reads those of 8 bits into PyTorch and JAX alone."""


class Stored(NamedTuple):
    """Where a tensor lies in its file."""

    tag: str
    """Its dtype, as the format calls it."""
    shape: tuple[int, ...]
    start: int
    nbytes: int


class TensorFile:
    """An open file. The package checks its header; tensors are read here, as the package has not all dtypes.

    Args:
        owner: of errors.
        path: of the file.
        mapped: tensors are read-only views of the file's pages, else new arrays.

    Raises:
        OSError: a file that cannot be opened.
        ValueError: one of another kind, or a damaged one.
    """

    def __init__(self, owner: str, path: Path, mapped: bool = False) -> None:
        self.owner, self.path = owner, os.fspath(path)
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close
        try:
            self.metadata, self.tensors = self._header()
            self._pages = np.memmap(self._file, np.uint8, "r") if mapped else None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Views of the file's pages outlive it."""
        self._file.close()

    def _header(self) -> tuple[dict[str, str], dict[str, Stored]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "np", backend="pread"):
                pass
        except SafetensorError as error:
            raise ValueError(f"{self.owner}: {self.path} must be a safetensors file, got one with {error}") from None
        length = int.from_bytes(self._file.read(8), "little")
        header = json.loads(self._file.read(length))
        metadata = header.pop("__metadata__", None) or {}
        return metadata, {name: _stored(entry, 8 + length) for name, entry in header.items()}

    def read(self, name: str) -> Array:
        """A tensor."""
        tag, shape, start, nbytes = self.tensors[name]
        if tag not in DTYPES:
            raise ValueError(
                f"{self.owner}: '{name}' of {self.path} must have a dtype of NumPy or ml_dtypes, got {tag}"
            )
        if self._pages is not None:
            return self._pages[start : start + nbytes].view(np.ndarray).view(DTYPES[tag]).reshape(shape)
        content = np.empty(nbytes, np.uint8)
        self._file.seek(start)
        if self._file.readinto(content.data) != nbytes:
            raise ValueError(
                f"{self.owner}: '{name}' of {self.path} must have {nbytes} bytes, got a file that ends before"
            )
        return content.view(DTYPES[tag]).reshape(shape)


def _stored(entry: dict[str, Any], data: int) -> Stored:
    start, end = entry["data_offsets"]
    return Stored(entry["dtype"], tuple(entry["shape"]), data + start, end - start)


def write(owner: str, path: Path, tensors: Mapping[str, Array], metadata: dict[str, str]) -> None:
    """Write a file of arrays in C order, under another name in the same folder first.

    Raises:
        OSError: what is there stays as it is.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    target = os.path.realpath(path)
    with _at_last(target) as room:
        # The package makes a file that its owner alone may read.
        mode = os.stat(room).st_mode
        try:
            save_file(dict(tensors), room, metadata)
        except SafetensorError as error:
            raise OSError(f"{owner}: cannot write {os.fspath(path)}: {error}") from None
        os.chmod(room, mode)
        _settle(room, metadata)


def _settle(path: str, metadata: Mapping[str, str]) -> None:
    """Put the metadata in their own order: the package's differs from call to call, so equal files would differ."""
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = {**json.loads(file.read(length)), "__metadata__": dict(metadata)}
        content = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(content) <= length:
            file.seek(8)
            file.write(content.ljust(length))


@contextmanager
def _at_last(target: str) -> Iterator[str]:
    """The path of an empty file, which takes the target's place if all goes well, and else is removed."""
    folder = os.path.dirname(target)
    room = os.path.join(folder, f".stepsmith-{os.urandom(8).hex()}.tmp")
    try:
        open(room, "xb").close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from None
    try:
        yield room
        _sync(room)
        os.replace(room, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.remove(room)
        raise
    if os.name == "posix":
        _sync(folder)


def _sync(path: str) -> None:
    """What was written there is on the disk."""
    handle = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
