"""What a config can name, by kind: the package's own lists, so that a class that joins one can be named at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stepsmith import init, nn, optim, schedules, train
from stepsmith.config.parameters import can_be_told
from stepsmith.config.problems import ConfigError, among, key

__all__ = ["CATALOGS", "Catalog", "chosen", "type_of"]

Catalog = Mapping[str, Callable[..., Any]]


def _classes(module: Any, base: type, but: Iterable[type] = ()) -> dict[str, Callable[..., Any]]:
    """The classes of a module below a base that tables can build, by name."""
    found = {name: getattr(module, name) for name in module.__all__}
    wanted = {name: item for name, item in found.items() if isinstance(item, type) and issubclass(item, base)}
    left_out = {base, *but}
    return {
        name: item
        for name, item in wanted.items()
        if item not in left_out and not inspect.isabstract(item) and can_be_told(item)
    }


_NO_INITIALIZERS = ("calculate_gain", "fans", "generator")

CATALOGS: dict[str, Catalog] = {
    # Precision is said in [training], and a wrapper for it is outermost.
    "layer": _classes(nn, nn.Module, [nn.MixedPrecision]),
    "loss": {name: loss for name, loss in nn.LOSSES.items() if loss.targets == 1},
    "optimizer": optim.REGISTRY,
    "schedule": schedules.REGISTRY,
    "regularizer": _classes(nn, nn.Regularizer),
    "callback": _classes(train, train.Callback),
    "initializer": {name: getattr(init, name) for name in init.__all__ if name not in _NO_INITIALIZERS},
}


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


def chosen(path: str, name: object, catalog: Catalog) -> Callable[..., Any]:
    """The class of that name, whether that is of its list or its own, in any case and with or without underscores.

    Raises:
        ConfigError: No such class.
    """
    known = {_folded(item.__name__): item for item in catalog.values()}
    known |= {_folded(other): item for other, item in catalog.items()}
    if not isinstance(name, str) or _folded(name) not in known:
        raise among(path, name, catalog)
    return known[_folded(name)]


def type_of(path: str, table: Mapping[str, Any], catalog: Catalog, default: str | None = None) -> Callable[..., Any]:
    """The class that a table's "type" names, or the default one.

    Raises:
        ConfigError: No such class, or none named.
    """
    name = table.get("type", default)
    if name is None:
        raise ConfigError(f"{key(path, 'type')} must be given: one of {', '.join(catalog)}")
    return chosen(key(path, "type"), name, catalog)
