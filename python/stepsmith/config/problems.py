"""What is wrong with a config, said with the path of the key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = ["ConfigError", "among", "key", "placed", "similar"]

_OWNED = re.compile(r"\w+: (?=\w)")
_WORD = re.compile(r"\w*")


class ConfigError(ValueError):
    """A config that cannot be used; the message begins with the path of a key."""

    def __init__(self, message: str) -> None:
        super().__init__(f"train: {message}")


def key(path: str, name: str) -> str:
    """The path of a key within a table.

    Example:
        >>> key("optimizer", "lr"), key("", "optimizer")
        ('optimizer.lr', 'optimizer')
    """
    return f"{path}.{name}" if path else name


def similar(name: str, known: Iterable[str]) -> str:
    """A question after the name that was meant, if there is one like it.

    Example:
        >>> similar("lrr", ["lr", "betas"]), similar("out", ["out_features"]), similar("x", ["lr"])
        ("; did you mean 'lr'?", "; did you mean 'out_features'?", '')
    """
    names = list(known)
    folded = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), folded, n=1)
    longer = [other for other in names if name and other.lower().startswith(name.lower())]
    found = [folded[word] for word in near] or longer[:1]
    return f"; did you mean {found[0]!r}?" if found else ""


def among(path: str, name: object, known: Iterable[str]) -> ConfigError:
    """The error for a name that is not one of those there are."""
    names = list(known)
    return ConfigError(f"{path} must be one of {', '.join(names)}, got {name!r}{similar(str(name), names)}")


@contextmanager
def placed(path: str, names: Iterable[str] = ()) -> Iterator[None]:
    """Say the path instead of the owner in the errors of a constructor; `names` are its arguments."""
    try:
        yield
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        text = _OWNED.sub("", str(error), count=1) if _OWNED.match(str(error)) else str(error)
        word = _WORD.match(text)
        named = word is not None and word.group() in set(names)
        raise ConfigError(f"{path}.{text}" if named else f"{path}: {text}") from error
