"""Modules and losses from one device to another: all arrays that they keep, wherever those are kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np

from stepsmith._backend import as_device, is_on_gpu, moved
from stepsmith.nn.buffer import Buffer
from stepsmith.quant.array import QuantizedArray

__all__ = ["Movable"]


class Movable:
    """What keeps arrays as its attributes, also in lists, tuples, dicts and dataclasses, and in others of its kind.

    Attributes that are the same array stay one. Nothing is to be said of an attribute for it to move.
    """

    def _move(self, device: str) -> Callable[[], None]:
        """Moves all of them; returns what undoes it."""
        return _Move(as_device(f"{type(self).__name__}.to", device)).all_of(self)


class _Move:
    """One move: everything is copied before anything is changed, so that a lack of memory changes nothing."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._found: dict[int, tuple[Any, Any]] = {}
        """By identity what there was, which lives as long as this, and what it becomes."""
        self._emptied: list[Buffer] = []
        self._owners: list[Movable] = []

    def all_of(self, root: Movable) -> Callable[[], None]:
        """Move what the root reaches; returns what undoes it."""
        self._there(root)
        before = [(owner, dict(vars(owner))) for owner in self._owners]
        for owner, kept in before:
            vars(owner).update({name: self._there(value) for name, value in kept.items()})
        for buffer in self._emptied:
            buffer.clear()
        return partial(_put_back, before)

    def _there(self, value: Any) -> Any:
        """What a value becomes; itself if it has no arrays."""
        found = self._found.get(id(value))
        if found is None:
            # A module may lead back to itself: it is known before what it keeps.
            self._found[id(value)] = value, value
            found = self._found[id(value)] = value, self._made(value)
        return found[1]

    def _made(self, value: Any) -> Any:
        if isinstance(value, np.ndarray) or is_on_gpu(value):
            return moved(value, self._device)
        if isinstance(value, Buffer):
            self._emptied.append(value)
        elif isinstance(value, QuantizedArray):
            return self._quantized(value)
        elif isinstance(value, Movable):
            self._owners.append(value)
            # Those with parts first, which a layer may keep by themselves too.
            for kept in sorted(vars(value).values(), key=lambda kept: not isinstance(kept, QuantizedArray)):
                self._there(kept)
        elif isinstance(value, dict | list | tuple) or _is_record(value):
            return self._rebuilt(value)
        return value

    def _quantized(self, value: QuantizedArray) -> QuantizedArray:
        """Its parts are of another dtype where CuPy has not theirs."""
        twin = value.to(self._device)
        self._found |= {id(part): (part, twin.parts[name]) for name, part in value.parts.items()}
        return twin

    def _rebuilt(self, value: Any) -> Any:
        """A container with what its entries become; itself if none of them changes."""
        before = _entries(value)
        after = {key: self._there(entry) for key, entry in before.items()}
        if all(after[key] is entry for key, entry in before.items()):
            return value
        if isinstance(value, list | tuple):
            return value._make(after.values()) if hasattr(value, "_make") else type(value)(after.values())
        twin = copy.copy(value)
        for key, entry in after.items():
            if isinstance(value, dict):
                twin[key] = entry
            else:
                object.__setattr__(twin, key, entry)
        return twin


def _put_back(before: list[tuple[Movable, dict[str, Any]]]) -> None:
    for owner, kept in before:
        vars(owner).update(kept)


def _is_record(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def _entries(value: Any) -> dict[Any, Any]:
    """What a container holds."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    return {field.name: getattr(value, field.name) for field in fields(value) if hasattr(value, field.name)}
