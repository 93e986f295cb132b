"""Values of TOML as arguments, by the annotations of the parameters that they are for."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from stepsmith.config.problems import ConfigError, among, key
from stepsmith.nn import Module
from stepsmith.schedules import Schedule

__all__ = ["Nested", "convert", "kinds"]

Nested = Callable[[str, str, Any], Any]
"""Builds what a value describes: "layer", "schedule" or "initializer", its path, and a table (or a mere name)."""


class Kind(NamedTuple):
    """One kind of value that a parameter takes."""

    words: str
    accepts: Callable[[Any], bool]
    make: Callable[[Any, str, Nested], Any]


def _as_it_is(value: Any, _path: str, _nested: Nested) -> Any:
    return value


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_PLAIN = {
    bool: Kind("true or false", lambda value: isinstance(value, bool), _as_it_is),
    int: Kind("an integer", _is_integer, _as_it_is),
    float: Kind("a number", _is_number, _as_it_is),
    str: Kind("a string", lambda value: isinstance(value, str), _as_it_is),
}


def kinds(hint: Any) -> list[Kind]:
    """What TOML can say of an annotation; nothing for what only Python can.

    Example:
        >>> [kind.words for kind in kinds(float | tuple[int, ...] | None)]
        ['a number', 'a list']
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return [kind for part in arguments for kind in kinds(part)]
    kind = _PLAIN.get(hint) or _class_kind(hint) or _generic_kind(origin, arguments)
    return [] if kind is None else [kind]


def _class_kind(hint: Any) -> Kind | None:
    for base, what in ((Module, "layer"), (Schedule, "schedule")):
        if hint is base:
            return Kind(f"a table of a {what}", _is_table, partial(_nested, what))
    return None


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _nested(what: str, value: Any, path: str, nested: Nested) -> Any:
    return nested(what, path, value)


def _generic_kind(origin: Any, arguments: tuple[Any, ...]) -> Kind | None:
    if origin is Literal:
        words = f"one of {', '.join(map(str, arguments))}"
        return Kind(words, lambda value: isinstance(value, str) and value in arguments, _as_it_is)
    if origin in (tuple, Sequence) and all(kinds(part) for part in arguments if part is not Ellipsis):
        return Kind("a list", _is_list, partial(_items, origin, arguments))
    if origin is dict and kinds(arguments[1]):
        return Kind("a table", _is_table, partial(_entries, arguments[1]))
    if origin is np.ndarray:
        return Kind("a list of numbers", _is_list, _array)
    if origin is Callable and typing.get_origin(arguments[-1]) is np.ndarray:
        return Kind("the name or a table of an initializer", lambda value: isinstance(value, str | dict), _initializer)
    return None


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _items(origin: Any, hints: tuple[Any, ...], value: list[Any], path: str, nested: Nested) -> tuple[Any, ...]:
    is_fixed = origin is tuple and Ellipsis not in hints
    if is_fixed and len(value) != len(hints):
        raise ConfigError(f"{path} must be a list of {len(hints)}, got {value!r}")
    each = hints if is_fixed else [hints[0]] * len(value)
    return tuple([convert(hint, item, f"{path}[{i}]", nested) for i, (hint, item) in enumerate(zip(each, value))])


def _entries(hint: Any, value: dict[str, Any], path: str, nested: Nested) -> dict[str, Any]:
    return {name: convert(hint, item, key(path, name), nested) for name, item in value.items()}


def _array(value: list[Any], path: str, _nested: Nested) -> Any:
    try:
        return np.array(value, np.float32)
    except (TypeError, ValueError):
        raise ConfigError(f"{path} must be a list of numbers, got {value!r}") from None


def _initializer(value: Any, path: str, nested: Nested) -> Any:
    return nested("initializer", path, value)


def convert(hint: Any, value: Any, path: str, nested: Nested) -> Any:
    """A value for a parameter with that annotation.

    Raises:
        ConfigError: Another kind of value.
    """
    found = kinds(hint)
    for kind in found:
        if kind.accepts(value):
            return kind.make(value, path, nested)
    names = [name for kind in found if kind.words.startswith("one of ") for name in kind.words[7:].split(", ")]
    if names and isinstance(value, str):
        raise among(path, value, names)
    raise ConfigError(f"{path} must be {' or '.join(kind.words for kind in found)}, got {value!r}")
