"""Models without their pruned units."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stepsmith._table import Table
from stepsmith.nn._tree import leaves, mapped
from stepsmith.nn.base import Module
from stepsmith.nn.mixed import MixedPrecision
from stepsmith.prune._layers import Flattened
from stepsmith.prune._parts import Each, Weighted, part_of

__all__ = ["Shrunk", "shrink"]

Array = NDArray[Any]


class Shrunk(NamedTuple):
    """A smaller model, and what is no longer in it."""

    model: Module
    """New, with arrays of its own."""
    removed: dict[str, tuple[int, ...]]
    """Name of a layer, such as "0" → which of its units are gone; layers that lost none are left out."""
    before: int
    """Parameters of the old model."""
    after: int
    """Parameters of the new one."""

    def __str__(self) -> str:
        table = Table(("layer", "units removed"), "<>")
        for name, units in self.removed.items():
            table.add(name, f"{len(units):,}")
        return f"{table}\n{self.before:,} parameters before, {self.after:,} after"


class _Pair(NamedTuple):
    """A layer that makes units, those that each passes alone, and the layer that takes them."""

    name: str
    maker: Weighted
    between: dict[str, Each]
    taker: Weighted | None
    """None where the units are the model's outputs."""
    blocker: tuple[str, Module] | None
    """A layer on the way that needs all units, if there is one."""


def shrink(model: Module) -> Shrunk:
    """Take pruned units out of a model: the same outputs in evaluation, of fewer parameters.

    A hidden unit (a neuron, or a channel) goes when all weights that lead to it are 0: its output is then a constant,
    which moves into the bias of the next layer, exact but for one rounding. It also goes when all weights that leave it
    are 0. What loses its last input or listener thereby goes too; a layer keeps at least one unit, and a model its
    inputs and outputs. Units are made and taken by `Linear` and `Conv2d`; activations, `Dropout`, `BatchNorm`, pools
    and `Flatten` may stand between. Where a constant needs a bias that a layer has not, it gets one; a constant that is
    not 0 before a padded `Conv2d`, in which the padding's zeros show, stays.

    Args:
        model: A layer, or a `Sequential` of layers. It stays as it is.

    Returns:
        The new model, the units that are gone, and how many parameters there were and are. An optimizer belongs to the
        new model's parameters; further training differs from that of the old model, in which pruned units stay.

    Raises:
        TypeError: Not a Module, or a `MixedPrecision`, whose model within is what can shrink.
        ValueError: A model on a GPU, or pruned units before a layer that needs them all, such as `LayerNorm`, whose
            statistics would change.

    Example:
        >>> model = ss.nn.Sequential(ss.nn.Linear(4, 3), ss.nn.ReLU(), ss.nn.Linear(3, 2))
        >>> model.parameters()["0.weight"][1] = 0
        >>> small = shrink(model)
        >>> small.removed, small.before, small.after
        ({'0': (1,)}, 23, 16)
    """
    if not isinstance(model, Module):
        raise TypeError(f"shrink: model must be a Module, got {type(model).__name__}")
    if isinstance(model, MixedPrecision):
        way = "write its parameters into its .model, as transfer.load_weights does, and shrink that"
        raise TypeError(f"shrink: model must be of float32 or float64, got a MixedPrecision: {way}")
    if model.device != "cpu":
        raise ValueError(f"shrink: model must be on the CPU, where it is taken apart, got one on {model.device}")
    before = _count(model)
    layers = dict(leaves(model))
    parts = {name: part_of(layer) for name, layer in layers.items()}
    pairs = [pair for name in layers if (pair := _pair(name, layers, parts))]
    while sum(_remove(pair) for pair in pairs):
        pass
    for pair in pairs:
        _refuse_blocked(pair)
    made = {name: part.made() for name, part in parts.items() if isinstance(part, Weighted)}
    for pair in pairs:
        made |= {name: part.kept(pair.maker.outputs) for name, part in pair.between.items()}
    small = mapped(model, lambda name, layer: made[name] if name in made else copy.deepcopy(layer))
    gone = {pair.name: np.flatnonzero(~pair.maker.outputs) for pair in pairs}
    removed = {name: tuple(units.tolist()) for name, units in gone.items() if units.size}
    return Shrunk(small, removed, before, _count(small))


def _count(model: Module) -> int:
    return sum(param.size for param in model.parameters().values())


def _pair(name: str, layers: dict[str, Module], parts: dict[str, Each | Weighted | None]) -> _Pair | None:
    """What follows a layer that makes units."""
    maker = parts[name]
    if not isinstance(maker, Weighted):
        return None
    names = list(layers)
    behind = names[names.index(name) + 1 :]
    between: dict[str, Each] = {}
    planes = maker.weight.ndim > 2
    for index, other in enumerate(behind):
        part = parts[other]
        if isinstance(part, Weighted):
            return _Pair(name, maker, between, part, None)
        if part is None or not part.fits(planes):
            is_output = not _weighs(layers[each] for each in behind[index:])
            return _Pair(name, maker, between, None, None if is_output else (other, layers[other]))
        between[other] = part
        planes = planes and not isinstance(part, Flattened)
    return _Pair(name, maker, between, None, None)


def _weighs(layers: Iterator[Module]) -> bool:
    """Is there a matrix among the parameters, so that what comes before are no outputs?"""
    inner = (part for layer in layers for _, part in layer.named_layers())
    return any(param.ndim > 1 for part in inner for param in part.params.values())


def _remove(pair: _Pair) -> bool:
    """Remove what can be removed between two layers; was there something?"""
    maker, taker = pair.maker, pair.taker
    if taker is None:
        return False
    units = maker.outputs.size
    constants = _constants(pair)
    foldable = (np.isfinite(constants) if taker.folds else constants == 0).reshape(units, -1).all(axis=1)
    gone = maker.outputs & (taker.unheard(units) | (maker.silent() & foldable))
    if gone.sum() == maker.outputs.sum():
        gone[np.flatnonzero(gone)[:1]] = False
    maker.drop_outputs(gone)
    taker.drop_inputs(gone, np.where(np.isfinite(constants), constants, 0))
    return bool(gone.any())


def _constants(pair: _Pair) -> Array:
    """What comes out of each unit if nothing but its bias goes in."""
    values = pair.maker.bias.astype(pair.maker.weight.dtype)
    for part in pair.between.values():
        values = part.constants(values)
    return values


def _refuse_blocked(pair: _Pair) -> None:
    silent = pair.maker.silent()
    if pair.blocker is not None and silent.any():
        name, layer = pair.blocker
        units = np.flatnonzero(silent).tolist()
        raise ValueError(
            f"shrink: layer '{name}' must treat each unit alone, got {type(layer).__name__} behind "
            f"pruned units {units} of layer '{pair.name}'"
        )
