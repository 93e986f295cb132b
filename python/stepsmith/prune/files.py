"""Files of pruned models, without their zeros."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith import quant
from stepsmith.quant import QuantizedArray, Tensors
from stepsmith.quant._tensors import Path

__all__ = ["load_sparse", "save_sparse"]

Array = NDArray[Any]

KEY = "stepsmith.sparse"
"""In the file's metadata: JSON, name → shape of each array that is stored without its zeros."""
_PART = 256
"""About what one more tensor costs in a file's header."""
_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def save_sparse(
    path: Path, params: Mapping[str, QuantizedArray | Array], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays to a .safetensors file, those with many zeros as ``name.values`` and ``name.mask``.

    The mask has a bit an element in C order, the least significant of a byte first, 1 where an element is not +0.0;
    the values are those elements. An array that this would not make smaller is stored as it is. Nothing is rounded:
    -0.0 and NaN count as values. Else as `quant.save`: hashes, and a file that is replaced as a whole or not at all.

    Args:
        path: Of the file.
        params: Name → array of any dtype and layout, or quantized array.
        metadata: Further entries, strings by name.

    Raises:
        TypeError, ValueError, OSError: As `quant.save`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> w = np.eye(64, dtype=np.float32)
        >>> with TemporaryDirectory() as folder:
        ...     save_sparse(f"{folder}/model.safetensors", {"w": w})
        ...     bool((load_sparse(f"{folder}/model.safetensors")["w"] == w).all())
        True
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"save_sparse: params must be arrays by name, got {type(params).__name__}")
    if KEY in (metadata or {}):
        raise ValueError(f"save_sparse: metadata must not have the key '{KEY}', got {sorted(metadata or {})}")
    stored: dict[str, QuantizedArray | Array] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, array in params.items():
        if not isinstance(name, str):
            raise TypeError(f"save_sparse: params must have strings as names, got {name!r}")
        parts = _parts(array)
        if parts is not None:
            shapes[name] = array.shape
        for place, part in {name: array}.items() if parts is None else parts.items():
            full = place if parts is None else f"{name}.{place}"
            if full in stored:
                raise ValueError(f"save_sparse: names of tensors and parts must differ, got '{full}' twice")
            stored[full] = part
    quant.save(path, stored, {**(metadata or {}), KEY: json.dumps(shapes)})


def load_sparse(path: Path) -> Tensors:
    """Read what `save_sparse` wrote, or any file that `quant.load` reads, with all zeros in their places.

    Args:
        path: Of the file.

    Returns:
        Name → array in C order, as they were bit for bit; its attribute `metadata` has what else the file said.

    Raises:
        OSError, ValueError: As `quant.load`, or masks that do not fit their values.
    """
    stored = quant.load(path)
    shapes = json.loads(stored.metadata.pop(KEY, "{}"))
    arrays = Tensors(metadata=stored.metadata)
    for place, array in stored.items():
        name, _, part = place.rpartition(".")
        if name not in shapes or part not in ("values", "mask"):
            arrays[place] = array
        elif part == "values":
            arrays[name] = _dense(path, name, tuple(shapes[name]), array, stored.get(f"{name}.mask"))
    return arrays


def _parts(array: object) -> dict[str, Array] | None:
    """Values and mask; None if the whole array takes no more bytes."""
    if not isinstance(array, np.ndarray) or array.itemsize not in _BITS:
        return None
    flat = np.ravel(array, order="C")
    kept = flat.view(_BITS[array.itemsize]) != 0
    nbytes = int(np.count_nonzero(kept)) * array.itemsize + -(-array.size // 8)
    if nbytes + _PART >= array.nbytes:
        return None
    return {"values": flat[kept], "mask": np.packbits(kept, bitorder="little")}


def _dense(path: Path, name: str, shape: tuple[int, ...], values: object, mask: object) -> Array:
    size = int(np.prod(shape, dtype=np.int64))
    if not isinstance(values, np.ndarray) or not isinstance(mask, np.ndarray) or mask.size != -(-size // 8):
        raise ValueError(f"load_sparse: {path} must have a mask of {size} elements for '{name}', got another one")
    kept = np.unpackbits(mask, count=size, bitorder="little").view(np.bool_)
    if int(kept.sum()) != values.size:
        raise ValueError(
            f"load_sparse: {path} must have {int(kept.sum())} values for '{name}' as its mask says, got {values.size}"
        )
    dense = np.zeros(size, values.dtype)
    dense[kept] = values
    return dense.reshape(shape)
