"""Quantized and plain arrays to a .safetensors file and back."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith._backend import moved, require_array
from stepsmith.quant._archive import HASH, KEY, OTHERS, PLAIN, Archive, Record, listed, sha256
from stepsmith.quant._tensors import Path, write
from stepsmith.quant.array import QuantizedArray

__all__ = ["Tensors", "load", "save"]

Array = NDArray[Any]


class Tensors(dict[str, QuantizedArray | Array]):
    """What a file held: name → quantized or plain array, in the order in which they were saved.

    Args:
        items: names and arrays.
        metadata: what else the file said, strings by name.
    """

    def __init__(
        self, items: Iterable[tuple[str, QuantizedArray | Array]] = (), metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(items)
        self.metadata: dict[str, str] = dict(metadata or {})


def save(path: Path, tensors: Mapping[str, QuantizedArray | Array], metadata: Mapping[str, str] | None = None) -> None:
    """Write quantized and plain arrays to a .safetensors file.

    Each part of a quantized array becomes a tensor of its own, such as ``weight.codes`` and ``weight.scales``. What
    safetensors does not read into NumPy, floats of 8 bits and numbers of 4, is stored as unsigned integers. The file's
    metadata get an entry "stepsmith", JSON with schemes, settings, shapes, dtypes and the SHA-256 of each tensor, and
    "stepsmith.sha256", the hash of all other metadata. The file is written under another name in its folder, synced
    and renamed: whatever happens, what was there before stays as it is or is replaced as a whole.

    Args:
        path: of the file.
        tensors: name → array of any layout; those of CuPy are copied to the host and come back as NumPy's.
        metadata: further entries, strings by name.

    Raises:
        TypeError: what is no array or no string, or a dtype that neither safetensors nor ml_dtypes has.
        ValueError: two tensors of one name, or a name that is reserved.
        OSError: a file that cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> q = ss.quant.quantize(np.ones((2, 3), np.float32), ss.quant.NF4())
        >>> with TemporaryDirectory() as folder:
        ...     ss.quant.save(f"{folder}/model.safetensors", {"weight": q, "bias": np.zeros(3)})
        ...     ss.quant.load(f"{folder}/model.safetensors")["weight"].scheme
        NF4(block_size=64, double_quant=False)
    """
    further = _further(metadata)
    stored: dict[str, Array] = {}
    records: dict[str, Record] = {}
    for name, given in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"save: tensors must have strings as names, got {name!r}")
        value = _on_host(name, given)
        for place, array in _places(name, value).items():
            if place in stored or place == "__metadata__":
                raise ValueError(f"save: names of tensors and parts must differ, got '{place}' for something else too")
            stored[place] = _as_stored(place, array)
        records[name] = _record(name, value, stored)
    write("save", path, stored, listed(records, further))


def load(path: Path) -> Tensors:
    """Read a .safetensors file, one tensor after another, and check the hashes that `save` put into it.

    Args:
        path: of a file by `save`, or by another program: then all arrays are plain, as NumPy and ml_dtypes have them.

    Returns:
        Name → quantized or plain array, a dict whose attribute `metadata` has what else the file said.

    Raises:
        OSError: a file that cannot be read.
        ValueError: one that is damaged or no safetensors file, or has a scheme or dtype that is not known here.
    """
    with Archive("load", path) as archive:
        return Tensors(((name, archive.read(name)) for name in archive), archive.metadata)


def _further(metadata: Mapping[str, str] | None) -> dict[str, str]:
    further = dict(metadata or {})
    for key, value in further.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"save: metadata must be strings by name, got {key!r}: {value!r}")
    if KEY in further or HASH in further:
        raise ValueError(f"save: metadata must not have the keys '{KEY}' and '{HASH}', got {sorted(further)}")
    return further


def _on_host(name: str, value: QuantizedArray | Array) -> QuantizedArray | Array:
    """The value as NumPy has it."""
    if isinstance(value, QuantizedArray):
        return value.to("cpu")
    return moved(require_array("save", f"tensors['{name}']", value), "cpu")


def _places(name: str, value: QuantizedArray | Array) -> Mapping[str, Array]:
    """Name in the file → array."""
    if isinstance(value, QuantizedArray):
        return {f"{name}.{part}": array for part, array in value.parts.items()}
    return {name: value}


def _as_stored(place: str, array: Array) -> Array:
    """The array in C order, which is all that safetensors can write, as a dtype that it can read."""
    ordered = np.asarray(array, order="C")
    if ordered.dtype in PLAIN.values():
        return ordered
    if ordered.dtype not in OTHERS.values():
        rule = "a dtype of safetensors or ml_dtypes in native byte order"
        raise TypeError(f"save: tensors['{place}'] must have {rule}, got {ordered.dtype}")
    return ordered.view(f"u{ordered.itemsize}")


def _record(name: str, value: QuantizedArray | Array, stored: Mapping[str, Array]) -> Record:
    """What the list says of it."""
    if not isinstance(value, QuantizedArray):
        return _tensor_record(value, stored[name])
    parts = {part: _tensor_record(array, stored[f"{name}.{part}"]) for part, array in value.parts.items()}
    of_scheme = {"scheme": value.scheme.name, "settings": value.scheme.settings()}
    return {**of_scheme, "shape": list(value.shape), "parts": parts}


def _tensor_record(array: Array, stored: Array) -> Record:
    return {"dtype": array.dtype.name, "shape": list(array.shape), "sha256": sha256(stored)}
