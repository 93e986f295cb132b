"""Checks of arguments, each with a message that names the owner, the argument, the rule and the value."""

import math
from collections.abc import Iterable
from numbers import Integral, Real

__all__ = ["boolean", "integer", "number", "one_of"]


def number(
    owner: str,
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """The value as a finite float within [low, high], either end left out if it is open."""
    if type(value) is float:
        result = value
    elif isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{owner}: {name} must be a number, got {value!r}")
    else:
        result = float(value)
    too_low = result <= low if open_low else result < low
    too_high = result >= high if open_high else result > high
    if not math.isfinite(result) or too_low or too_high:
        raise ValueError(f"{owner}: {name} must be {_range(low, high, open_low, open_high)}, got {value!r}")
    return result


def _range(low: float, high: float, open_low: bool, open_high: bool) -> str:
    if low == -math.inf and high < math.inf:
        return f"finite and {'less than' if open_high else 'at most'} {high:g}"
    if high < math.inf:
        return f"in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
    if low > -math.inf:
        return f"finite and {'more than' if open_low else 'at least'} {low:g}"
    return "finite"


def integer(owner: str, name: str, value: object, *, low: int | None = None, high: int | None = None) -> int:
    """The value as an int within [low, high]."""
    if type(value) is int:
        result = value
    elif isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{owner}: {name} must be an integer, got {value!r}")
    else:
        result = int(value)
    if low is not None and result < low:
        raise ValueError(f"{owner}: {name} must be at least {low}, got {result}")
    if high is not None and result > high:
        raise ValueError(f"{owner}: {name} must be at most {high}, got {result}")
    return result


def boolean(owner: str, name: str, value: object) -> bool:
    """The value, which must be True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{owner}: {name} must be True or False, got {value!r}")
    return value


def one_of(owner: str, name: str, value: object, choices: Iterable[str]) -> str:
    """The value, which must be one of the choices."""
    known = list(choices)
    if not isinstance(value, str):
        raise TypeError(f"{owner}: {name} must be a string, got {value!r}")
    if value not in known:
        raise ValueError(f"{owner}: {name} must be one of {', '.join(known)}, got {value!r}")
    return value
