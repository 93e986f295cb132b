"""New names for tensors of a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

__all__ = ["Mapper", "renamed"]

Mapper = Mapping[str, str] | Iterable[tuple[str, str]] | Callable[[str], str]
"""Globs and their replacements, or a function of the old name."""


def renamed(names: Iterable[str], mapping: Mapper | None) -> dict[str, str]:
    """Old name to new name; the first glob that matches decides, and a name that none matches stays.

    What each * of a glob stood for takes the place of the replacement's *, in order.

    Raises:
        TypeError: Another kind of mapping, or names that are no strings.
        ValueError: A replacement with more * than its glob, or two tensors of one new name.

    Example:
        >>> renamed(["body.fc1.weight", "body.fc1.bias", "scale"], {"body.fc1.*": "0.*"})
        {'body.fc1.weight': '0.weight', 'body.fc1.bias': '0.bias', 'scale': 'scale'}
    """
    rename = mapping if callable(mapping) else _Globs({} if mapping is None else mapping)
    found: dict[str, str] = {}
    for name in names:
        found[name] = new = rename(name)
        if not isinstance(new, str):
            raise TypeError(f"load_weights: mapping must give strings, got {new!r} for {name!r}")
    news = list(found.values())
    twice = {old: new for old, new in found.items() if news.count(new) > 1}
    if twice:
        raise ValueError(f"load_weights: mapping must lead to one name each, got {twice}")
    return found


class _Globs:
    """Renames by the first rule that matches."""

    def __init__(self, mapping: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        pairs = mapping.items() if isinstance(mapping, Mapping) else mapping
        if isinstance(pairs, str) or not isinstance(pairs, Iterable):
            raise TypeError(f"load_weights: mapping must be a function, a mapping or pairs, got {mapping!r}")
        self._rules = [_rule(pair) for pair in pairs]

    def __call__(self, name: str) -> str:
        for pattern, pieces in self._rules:
            match = pattern.fullmatch(name)
            if match is not None:
                stars = match.groups()[: len(pieces) - 1]
                return "".join(part for pair in zip(pieces, (*stars, "")) for part in pair)
        return name


def _rule(pair: object) -> tuple[re.Pattern[str], list[str]]:
    """What a name must look like, and the pieces between the replacement's *."""
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
        raise TypeError(f"load_weights: mapping must have pairs of strings, got {pair!r}")
    glob, replacement = pair
    if replacement.count("*") > glob.count("*"):
        rule = "must have no more * than what it replaces"
        raise ValueError(f"load_weights: mapping[{glob!r}] {rule}, got {replacement!r}")
    return re.compile("(.*)".join(map(re.escape, glob.split("*")))), replacement.split("*")
