"""Files of GGML's own format, written and read by its makers' package gguf."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from stepsmith._backend import moved
from stepsmith._outputs import require_floats
from stepsmith.quant.array import QuantizedArray
from stepsmith.quant.ggml import GGML, KINDS

__all__ = ["load_gguf", "save_gguf"]

Array = NDArray[Any]
PathLike = str | os.PathLike[str]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DAMAGE = (ValueError, KeyError, IndexError, TypeError, ArithmeticError, MemoryError)
"""What the package raises where a file is not as it should be."""


def _gguf(owner: str) -> Any:
    try:
        import gguf
    except ImportError as error:
        raise ImportError(f"{owner} needs the package gguf: pip install 'stepsmith[gguf]'") from error
    return gguf


def save_gguf(
    path: PathLike, arrays: Mapping[str, Array | QuantizedArray], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write arrays by name to a .gguf file, quantized ones as they are.

    The file takes the place of an older one at once, when all of it is written.

    Args:
        path: of the file.
        arrays: name (up to 63 bytes) → float32, float64, bfloat16 or float16 array, or what `quantize` made of one by
            `GGML`, of one to four axes each.
        metadata: key → string, number, True or False, or a list of one kind of these. The key "general.architecture"
            says what kind of model it is, "stepsmith" if it is missing.

    Raises:
        TypeError, ValueError: something that such a file cannot hold. Nothing has been written then.
        ImportError: the package gguf is not installed.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "model.gguf")
        >>> w = ss.quant.quantize(np.ones((2, 32), np.float32), ss.quant.GGML("q8_0"))
        >>> ss.quant.save_gguf(path, {"w": w, "b": np.zeros(2, np.float32)}, {"general.name": "tiny"})
        >>> arrays, metadata = ss.quant.load_gguf(path)
        >>> arrays["w"], metadata["general.name"]
        (QuantizedArray(shape=(2, 32), scheme=GGML(kind='q8_0'), nbytes=68), 'tiny')
    """
    gguf = _gguf("save_gguf")
    texts = dict(metadata or {})
    architecture = texts.pop("general.architecture", "stepsmith")
    if not isinstance(architecture, str):
        raise TypeError(f"save_gguf: metadata['general.architecture'] must be a string, got {architecture!r}")
    part = Path(f"{os.fspath(path)}.part")
    writer = gguf.GGUFWriter(part, architecture)
    for key, value in texts.items():
        writer.add_key_value(_checked_key(key), value, *_value_type(gguf, key, value))
    for name, array in arrays.items():
        _check_name(name)
        _add(gguf, writer, name, array)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        part.replace(path)
    finally:
        writer.close()
        part.unlink(missing_ok=True)


def _checked_key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"save_gguf: keys of metadata must be strings, got {key!r}")
    if not key or key == "general.alignment" or key.startswith("GGUF."):
        raise ValueError(f"save_gguf: keys of metadata must not be empty or the file's own, got {key!r}")
    return key


def _value_type(gguf: Any, key: str, value: object) -> tuple[Any, Any]:
    """The type of a value, and that of its elements if it is a list."""
    if not isinstance(value, list | tuple):
        return _scalar_type(gguf, key, value), None
    kinds = {_scalar_type(gguf, key, item) for item in value}
    if len(kinds) != 1:
        raise ValueError(f"save_gguf: metadata[{key!r}] must have elements of one kind, got {value!r}")
    return gguf.GGUFValueType.ARRAY, kinds.pop()


def _scalar_type(gguf: Any, key: str, value: object) -> Any:
    types = gguf.GGUFValueType
    if isinstance(value, bool):
        return types.BOOL
    if isinstance(value, str):
        return types.STRING
    if isinstance(value, float):
        return types.FLOAT64
    if not isinstance(value, int):
        rule = "a string, a number, True, False or a list of them"
        raise TypeError(f"save_gguf: metadata[{key!r}] must be {rule}, got {value!r}")
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"save_gguf: metadata[{key!r}] must fit into 64 bits, got {value!r}")
    return types.INT64 if value < 2**63 else types.UINT64


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"save_gguf: names of arrays must be strings, got {name!r}")
    if not 0 < len(name.encode()) < 64:
        raise ValueError(f"save_gguf: names of arrays must have 1 to 63 bytes, got {name!r}")


def _add(gguf: Any, writer: Any, name: str, array: object) -> None:
    what = f"arrays[{name!r}]"
    if isinstance(array, QuantizedArray) and not isinstance(array.scheme, GGML):
        raise TypeError(f"save_gguf: {what} must be quantized by GGML, got {array!r}")
    if isinstance(array, QuantizedArray):
        floats: QuantizedArray | Array = array.to("cpu")
    else:
        floats = moved(require_floats("save_gguf", what, array), "cpu")
    if not 1 <= floats.ndim <= 4:
        raise ValueError(f"save_gguf: {what} must have one to four axes, got shape {floats.shape}")
    types = gguf.GGMLQuantizationType
    if isinstance(floats, QuantizedArray):
        writer.add_tensor(name, floats.codes, raw_dtype=types[floats.scheme.settings()["kind"].upper()])
    elif floats.dtype == BFLOAT16:
        writer.add_tensor(name, floats.view(np.uint16), raw_shape=floats.shape, raw_dtype=types.BF16)
    else:
        writer.add_tensor(name, floats)


def load_gguf(path: PathLike) -> tuple[dict[str, Array | QuantizedArray], dict[str, Any]]:
    """Arrays and metadata of a .gguf file.

    Args:
        path: of the file.

    Returns:
        Name → array in NumPy's order of axes, a `QuantizedArray` where the file has blocks that `GGML` knows; and key →
        string, number, True, False or list.

    Raises:
        ValueError: what is no .gguf file or only a part of one, and blocks of another kind. The format has no checksum:
            bytes of an array that have changed are not noticed.
        ImportError: the package gguf is not installed.
    """
    gguf = _gguf("load_gguf")
    try:
        with np.errstate(all="raise"):
            reader = gguf.GGUFReader(path)
            metadata = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    except DAMAGE as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"load_gguf: path must be that of a whole .gguf file, got {path!r} ({reason})") from error
    return {tensor.name: _loaded(gguf, tensor) for tensor in reader.tensors}, metadata


def _loaded(gguf: Any, tensor: Any) -> Array | QuantizedArray:
    types = gguf.GGMLQuantizationType
    data: Array = np.array(tensor.data)
    kinds = {types[kind.upper()]: kind for kind in KINDS}
    if tensor.tensor_type in kinds:
        scheme = GGML(kinds[tensor.tensor_type])
        return QuantizedArray(scheme, tuple(int(n) for n in reversed(tensor.shape)), {"codes": data})
    if tensor.tensor_type == types.BF16:
        data = data.view(BFLOAT16)
    if data.dtype == np.uint8:
        known = f"floats, integers or blocks of the kinds {', '.join(KINDS)}"
        raise ValueError(f"load_gguf: {tensor.name!r} must have {known}, got {tensor.tensor_type.name}")
    return data
