"""An open .safetensors file as arrays: the list that `save` put into its metadata, and what it says of each tensor."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple, Self

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from stepsmith.quant._scheme import Scheme
from stepsmith.quant._scheme import scheme as by_name
from stepsmith.quant._tensors import DTYPES, Path, TensorFile
from stepsmith.quant.array import QuantizedArray

__all__ = ["HASH", "KEY", "OTHERS", "PLAIN", "Archive", "Entry", "Record", "described", "listed", "sha256"]

Array = NDArray[Any]
Record = dict[str, Any]
"""What the list has of an array, as JSON."""

VERSION = 1
KEY, HASH = "stepsmith", "stepsmith.sha256"
"""In the file's metadata: the list, and the hash of all other metadata."""

PLAIN = {dtype.name: dtype for tag, dtype in DTYPES.items() if not tag.startswith("F8")}
"""What safetensors reads into NumPy."""
_KINDS = [kind for kind in vars(ml_dtypes).values() if isinstance(kind, type) and issubclass(kind, np.generic)]
OTHERS = {dtype.name: dtype for dtype in map(np.dtype, _KINDS) if dtype.name not in PLAIN}
"""What is stored as unsigned integers."""


def sha256(content: Array | str) -> str:
    """Of a text, or of an array in C order."""
    # Imported here, because importing stepsmith should cost next to nothing.
    from hashlib import sha256 as hashed

    text = content.encode() if isinstance(content, str) else content.reshape(-1).view(np.uint8).data
    return hashed(text).hexdigest()


def listed(records: Mapping[str, Record], metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata of others, the list of arrays, and the hash of both."""
    content = {**metadata, KEY: json.dumps({"version": VERSION, "arrays": records})}
    return {**content, HASH: _digest(content)}


def _digest(metadata: Mapping[str, str]) -> str:
    return sha256(json.dumps(metadata, sort_keys=True))


def described(scheme: Scheme) -> str:
    """Its name and the settings that are not the defaults, such as "nf4 block_size=128"."""
    defaults = {field.name: field.default for field in fields(scheme)}  # type: ignore[arg-type]
    settings = scheme.settings().items()
    return " ".join([scheme.name, *(f"{key}={value}" for key, value in settings if value != defaults.get(key))])


class Entry(NamedTuple):
    """What is known of an array before it is read."""

    shape: tuple[int, ...]
    kind: str
    """Its scheme as `described`, or its dtype."""
    nbytes: int
    is_quantized: bool


class Archive:
    """An open file: the names of its arrays, and one array after another.

    Args:
        owner: of errors.
        path: of the file.
        mapped: arrays are read-only views of the file's pages, else new ones.

    Raises:
        OSError: a file that cannot be read.
        ValueError: one that is damaged or of another kind.
    """

    def __init__(self, owner: str, path: Path, mapped: bool = False) -> None:
        self._file = TensorFile(owner, path, mapped)
        self.metadata = dict(self._file.metadata)
        """Of others."""
        try:
            self._records = self._listed()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.tensors if self._records is None else self._records)

    @property
    def has_hashes(self) -> bool:
        """Did `save` write it?"""
        return self._records is not None

    def entry(self, name: str) -> Entry:
        """What is known of an array; nothing is read."""
        tensors, record = self._file.tensors, self._record(name)
        nbytes = sum(tensors[place].nbytes for place in _places(name, record))
        if "scheme" in record:
            return Entry(tuple(record["shape"]), described(self._scheme(name, record)), nbytes, True)
        return Entry(tensors[name].shape, record["dtype"], nbytes, False)

    def read(self, name: str) -> QuantizedArray | Array:
        """An array; a ValueError if it is not what was saved."""
        record = self._record(name)
        if "scheme" not in record:
            return self._read(name, record)
        scheme = self._scheme(name, record)
        parts = {part: self._read(f"{name}.{part}", each) for part, each in record["parts"].items()}
        try:
            return QuantizedArray(scheme, tuple(record["shape"]), parts)
        except (TypeError, ValueError) as error:
            raise self._damaged(f"'{name}'", error) from None

    def _listed(self) -> dict[str, Record] | None:
        """The list, which must be of the tensors that there are; none in a file of others."""
        wanted, has_list = self.metadata.pop(HASH, None), KEY in self.metadata
        if wanted is None and not has_list:
            return None
        if not has_list or _digest(self.metadata) != wanted:
            raise self._damaged("metadata", "have not the SHA-256 that was saved")
        content = json.loads(self.metadata.pop(KEY))
        if content["version"] != VERSION:
            raise self._error(f"must be of format {VERSION}, got one of format {content['version']}")
        records: dict[str, Record] = content["arrays"]
        places = {place for name, record in records.items() for place in _places(name, record)}
        for place in sorted(places ^ set(self._file.tensors)):
            raise self._damaged(f"'{place}'", "is missing" if place in places else "is not in the list of arrays")
        return records

    def _record(self, name: str) -> Record:
        if self._records is not None:
            return self._records[name]
        tag = self._file.tensors[name].tag
        return {"dtype": DTYPES[tag].name if tag in DTYPES else tag}

    def _scheme(self, name: str, record: Record) -> Scheme:
        settings = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record["settings"].items()
        }
        try:
            return by_name(record["scheme"], **settings)
        except (TypeError, ValueError) as error:
            raise self._error(f"must have schemes that are known here, got '{name}' of another one ({error})") from None

    def _read(self, place: str, record: Record) -> Array:
        stored = self._file.read(place)
        if self._records is None:
            return stored
        if sha256(stored) != record["sha256"]:
            raise self._damaged(f"'{place}'", "has not the SHA-256 that was saved")
        dtype = PLAIN.get(record["dtype"]) or OTHERS.get(record["dtype"])
        if dtype is None:
            raise self._error(f"must have dtypes that are known here, got '{place}' of {record['dtype']}")
        if list(stored.shape) != record["shape"] or stored.itemsize != dtype.itemsize:
            raise self._damaged(f"'{place}'", "has not the shape and dtype that were saved")
        return stored.view(dtype)

    def _damaged(self, what: str, why: object) -> ValueError:
        return self._error(f"is damaged: {what} {why}")

    def _error(self, text: str) -> ValueError:
        return ValueError(f"{self._file.owner}: {self._file.path} {text}")


def _places(name: str, record: Record) -> list[str]:
    """Names of the tensors that hold an array."""
    return [f"{name}.{part}" for part in record["parts"]] if "scheme" in record else [name]
