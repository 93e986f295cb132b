"""State dictionaries of `torch.optim`, to and from ours. PyTorch is imported when one is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stepsmith.optim._codes import quantized
from stepsmith.optim._state_dict import VERSION
from stepsmith.quant import QuantizedArray
from stepsmith.schedules import from_dict

if TYPE_CHECKING:
    from stepsmith.optim.base import Optimizer

__all__ = ["from_torch", "to_torch"]

Array = NDArray[Any]

_IMPLEMENTATION = {"foreach", "fused", "capturable", "differentiable"}
"""What picks PyTorch's code, not the result."""
_SCHEDULERS = {"initial_lr", "min_lr", "max_lr", "base_momentum", "max_momentum", "swa_lr"}
"""What PyTorch's schedulers leave in a group."""


def to_torch(optimizer: Optimizer, model: Any) -> dict[str, Any]:
    """The dictionary of `Optimizer.to_torch_state_dict`."""
    import torch

    ours, defaults = optimizer.state_dict(), _defaults(optimizer)
    names = _names(optimizer, model)
    groups: list[dict[str, Any]] = []
    state: dict[int, Any] = {}
    problems: list[str] = []
    for group, ordered in zip(ours["groups"], names):
        first = len(state)
        values = {key: _now(value, group["step"]) for key, value in group.items() if key not in {"params", "step"}}
        problems += [
            f"{key} must be {default!r} for PyTorch, got {values[key]!r}"
            for key, default in _own(optimizer, defaults).items()
            if values[key] != default
        ]
        known = {key: value for key, value in values.items() if key in defaults}
        groups.append({**defaults, **known, "params": list(range(first, first + len(ordered)))})
        for name in ordered:
            row = {**ours["state"][name], **_decoded(optimizer, name)}
            state[len(state)] = _entry(torch, optimizer, row, ours["steps"][name], values)
    if problems:
        raise ValueError(f"{optimizer._owner}: {'; '.join(problems)}")
    return {"state": state, "param_groups": groups}


def _decoded(optimizer: Optimizer, name: str) -> dict[str, Array]:
    """The state arrays that have codes, as float32."""
    return {slot: x.dequantize() for slot, x in optimizer.state[name].items() if isinstance(x, QuantizedArray)}


def _entry(torch: Any, optimizer: Optimizer, row: Mapping[str, Array], step: int, group: Mapping[str, Any]) -> Any:
    """A tensor's state under PyTorch's names."""
    names = optimizer.torch_names or {}
    entry: dict[str, Any] = {}
    if "step" in names:
        entry["step"] = torch.tensor(float(step), dtype=torch.float32)
    for key, scalar in optimizer.torch_scalars.items():
        entry[key] = torch.tensor(scalar(group, step), dtype=torch.float32)
    for slot, array in row.items():
        if slot not in names:
            continue
        if slot in _carried(optimizer):
            entry[names[slot]] = torch.tensor(float(array), dtype=torch.float32)
        elif step == 0 and "step" not in names:
            entry[names[slot]] = None
        else:
            wide = np.float64 if array.dtype == np.float64 else np.float32
            entry[names[slot]] = torch.from_numpy(np.array(array, wide, order="C"))
    return entry


def from_torch(optimizer: Optimizer, state_dict: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """A dictionary for `Optimizer.load_state_dict`; a ValueError lists all that does not fit."""
    owner = optimizer._owner
    defaults, names = _defaults(optimizer), _names(optimizer, model)
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"{owner}: state_dict must be a mapping, got {type(state_dict).__name__}")
    problems: list[str] = []
    if set(state_dict) != {"state", "param_groups"}:
        problems.append(f"keys must be 'state' and 'param_groups', got {sorted(map(str, state_dict))}")
    elif not isinstance(state_dict["state"], Mapping) or not _are_mappings(state_dict["state"].values()):
        problems.append("state must be a mapping of mappings")
    elif not _are_mappings(state_dict["param_groups"]) or len(state_dict["param_groups"]) != len(names):
        problems.append(f"param_groups must be a list of {len(names)}, got {state_dict['param_groups']!r}")
    groups: list[dict[str, Any]] = []
    steps: dict[str, int] = {}
    state: dict[str, dict[str, Array]] = {}
    if not problems:
        for i, (loaded, ordered) in enumerate(zip(state_dict["param_groups"], names)):
            groups.append(_group(optimizer, loaded, ordered, defaults, f"param_groups[{i}]", problems))
            for name, index in zip(ordered, loaded.get("params", ())):
                entry = state_dict["state"].get(index) or {}
                steps[name], state[name] = _row(optimizer, name, entry, f"state[{index}]", groups[-1], problems)
    if problems:
        raise ValueError(f"{owner}: state_dict must fit the optimizer: " + "; ".join(problems))
    updates = max(steps.values())
    return {
        "version": VERSION,
        "optimizer": optimizer.name,
        "groups": [
            {"params": list(group.names), "step": updates, **values} for group, values in zip(optimizer.groups, groups)
        ],
        "steps": steps,
        "state": state,
    }


