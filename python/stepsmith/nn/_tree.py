"""Models as trees: the same model with other layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stepsmith.nn.base import Module
from stepsmith.nn.container import Sequential

__all__ = ["leaves", "mapped"]


def leaves(module: Module, prefix: str = "") -> Iterator[tuple[str, Module]]:
    """The layers in the order in which they run, by names such as "0.2"; only a `Sequential` is taken apart."""
    if not isinstance(module, Sequential):
        yield prefix.removesuffix("."), module
        return
    for index, part in enumerate(module.modules):
        yield from leaves(part, f"{prefix}{index}.")


def mapped(module: Module, make: Callable[[str, Module], Module], prefix: str = "") -> Module:
    """The same tree with other layers, each made of its name, as `leaves` has it, and the layer that was there."""
    if not isinstance(module, Sequential):
        return make(prefix.removesuffix("."), module)
    parts = (mapped(part, make, f"{prefix}{index}.") for index, part in enumerate(module.modules))
    return type(module)(*parts, seed=module.seed)
