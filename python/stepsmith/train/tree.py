"""Trees of dicts, lists, numbers and arrays as JSON beside named arrays, without pickle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from stepsmith._backend import is_on_gpu, moved
from stepsmith.quant import QuantizedArray
from stepsmith.train.model import Array

__all__ = ["join", "separate"]

_ARRAY, _FLOAT = "$array", "$float"

Arrays = dict[str, Array | QuantizedArray]


def separate(tree: Any) -> tuple[Any, Arrays]:
    """The tree as JSON values, and its arrays by name; tuples become lists, NaN and infinities are kept.

    Raises:
        TypeError: A value that is none of these, or a key that is no string.

    Example:
        >>> separate({"a": [np.zeros(2), math.inf]})
        ({'a': [{'$array': 'a/0'}, {'$float': 'inf'}]}, {'a/0': array([0., 0.])})
    """
    arrays: Arrays = {}
    return _separated(tree, "", arrays), arrays


def _separated(value: Any, path: str, arrays: Arrays) -> Any:
    if is_on_gpu(value):
        value = moved(value, "cpu")
    if isinstance(value, np.ndarray | QuantizedArray):
        # A path is not always unique: keys may have slashes.
        name = path if path not in arrays else f"{path}#{len(arrays)}"
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, Mapping):
        return {_key(key, path): _separated(item, f"{path}/{key}".lstrip("/"), arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_separated(item, f"{path}/{i}".lstrip("/"), arrays) for i, item in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    kinds = "dicts, lists, numbers, strings and arrays"
    raise TypeError(f"save: state must be {kinds}, got {type(value).__name__} at {path!r}")


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str) or key in (_ARRAY, _FLOAT):
        rule = f"must be strings other than {_ARRAY} and {_FLOAT}"
        raise TypeError(f"save: keys of a state {rule}, got {key!r} at {path!r}")
    return key


def join(document: Any, arrays: Mapping[str, Array | QuantizedArray]) -> Any:
    """The tree that `separate` took apart.

    Raises:
        KeyError: An array that is not there.
    """
    if isinstance(document, dict):
        if document.keys() == {_ARRAY}:
            return arrays[document[_ARRAY]]
        if document.keys() == {_FLOAT}:
            return float(document[_FLOAT])
        return {key: join(item, arrays) for key, item in document.items()}
    return [join(item, arrays) for item in document] if isinstance(document, list) else document
