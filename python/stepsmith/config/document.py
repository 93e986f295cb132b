"""The config's text: read, overridden, written."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepsmith.config.problems import ConfigError, key, similar
from stepsmith.quant._command import parse_settings

__all__ = ["SECTIONS", "differences", "read", "written"]

SECTIONS = ("data", "model", "loss", "optimizer", "schedule", "training", "regularization", "callbacks")

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def read(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A config with the overrides in it, and its paths from the root on.

    Args:
        path: Of the TOML file.
        overrides: Each "table.key=value"; "none" takes a key away.

    Raises:
        OSError: It cannot be read.
        ConfigError: No TOML, an unknown table, or an override of nothing.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    for name, value in parse_settings(overrides).items():
        _override(document, name, value)
    for name, value in document.items():
        if name not in SECTIONS:
            raise ConfigError(f"{name} must be one of {', '.join(SECTIONS)}{similar(name, SECTIONS)}")
        if not isinstance(value, dict):
            raise ConfigError(f"{name} must be a table, got {value!r}")
    data = document.get("data", {})
    if isinstance(data.get("path"), str):
        data["path"] = str((path.parent / data["path"]).resolve())
    return document


def _override(document: dict[str, Any], name: str, value: Any) -> None:
    """Set a key, or an item of a list such as "model.layers.0.out_features"."""
    *tables, last = name.split(".")
    place: Any = document
    for table in tables:
        place = place.setdefault(table, {}) if isinstance(place, dict) else _item(place, table, name)
    if isinstance(place, list):
        _item(place, last, name)
        place[int(last)] = value
    elif not isinstance(place, dict):
        raise ConfigError(f"--set {name} must be a key of a table, got one of {place!r}")
    elif value is None:
        place.pop(last, None)
    else:
        place[last] = value


def _item(place: Any, number: str, name: str) -> Any:
    if not isinstance(place, list) or not number.isdecimal() or int(number) >= len(place):
        raise ConfigError(f"--set {name} must be a key of a table or an item of a list, got no {number!r} in {place!r}")
    return place[int(number)]


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """What differs, key by key.

    Example:
        >>> differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2})
        ['a.b (1 before, 3 now)']
    """
    if isinstance(old, dict | None) and isinstance(new, dict | None) and (old or new):
        before, now = old or {}, new or {}
        names = dict.fromkeys([*before, *now])
        return [line for name in names for line in differences(before.get(name), now.get(name), key(path, name))]
    same = type(old) is type(new) and old == new
    return [] if same else [f"{path} ({_shown(old)} before, {_shown(new)} now)"]


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)


def written(document: Mapping[str, Any]) -> str:
    r"""The same as TOML.

    Example:
        >>> print(written({"optimizer": {"type": "adam", "betas": [0.9, 0.99]}, "schedule": {"warmup": {"T": 5}}}))
        [optimizer]
        type = "adam"
        betas = [0.9, 0.99]
        <BLANKLINE>
        [schedule.warmup]
        T = 5
        <BLANKLINE>
    """
    blocks = [block for name, table in document.items() for block in _blocks(_key(name), table)]
    return "\n".join(blocks)


def _blocks(path: str, table: Mapping[str, Any]) -> list[str]:
    """A table, then those within it."""
    inner = {name: value for name, value in table.items() if isinstance(value, dict)}
    lines = [f"{_key(name)} = {_value(value)}" for name, value in table.items() if name not in inner]
    own = ["\n".join([f"[{path}]", *lines, ""])] if lines or not inner else []
    return own + [block for name, value in inner.items() for block in _blocks(f"{path}.{_key(name)}", value)]


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(value: str) -> str:
    # What JSON escapes TOML reads, but for DEL, which JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        is_long = any(isinstance(item, dict | list) for item in value)
        items = [_value(item) for item in value]
        return "[\n" + "".join(f"    {item},\n" for item in items) + "]" if is_long else f"[{', '.join(items)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(name)} = {_value(item)}" for name, item in value.items()) + "}"
    return str(value)
