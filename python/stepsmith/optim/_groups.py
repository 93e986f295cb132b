"""Parameter groups: how parameters are handed in, and hyperparameters that are checked whenever they are set."""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from numpy.typing import NDArray

from stepsmith import _check
from stepsmith._backend import require_array
from stepsmith.schedules import Schedule

__all__ = ["Check", "Group", "Params", "betas", "flag", "lr", "make_groups", "nonnegative", "real"]

Array = NDArray[Any]
Params = Mapping[str, Array] | Iterable[Array] | Iterable[Mapping[str, Any]]

Check = Callable[[str, str, object], Any]
"""Owner, name, value → the value to keep, or an error."""


def lr(owner: str, name: str, value: object) -> float | Schedule:
    """A number of at least 0, or a schedule."""
    return value if isinstance(value, Schedule) else _check.number(owner, name, value, low=0.0)


def nonnegative(owner: str, name: str, value: object) -> float:
    """A number of at least 0."""
    return _check.number(owner, name, value, low=0.0)


def real(owner: str, name: str, value: object) -> float:
    """A finite number."""
    return _check.number(owner, name, value)


def flag(owner: str, name: str, value: object) -> bool:
    """True or False."""
    return _check.boolean(owner, name, value)


def betas(owner: str, name: str, value: object) -> tuple[float, ...]:
    """Two decay rates in [0, 1)."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{owner}: {name} must be a pair of numbers, got {value!r}")
    return tuple(
        _check.number(owner, f"{name}[{i}]", beta, low=0.0, high=1.0, open_high=True) for i, beta in enumerate(value)
    )


class Group(MutableMapping[str, Any]):
    """Hyperparameters of some parameters, by name; ``group["lr"] = x`` is checked and holds from the next step.

    ``group["params"]`` are the names of its parameters, and cannot be set.
    """

    def __init__(
        self, names: tuple[str, ...], values: Mapping[str, Any], set_values: Callable[["Group", dict[str, Any]], None]
    ) -> None:
        self.names = names
        self.values_now: dict[str, Any] = dict(values)
        self._set_values = set_values

    def __getitem__(self, key: str) -> Any:
        return self.names if key == "params" else self.values_now[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._set_values(self, {key: value})

    def __delitem__(self, key: str) -> None:
        raise TypeError(f"group[{key!r}] must stay: a hyperparameter cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        yield "params"
        yield from self.values_now

    def __len__(self) -> int:
        return 1 + len(self.values_now)

    def __repr__(self) -> str:
        return f"Group({dict(self)!r})"


def make_groups(owner: str, params: Params) -> list[tuple[dict[str, Array], dict[str, Any]]]:
    """For each group its named parameters and the hyperparameters that it sets itself."""
    if isinstance(params, Mapping):
        groups: list[tuple[Any, dict[str, Any]]] = [(params, {})]
    else:
        if not isinstance(params, Iterable) or hasattr(params, "dtype"):
            rule = "a mapping, a sequence of arrays or a sequence of groups"
            raise TypeError(f"{owner}: params must be {rule}, got {type(params).__name__}")
        items: list[Any] = list(params)
        if not any(isinstance(item, Mapping) for item in items):
            groups = [(items, {})]
        else:
            groups = [_split(owner, i, item) for i, item in enumerate(items)]
    return _name(owner, groups)


def _split(owner: str, i: int, group: object) -> tuple[Any, dict[str, Any]]:
    if not isinstance(group, Mapping):
        raise TypeError(f"{owner}: params[{i}] must be a group like the others, got {type(group).__name__}")
    if "params" not in group:
        raise ValueError(f"{owner}: params[{i}] must have the key 'params', got {sorted(group)}")
    rest = {key: value for key, value in group.items() if key != "params"}
    return group["params"], rest


def _name(owner: str, groups: list[tuple[Any, dict[str, Any]]]) -> list[tuple[dict[str, Array], dict[str, Any]]]:
    """Names from the mapping, else the running index over all groups."""
    named: list[tuple[dict[str, Array], dict[str, Any]]] = []
    seen: set[str] = set()
    count = 0
    for params, rest in groups:
        items = params if isinstance(params, Mapping) else _numbered(owner, params, count)
        arrays: dict[str, Array] = {}
        for name, array in items.items():
            if not isinstance(name, str):
                raise TypeError(f"{owner}: names of params must be strings, got {name!r}")
            if name in seen:
                raise ValueError(f"{owner}: names of params must be unique over all groups, got {name!r} twice")
            seen.add(name)
            arrays[name] = require_array(owner, f"params[{name!r}]", array)
        count += len(arrays)
        named.append((arrays, rest))
    if not seen:
        raise ValueError(f"{owner}: params must hold at least one array, got none")
    return named


def _numbered(owner: str, params: Any, first: int) -> dict[str, Any]:
    if hasattr(params, "dtype"):
        params = [params]
    if not isinstance(params, Iterable):
        raise TypeError(f"{owner}: params must be a mapping or a sequence of arrays, got {type(params).__name__}")
    return {str(first + i): array for i, array in enumerate(params)}