def _are_mappings(values: Iterable[Any]) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def _group(
    optimizer: Optimizer,
    loaded: Mapping[str, Any],
    ordered: list[str],
    defaults: Mapping[str, Any],
    what: str,
    problems: list[str],
) -> dict[str, Any]:
    """Our hyperparameters from PyTorch's; what does not fit is added to `problems`."""
    indices = loaded.get("params", ())
    if len(indices) != len(ordered):
        problems.append(f"{what}['params'] must be {len(ordered)} ({', '.join(ordered)}), got {len(indices)}")
    named = loaded.get("param_names", ordered)
    if not all(name.isdigit() for name in ordered) and list(named) != ordered:
        problems.append(f"{what}['param_names'] must be {ordered}, got {list(named)}")
    unknown = sorted(set(loaded) - set(defaults) - _SCHEDULERS - {"params", "param_names"})
    if unknown:
        problems.append(f"{what} must have PyTorch's keys {sorted(defaults)}, got {unknown}")
    if "lr" not in loaded:
        problems.append(f"{what} must have the key 'lr', got {sorted(loaded)}")
    values = {key: _plain(value) for key, value in {**defaults, **loaded}.items()}
    for key, default in defaults.items():
        if key not in optimizer.checks and key not in _IMPLEMENTATION and values[key] != default:
            problems.append(f"{what}[{key!r}] must be {default!r}, got {values[key]!r}")
    own = _own(optimizer, defaults)
    return {key: own[key] if key in own else values[key] for key in optimizer.checks}


def _row(
    optimizer: Optimizer,
    name: str,
    entry: Mapping[str, Any],
    what: str,
    group: Mapping[str, Any],
    problems: list[str],
) -> tuple[int, dict[str, Array]]:
    """A tensor's step count and state from PyTorch's entry; what does not fit is added to `problems`."""
    names, carried = optimizer.torch_names or {}, _carried(optimizer)
    slots = {slot: array for slot, array in optimizer.state[name].items() if slot in names}
    wanted = {names[slot]: slot for slot in (*slots, *carried)}
    present = {key: value for key, value in entry.items() if value is not None}
    counted = "step" in names
    missing = [key for key in (*wanted, *(["step"] if counted else [])) if key not in present]
    unknown = [key for key in present if key not in {*wanted, "step", *optimizer.torch_scalars}]
    if unknown or (present and missing and counted):
        problems.append(f"{what}: missing {missing if counted else []}, extra {unknown}")
        return 0, {}
    step = _step(present["step"], f"{what}['step']", problems) if present and counted else int(bool(present))
    row = {}
    for key, slot in wanted.items():
        if slot in carried:
            row[slot] = np.array(float(present[key]) if key in present else carried[slot])
        elif key in present:
            row |= _parts(
                slot, slots[slot], _array(present[key], _plain_like(slots[slot]), f"{what}[{key!r}]", problems)
            )
        else:
            row |= _parts(slot, slots[slot], _fresh(optimizer, name, slot, group))
    return step, row | _copies(optimizer, name)


def _plain_like(x: Array | QuantizedArray) -> Array:
    """An array of its shape, float32 if it has codes."""
    return np.zeros(x.shape, np.float32) if isinstance(x, QuantizedArray) else x


def _parts(slot: str, like: Array | QuantizedArray, x: Array) -> dict[str, Array]:
    """What is saved of a state array: itself, or its codes and scales."""
    return quantized(x, like.scheme, slot) if isinstance(like, QuantizedArray) else {slot: x}


