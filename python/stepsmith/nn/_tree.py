"""Models as trees: the same model with other layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stepsmith.nn.base import Module
from stepsmith.nn.container import Sequential

__all__ = ["leaves", "mapped"]


def leaves(module: Module, prefix: str = "") -> Iterator[tuple[str, Module]]:
    """The layers in the order in which they run, by names such as "0.2".

    A `Sequential` is taken apart, but no subclass that does something else with its layers, such as `Residual`.
    """
    if not isinstance(module, Sequential) or type(module).forward is not Sequential.forward:
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
