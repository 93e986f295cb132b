"""Parameter groups: how parameters are handed in, and hyperparameters that are checked whenever they are set."""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from math import inf
from typing import Any, NoReturn, cast

from numpy.typing import NDArray

from stepsmith import _check
from stepsmith._backend import device_of, moved, require_array
from stepsmith.schedules import Schedule

__all__ = [
    "Check",
    "Group",
    "Held",
    "Number",
    "Params",
    "Scalar",
    "Several",
    "betas",
    "checked",
    "decay_groups",
    "decay_rate",
    "decays",
    "evaluate",
    "flag",
    "lr",
    "make_groups",
    "nonnegative",
    "params_on",
    "real",
    "refuse_copy",
    "scheduled_in",
]

Array = NDArray[Any]
Params = Mapping[str, Array] | Iterable[Array] | Iterable[Mapping[str, Any]]

Scalar = float | Schedule
"""A hyperparameter: a number, or a schedule of numbers."""

Held = tuple[dict[str, Any], tuple[str, ...]]
"""The hyperparameters of a group, and the names of those that are scheduled."""

Check = Callable[[str, str, object], Any]
"""Owner, name, value → the value to keep, or an error."""


class Number:
    """A finite number within [low, high], either end left out if it is open, or a schedule of such numbers."""

    def __init__(
        self, low: float = -inf, high: float = inf, *, open_low: bool = False, open_high: bool = False
    ) -> None:
        self._limits: dict[str, Any] = {"low": low, "high": high, "open_low": open_low, "open_high": open_high}

    def __call__(self, owner: str, name: str, value: object) -> Scalar:
        return value if isinstance(value, Schedule) else _check.number(owner, name, value, **self._limits)


class Several:
    """As many numbers as there are checks, each of which may be a schedule."""

    def __init__(self, *checks: Number) -> None:
        self.checks = checks

    def __call__(self, owner: str, name: str, value: object) -> tuple[Scalar, ...]:
        if not isinstance(value, tuple | list) or len(value) != len(self.checks):
            count = {2: "a pair", 3: "a triple"}[len(self.checks)]
            raise TypeError(f"{owner}: {name} must be {count} of numbers, got {value!r}")
        return tuple(check(owner, f"{name}[{i}]", entry) for i, (check, entry) in enumerate(zip(self.checks, value)))


real = Number()
nonnegative = lr = Number(0.0)
decay_rate = Number(0.0, 1.0, open_high=True)
betas = Several(decay_rate, decay_rate)


def decays(weight_decay: float, lr: float, decoupled: bool) -> tuple[float, float]:
    """λ of the L2 penalty, and what a parameter is multiplied by: one of them has an effect."""
    return (0.0, 1.0 - lr * weight_decay) if decoupled else (weight_decay, 1.0)


def flag(owner: str, name: str, value: object) -> bool:
    """True or False."""
    return _check.boolean(owner, name, value)


def scheduled_in(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the hyperparameters that are schedules or hold one."""
    return tuple([key for key, value in values.items() if any(isinstance(x, Schedule) for x in _entries(value))])


def evaluate(owner: str, checks: Mapping[str, Check], key: str, value: Any, step: int) -> Any:
    """A hyperparameter's value at a step (from 0), each number of a schedule checked as if it had been set."""
    if isinstance(value, tuple):
        several = cast(Several, checks[key])
        named = enumerate(zip(several.checks, value))
        return tuple([_at(owner, check, f"{key}[{i}]", entry, step) for i, (check, entry) in named])
    return _at(owner, checks[key], key, value, step)


def _at(owner: str, check: Check, name: str, value: Any, step: int) -> Any:
    return check(owner, f"{name} of {value!r} at step {step}", value(step)) if isinstance(value, Schedule) else value


def _entries(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def checked(owner: str, checks: Mapping[str, Check], values: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters as their checks want them; a ValueError names those that there are not."""
    unknown = sorted(set(values) - set(checks))
    if unknown:
        raise ValueError(
            f"{owner}: hyperparameters must be among {', '.join(checks)}, got {', '.join(map(repr, unknown))}"
        )
    return {key: checks[key](owner, key, value) for key, value in values.items()}


def params_on(
    owner: str, device: str, params: Mapping[str, Array], given: Mapping[str, Array] | None
) -> Mapping[str, Array]:
    """The arrays that are given, which must be on the device, or copies of the parameters there."""
    if given is None:
        return {name: _copied(param, device) for name, param in params.items()}
    for name, param in given.items():
        if device_of(require_array(owner, f"params[{name!r}]", param)) != device:
            raise ValueError(f"{owner}: params[{name!r}] must be on {device}, got an array on {device_of(param)}")
    return given


def _copied(array: Array, device: str) -> Array:
    return array.copy(order="K") if device_of(array) == device else moved(array, device)


def refuse_copy(owner: str) -> NoReturn:
    """An optimizer holds on to arrays in place: neither pickle nor copy can say what becomes of them."""
    raise TypeError(f"{owner}: an optimizer must be saved by state_dict(), got a request to pickle or copy it")


class Group(MutableMapping[str, Any]):
    """Hyperparameters of some parameters, by name; ``group["lr"] = x`` is checked and holds from the next step.

    ``group["params"]`` are the names of its parameters, and cannot be set.
    """

    def __init__(
        self, names: tuple[str, ...], values: Mapping[str, Any], set_values: Callable[["Group", dict[str, Any]], None]
    ) -> None:
        self.names = names
        self._set_values = set_values
        self.hold(values)

    def hold(self, values: Mapping[str, Any]) -> None:
        """Takes checked hyperparameters, all at once."""
        self.held: Held = dict(values), scheduled_in(values)

    @property
    def values_now(self) -> dict[str, Any]:
        """The hyperparameters, schedules as such."""
        return self.held[0]

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


def decay_groups(
    params: Mapping[str, Array], mask: Mapping[str, bool] | Callable[[str, Array], bool] | None = None
) -> list[dict[str, Any]]:
    """Two groups, the second without weight decay, for any optimizer.

    Args:
        params: mapping name → array.
        mask: name → whether the array decays, or a function of name and array that says so; by default arrays of two
            and more axes decay, and biases and gains do not.

    Returns:
        ``[{"params": ...}, {"params": ..., "weight_decay": 0.0}]``; a group without arrays is left out.

    Raises:
        ValueError: a mask whose names are not those of params.

    Example:
        >>> groups = decay_groups({"weight": np.ones((2, 2)), "bias": np.ones(2)})
        >>> [(sorted(group["params"]), group.get("weight_decay")) for group in groups]
        [(['weight'], None), (['bias'], 0.0)]
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"decay_groups: params must be a mapping from names to arrays, got {type(params).__name__}")
    if isinstance(mask, Mapping):
        missing, extra = [name for name in params if name not in mask], [name for name in mask if name not in params]
        if missing or extra:
            raise ValueError(f"decay_groups: mask must have the names of params, missing {missing}, extra {extra}")
        decays = {name: _check.boolean("decay_groups", f"mask[{name!r}]", mask[name]) for name in params}
    else:
        decays = {name: array.ndim > 1 if mask is None else bool(mask(name, array)) for name, array in params.items()}
    groups: list[dict[str, Any]] = [
        {"params": {name: array for name, array in params.items() if decays[name]}},
        {"params": {name: array for name, array in params.items() if not decays[name]}, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