def _copies(optimizer: Optimizer, name: str) -> dict[str, Array]:
    """What PyTorch has not: averages stay, other copies follow the parameter."""
    copies = {}
    for slot, array in optimizer.state[name].items():
        if slot not in (optimizer.torch_names or {}):
            copies[slot] = array.copy() if slot == "ema" else optimizer.params[name].astype(array.dtype)
    return copies


def _step(value: Any, what: str, problems: list[str]) -> int:
    count = float(value)
    if not (count >= 0.0 and count.is_integer()):
        problems.append(f"{what} must be an integer of at least 0, got {count!r}")
        return 0
    return int(count)


def _array(tensor: Any, like: Array, what: str, problems: list[str]) -> Array:
    if not hasattr(tensor, "detach"):
        problems.append(f"{what} must be a tensor, got {type(tensor).__name__}")
        return like
    if tuple(tensor.shape) != like.shape:
        problems.append(f"{what} must have shape {like.shape}, got {tuple(tensor.shape)}")
        return like
    if not tensor.is_floating_point():
        problems.append(f"{what} must be floating-point, got {tensor.dtype}")
        return like
    plain = tensor.detach().cpu()
    wide = plain if "64" in str(plain.dtype) else plain.float()
    with np.errstate(over="ignore"):
        result: Array = wide.numpy().astype(like.dtype)
    return result


def _fresh(optimizer: Optimizer, name: str, slot: str, group: Mapping[str, Any]) -> Array:
    """A state array as it is before the first update."""
    array: Array = np.zeros_like(_plain_like(optimizer.state[name][slot]), order="C")
    initial = getattr(optimizer, "_initial", None)
    value = None if initial is None else initial(slot, optimizer.params[name], group)
    if value is not None:
        array[...] = value
    return array


def _names(optimizer: Optimizer, model: Any) -> list[list[str]]:
    """For each group its parameters' names in the model's order, which is that of PyTorch's indices."""
    owner = optimizer._owner
    if not hasattr(model, "named_parameters"):
        raise TypeError(f"{owner}: model must have named_parameters(), got {type(model).__name__}")
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    if not all(name in shapes for name in optimizer.params):
        shapes = {str(i): shape for i, shape in enumerate(shapes.values())}
    extra = [name for name in optimizer.params if name not in shapes]
    if extra:
        rule = "names of params must be the model's, or positions among its parameters"
        raise ValueError(f"{owner}: {rule}, got {extra}")
    wrong = [
        f"params[{name!r}] must have the model's shape {shapes[name]}, got {param.shape}"
        for name, param in optimizer.params.items()
        if shapes[name] != param.shape
    ]
    if wrong:
        raise ValueError(f"{owner}: {'; '.join(wrong)}")
    return [[name for name in shapes if name in group.names] for group in optimizer.groups]


def _defaults(optimizer: Optimizer) -> dict[str, Any]:
    """The hyperparameters that PyTorch's class of that name has, with its defaults."""
    owner = optimizer._owner
    if optimizer.torch_names is None:
        raise ValueError(f"{owner}: optimizer must be one that PyTorch has, got {optimizer.name!r}")
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"{owner} needs PyTorch for its state dictionaries: pip install torch") from error
    cls = next(
        cls for cls in type(optimizer).__mro__ if cls.__module__.startswith("stepsmith.") and "name" in vars(cls)
    )
    group = getattr(torch.optim, cls.__name__)([torch.zeros(1, 1)]).param_groups[0]
    return {key: value for key, value in group.items() if key != "params"}


def _own(optimizer: Optimizer, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters that PyTorch lacks, with our defaults, which must hold then."""
    parameters = signature(type(optimizer)).parameters
    return {key: parameters[key].default for key in optimizer.checks if key not in defaults}


def _carried(optimizer: Optimizer) -> Mapping[str, float]:
    """Scalars that a tensor carries from update to update, with their first values."""
    carried: Mapping[str, float] = getattr(optimizer, "carried", {})
    return carried


def _now(value: Any, updates: int) -> Any:
    """A hyperparameter of a state dictionary as a plain value, a schedule's at that update."""
    if isinstance(value, Mapping):
        return from_dict(value)(updates)
    return tuple(_now(entry, updates) for entry in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """A hyperparameter of PyTorch without tensors."""
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return value.item() if hasattr(value, "item") else value
