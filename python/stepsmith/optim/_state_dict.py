"""State dictionaries: what an optimizer says of itself, and the checks before any of it is taken back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stepsmith._backend import is_on_gpu, moved
from stepsmith.optim._options import mask_bits
from stepsmith.schedules import Schedule, from_dict

if TYPE_CHECKING:
    from stepsmith.optim.base import Optimizer

__all__ = ["VERSION", "dump", "load", "on_host"]

VERSION = 1
_KEYS = ("version", "optimizer", "groups", "steps", "state")

Array = NDArray[Any]

_SCALAR = np.array(0.0)
"""What a carried scalar looks like."""


class Loaded(NamedTuple):
    """A state dictionary that passed every check."""

    groups: list[dict[str, Any]]
    steps: dict[str, int]
    updates: int
    copies: list[tuple[Array, Array]]
    carried: list[tuple[float, ...]]
    """For each tensor its carried scalars."""
    mode: int
    masks: dict[str, NDArray[np.bool_]] | None
    """None if the dictionary has none."""


def dump(
    optimizer: Optimizer, steps: dict[str, int], updates: int, carried: Mapping[str, tuple[float, ...]]
) -> dict[str, Any]:
    """The dictionary of `Optimizer.state_dict`."""
    mode = {"mode": optimizer.modes[optimizer._stepper.mode]} if optimizer.modes else {}
    masks = optimizer.masks
    return {
        "version": VERSION,
        "optimizer": optimizer.name,
        "groups": [
            {"params": list(group.names), "step": updates}
            | {key: _plain(value) for key, value in group.values_now.items()}
            for group in optimizer.groups
        ],
        "steps": steps,
        "state": {
            name: {
                slot: on_host(array).view(optimizer._arrays.saved_dtype((name, slot))) for slot, array in row.items()
            }
            | {key: np.array(value) for key, value in zip(optimizer.carried, carried[name])}
            for name, row in optimizer._arrays.rows().items()
        },
        **mode,
        **({"masks": masks} if masks else {}),
    }


def on_host(array: Array) -> Array:
    """A copy in memory of the host."""
    return moved(array, "cpu") if is_on_gpu(array) else array.copy(order="K")


def _plain(value: Any) -> Any:
    if isinstance(value, Schedule):
        return value.to_dict()
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value


def _built(value: Any) -> Any:
    """The value with schedules built again."""
    if isinstance(value, Mapping):
        return from_dict(value)
    return tuple(_built(entry) for entry in value) if isinstance(value, list | tuple) else value


def load(optimizer: Optimizer, arrays: Mapping[tuple[str, str], Array], state_dict: Mapping[str, Any]) -> Loaded:
    """Checks everything that goes into `arrays`, by name and slot; a ValueError lists all that does not fit."""
    owner = type(optimizer).__name__
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"{owner}: state_dict must be a mapping, got {type(state_dict).__name__}")
    optional = [key for key in ("masks",) if key in state_dict]
    problems = _compare("keys", (*_KEYS, *(["mode"] if optimizer.modes else []), *optional), state_dict)
    if not problems and state_dict["version"] != VERSION:
        problems.append(f"version must be {VERSION}, got {state_dict['version']!r}")
    if not problems and state_dict["optimizer"] != optimizer.name:
        problems.append(f"optimizer must be {optimizer.name!r}, got {state_dict['optimizer']!r}")
    if not problems:
        problems = _group_problems(optimizer, state_dict["groups"]) + _step_problems(optimizer, state_dict["steps"])
        problems += _state_problems(optimizer, state_dict["state"])
    if not problems and optimizer.modes and state_dict["mode"] not in optimizer.modes:
        problems.append(f"mode must be one of {', '.join(optimizer.modes)}, got {state_dict['mode']!r}")
    if not problems and optional:
        try:
            mask_bits(owner, optimizer.params, state_dict["masks"])
        except (TypeError, ValueError) as error:
            problems.append(str(error))
    if problems:
        raise ValueError(f"{owner}: state_dict must fit the optimizer: " + "; ".join(problems))
    return Loaded(
        [_values(optimizer, group) for group in state_dict["groups"]],
        dict(state_dict["steps"]),
        state_dict["groups"][0]["step"],
        [
            (array, _apart(state_dict["state"][name][slot].view(array.dtype), array))
            for (name, slot), array in arrays.items()
        ],
        [tuple(float(state_dict["state"][name][key]) for key in optimizer.carried) for name in optimizer.params],
        optimizer.modes.index(state_dict["mode"]) if optimizer.modes else 0,
        dict(state_dict["masks"]) if optional else None,
    )


def _apart(source: Array, target: Array) -> Array:
    """The source, copied if it lies in the state that is about to be overwritten."""
    is_shared = isinstance(target.base, np.ndarray) and np.may_share_memory(source, target.base)
    return source.copy() if is_shared else source


def _compare(what: str, want: Any, got: Any) -> list[str]:
    """Missing and extra names."""
    missing, extra = [name for name in want if name not in got], [name for name in got if name not in want]
    return [f"{what}: missing {missing}, extra {extra}"] if missing or extra else []


def _group_problems(optimizer: Optimizer, groups: Any) -> list[str]:
    if not isinstance(groups, list | tuple) or len(groups) != len(optimizer.groups):
        return [f"groups must be a list of {len(optimizer.groups)}, got {groups!r}"]
    problems = [problem for i in range(len(groups)) for problem in _problems_of_group(optimizer, i, groups[i])]
    counts = [group.get("step") for group in groups if isinstance(group, Mapping)]
    if any(count != counts[0] for count in counts):
        problems.append(f"groups must agree on 'step', got {counts}")
    return problems


def _problems_of_group(optimizer: Optimizer, i: int, loaded: Any) -> list[str]:
    group = optimizer.groups[i]
    if not isinstance(loaded, Mapping):
        return [f"groups[{i}] must be a mapping, got {type(loaded).__name__}"]
    problems = _compare(f"groups[{i}]", ["params", "step", *group.values_now], loaded)
    if problems:
        return problems
    names = loaded["params"]
    if not isinstance(names, list | tuple) or list(names) != list(group.names):
        problems.append(f"groups[{i}]['params'] must be {list(group.names)}, got {names}")
    return problems + _count_problem(f"groups[{i}]['step']", loaded["step"]) + _value_problems(optimizer, i, loaded)


def _value_problems(optimizer: Optimizer, i: int, loaded: Mapping[str, Any]) -> list[str]:
    try:
        values = _values(optimizer, loaded)
    except (TypeError, ValueError) as error:
        return [f"groups[{i}]: {error}"]
    want, got = optimizer._slots_of(optimizer.groups[i].values_now), optimizer._slots_of(values)
    return (
        [] if want == got else [f"groups[{i}]: hyperparameters must imply the state {sorted(want)}, got {sorted(got)}"]
    )


def _values(optimizer: Optimizer, loaded: Mapping[str, Any]) -> dict[str, Any]:
    """Checked hyperparameters of a group, schedules built again."""
    values = {key: value for key, value in loaded.items() if key not in {"params", "step"}}
    values = optimizer._checked({key: _built(value) for key, value in values.items()})
    optimizer._check_together(values)
    return values


def _count_problem(what: str, count: Any) -> list[str]:
    fine = isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**53
    return [] if fine else [f"{what} must be an integer of at least 0 and below 2**53, got {count!r}"]


def _step_problems(optimizer: Optimizer, steps: Any) -> list[str]:
    if not isinstance(steps, Mapping):
        return [f"steps must be a mapping, got {type(steps).__name__}"]
    problems = _compare("steps", optimizer.params, steps)
    for name, count in steps.items():
        problems += _count_problem(f"steps[{name!r}]", count)
    return problems


def _state_problems(optimizer: Optimizer, state: Any) -> list[str]:
    if not isinstance(state, Mapping):
        return [f"state must be a mapping, got {type(state).__name__}"]
    problems = _compare("state", optimizer.state, state)
    for name, row in optimizer._arrays.rows().items():
        if name not in state:
            continue
        if not isinstance(state[name], Mapping):
            problems.append(f"state[{name!r}] must be a mapping, got {type(state[name]).__name__}")
            continue
        wanted = {**row, **dict.fromkeys(optimizer.carried, _SCALAR)}
        problems += _compare(f"state[{name!r}]", wanted, state[name])
        for slot, array in wanted.items():
            if slot in state[name]:
                dtype = array.dtype if array is _SCALAR else optimizer._arrays.saved_dtype((name, slot))
                problems += _array_problem(f"state[{name!r}][{slot!r}]", (array.shape, dtype), state[name][slot])
    return problems


def _array_problem(what: str, want: tuple[tuple[int, ...], Any], got: Any) -> list[str]:
    """What is wrong with an array that must have a shape and a dtype."""
    if not isinstance(got, np.ndarray):
        return [f"{what} must be a NumPy array, got {type(got).__name__}"]
    if (got.shape, got.dtype) != want:
        return [f"{what} must be {want[1]} of shape {want[0]}, got {got.dtype} of shape {got.shape}"]
    return []
