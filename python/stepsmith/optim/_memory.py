"""What L-BFGS keeps from step to step, and its state dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stepsmith.optim._state_dict import VERSION, _array_problem, _compare, _count_problem, on_host
from stepsmith.optim._vectors import Vector

if TYPE_CHECKING:
    from stepsmith.optim.lbfgs import LBFGS

__all__ = ["Memory", "Pair", "dump", "load"]

_KEYS = ("version", "optimizer", "groups", "steps", "state", "memory")
_NUMBERS = ("iterations", "evaluations", "t", "h0", "rho")
_SLOTS = ("direction", "grad", "s", "y")


class Pair(NamedTuple):
    """A step, the change of the gradient along it, and 1 / (y·s)."""

    s: Vector
    y: Vector
    rho: float


@dataclass(frozen=True)
class Memory:
    """What is kept from step to step. Its vectors are never written again: a failed step falls back on it."""

    iterations: int = 0
    evaluations: int = 0
    pairs: tuple[Pair, ...] = ()
    """Oldest first."""
    h0: float = 1.0
    direction: Vector | None = None
    grad: Vector | None = None
    """Where `direction` was taken."""
    t: float = 0.0
    """How far along `direction` the parameters went."""


def dump(optimizer: LBFGS, memory: Memory) -> dict[str, Any]:
    """The dictionary of `LBFGS.state_dict`."""
    names, group = list(optimizer.params), optimizer.groups[0].values_now
    return {
        "version": VERSION,
        "optimizer": optimizer.name,
        "groups": [{"params": names, "step": memory.iterations, **group}],
        "steps": dict.fromkeys(names, memory.iterations),
        "state": {name: _row(memory, k) for k, name in enumerate(names)},
        "memory": {
            "iterations": memory.iterations,
            "evaluations": memory.evaluations,
            "t": memory.t,
            "h0": memory.h0,
            "rho": [pair.rho for pair in memory.pairs],
        },
    }


def _row(memory: Memory, k: int) -> dict[str, Any]:
    if memory.direction is None or memory.grad is None:
        return {}
    direction = on_host(memory.direction[k])
    return {
        "direction": direction,
        "grad": on_host(memory.grad[k]),
        "s": np.stack([on_host(pair.s[k]) for pair in memory.pairs] or [direction])[: len(memory.pairs)],
        "y": np.stack([on_host(pair.y[k]) for pair in memory.pairs] or [direction])[: len(memory.pairs)],
    }


def load(optimizer: LBFGS, state_dict: Mapping[str, Any]) -> tuple[dict[str, Any], Memory]:
    """Checked hyperparameters and memory; a ValueError lists all that does not fit."""
    owner = type(optimizer).__name__
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"{owner}: state_dict must be a mapping, got {type(state_dict).__name__}")
    problems = _compare("keys", _KEYS, state_dict)
    if not problems and state_dict["version"] != VERSION:
        problems.append(f"version must be {VERSION}, got {state_dict['version']!r}")
    if not problems and state_dict["optimizer"] != optimizer.name:
        problems.append(f"optimizer must be {optimizer.name!r}, got {state_dict['optimizer']!r}")
    if not problems:
        problems = _group_problems(optimizer, state_dict["groups"]) + _number_problems(state_dict["memory"])
    if not problems:
        problems = _state_problems(optimizer, state_dict)
    if problems:
        raise ValueError(f"{owner}: state_dict must fit the optimizer: " + "; ".join(problems))
    group, numbers = state_dict["groups"][0], state_dict["memory"]
    rows = [state_dict["state"][name] for name in optimizer.params]
    started = numbers["iterations"] > 0
    copy = optimizer._space.taken
    pairs = [
        Pair(copy([row["s"][i] for row in rows]), copy([row["y"][i] for row in rows]), rho)
        for i, rho in enumerate(numbers["rho"])
    ]
    return _values(optimizer, group), Memory(
        numbers["iterations"],
        numbers["evaluations"],
        tuple(pairs),
        numbers["h0"],
        copy([row["direction"] for row in rows]) if started else None,
        copy([row["grad"] for row in rows]) if started else None,
        numbers["t"],
    )


def _values(optimizer: LBFGS, group: Mapping[str, Any]) -> dict[str, Any]:
    return optimizer._checked({key: value for key, value in group.items() if key not in {"params", "step"}})


def _group_problems(optimizer: LBFGS, groups: Any) -> list[str]:
    if not isinstance(groups, list | tuple) or len(groups) != 1 or not isinstance(groups[0], Mapping):
        return [f"groups must be a list of 1 mapping, got {groups!r}"]
    group, names = groups[0], list(optimizer.params)
    problems = _compare("groups[0]", ["params", "step", *optimizer.checks], group)
    if problems:
        return problems
    if not isinstance(group["params"], list | tuple) or list(group["params"]) != names:
        problems.append(f"groups[0]['params'] must be {names}, got {group['params']}")
    try:
        _values(optimizer, group)
    except (TypeError, ValueError) as error:
        problems.append(f"groups[0]: {error}")
    return problems


def _number_problems(numbers: Any) -> list[str]:
    if not isinstance(numbers, Mapping):
        return [f"memory must be a mapping, got {type(numbers).__name__}"]
    problems = _compare("memory", _NUMBERS, numbers)
    if problems:
        return problems
    problems = _count_problem("memory['iterations']", numbers["iterations"])
    problems += _count_problem("memory['evaluations']", numbers["evaluations"])
    rho = numbers["rho"] if isinstance(numbers["rho"], list | tuple) else [None]
    scalars = {"t": numbers["t"], "h0": numbers["h0"], **{f"rho[{i}]": value for i, value in enumerate(rho)}}
    for key, value in scalars.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            problems.append(f"memory: {key} must be a finite number, got {value!r}")
    return problems


def _state_problems(optimizer: LBFGS, state_dict: Mapping[str, Any]) -> list[str]:
    state, numbers = state_dict["state"], state_dict["memory"]
    if not isinstance(state, Mapping):
        return [f"state must be a mapping, got {type(state).__name__}"]
    want = dict.fromkeys(optimizer.params, numbers["iterations"])
    problems = [] if state_dict["steps"] == want else [f"steps must be {want}, got {state_dict['steps']!r}"]
    if state_dict["groups"][0]["step"] != numbers["iterations"]:
        problems.append(f"groups[0]['step'] must be {numbers['iterations']}, got {state_dict['groups'][0]['step']!r}")
    if len(numbers["rho"]) > state_dict["groups"][0]["history_size"]:
        problems.append(f"memory['rho'] must have at most history_size entries, got {len(numbers['rho'])}")
    problems += _compare("state", optimizer.params, state)
    slots = _SLOTS if numbers["iterations"] else ()
    for name, param in optimizer.params.items():
        row = state.get(name, {})
        if not isinstance(row, Mapping):
            problems.append(f"state[{name!r}] must be a mapping, got {type(row).__name__}")
            continue
        problems += _compare(f"state[{name!r}]", slots, row)
        for slot in (slot for slot in slots if slot in row):
            shape = param.shape if slot in {"direction", "grad"} else (len(numbers["rho"]), *param.shape)
            problems += _array_problem(f"state[{name!r}][{slot!r}]", (shape, param.dtype), row[slot])
    return problems
