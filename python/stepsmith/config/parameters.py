"""The parameters of a class or function that a table can give."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from functools import cache
from typing import Any, NamedTuple

from stepsmith.config.values import kinds

__all__ = ["Parameter", "can_be_told", "parameters_of"]


class Parameter(NamedTuple):
    """One of them."""

    hint: Any
    default: Any = None
    is_required: bool = False
    is_variadic: bool = False
    """Whether its items are positional arguments."""


@cache
def parameters_of(function: Callable[..., Any]) -> dict[str, Parameter]:
    """By name, options of a `TypedDict` among them; whether a table can say them is another matter."""
    annotated: Any = function
    # Fields of a dataclass may come from another module, where their annotations mean something.
    by_init = isinstance(function, type) and not is_dataclass(function)
    hints = typing.get_type_hints(annotated.__init__ if by_init else annotated)
    found: dict[str, Parameter] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            found |= _options(hints.get(name))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            found[name] = Parameter(types.GenericAlias(Sequence, (hints[name],)), is_variadic=True)
        else:
            is_required = parameter.default is parameter.empty
            found[name] = Parameter(hints.get(name), None if is_required else parameter.default, is_required)
    return found


def _options(hint: Any) -> dict[str, Parameter]:
    (options,) = typing.get_args(hint) or (None,)
    return {} if options is None else {name: Parameter(each) for name, each in typing.get_type_hints(options).items()}


def can_be_told(function: Callable[..., Any]) -> bool:
    """Whether tables can give all that it needs, and something if it takes anything."""
    try:
        found = parameters_of(function)
    except NameError:
        # Annotations that only type checkers resolve are of nothing that TOML could say.
        return False
    told = [name for name, parameter in found.items() if kinds(parameter.hint)]
    return all(name in told for name, each in found.items() if each.is_required) and bool(told or not found)
