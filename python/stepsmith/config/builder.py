"""Objects of tables: a class by its name, arguments by its signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from stepsmith.config.catalogs import CATALOGS, Catalog, chosen, type_of
from stepsmith.config.parameters import Parameter, parameters_of
from stepsmith.config.problems import ConfigError, key, placed, similar
from stepsmith.config.values import convert, kinds

__all__ = ["MISSING", "Builder", "table_at"]

NOTHING: Mapping[str, Any] = MappingProxyType({})
MISSING = object()
"""What `Builder.missing` says where it knows nothing either."""


def table_at(document: Mapping[str, Any], path: str, name: str) -> dict[str, Any]:
    """A table of a table, an empty one if there is none.

    Raises:
        ConfigError: Something else than a table.
    """
    found = document.get(name, {})
    if not isinstance(found, dict):
        raise ConfigError(f"{key(path, name)} must be a table, got {found!r}")
    return found


class Builder:
    """Builds what tables describe; subclasses know what may be left out."""

    def build(
        self,
        path: str,
        table: Mapping[str, Any],
        catalog: Catalog,
        default: str | None = None,
        fixed: Mapping[str, Any] = NOTHING,
    ) -> Any:
        """What a table describes.

        Args:
            path: Of the table, for errors.
            table: "type" and arguments.
            catalog: Of the classes.
            default: The type of a table that says none.
            fixed: Arguments that are no keys, for a class that takes them.

        Raises:
            ConfigError: Unknown keys, or values of the wrong kind or out of range.
        """
        function = type_of(path, table, catalog, default)
        return self.make(path, function, {name: value for name, value in table.items() if name != "type"}, fixed)

    def make(
        self, path: str, function: Callable[..., Any], table: Mapping[str, Any], fixed: Mapping[str, Any] = NOTHING
    ) -> Any:
        """The same of a class that is known."""
        parameters = parameters_of(function)
        values = self._values(path, function, table, parameters, fixed)
        variadic = next((values.pop(name) for name, each in parameters.items() if each.is_variadic), ())
        with placed(path, parameters):
            return function(*variadic, **values)

    def _values(
        self,
        path: str,
        function: Callable[..., Any],
        table: Mapping[str, Any],
        parameters: Mapping[str, Parameter],
        fixed: Mapping[str, Any],
    ) -> dict[str, Any]:
        keys = [name for name, each in parameters.items() if name not in fixed and kinds(each.hint)]
        for name in table:
            if name not in keys:
                question = similar(name, keys) or f"; it has {', '.join(keys) or 'none'}"
                raise ConfigError(f"{key(path, name)} is no key of {function.__name__}{question}")
        values = {name: value for name, value in fixed.items() if name in parameters}
        for name, parameter in parameters.items():
            if name in table:
                values[name] = convert(parameter.hint, table[name], key(path, name), self.nested)
            elif name not in values:
                values |= self._left_out(path, function, name, parameter)
        return values

    def _left_out(self, path: str, function: Callable[..., Any], name: str, parameter: Parameter) -> dict[str, Any]:
        value = () if parameter.is_variadic else self.missing(function, name, parameter)
        if value is not MISSING:
            return {name: value}
        if parameter.is_required:
            raise ConfigError(f"{key(path, name)} must be given")
        return {}

    def missing(self, function: Callable[..., Any], name: str, parameter: Parameter) -> Any:
        """A value for an argument that a table leaves out."""
        return MISSING

    def nested(self, what: str, path: str, table: Any) -> Any:
        """What a table within a table describes."""
        if what != "initializer":
            raise ConfigError(f"{path} must be no table of a {what} here")
        if isinstance(table, str):
            return chosen(path, table, CATALOGS[what])
        function = type_of(path, table, CATALOGS[what])
        rest = {name: value for name, value in table.items() if name != "type"}
        fixed = dict.fromkeys(("shape", "rng", "dtype", "out"))
        values = self._values(path, function, rest, parameters_of(function), fixed)
        return partial(function, **{name: value for name, value in values.items() if name not in fixed})
