"""The parts of the layers that there are: a layer joins by ``part_of.register``, one with a weight by ``like`` too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith.nn.activation import _Activation
from stepsmith.nn.base import Module
from stepsmith.nn.batch_norm import BatchNorm
from stepsmith.nn.dropout import Dropout
from stepsmith.nn.linear import Linear
from stepsmith.prune._parts import Each, Weighted, like, part_of, spread, twin

__all__ = ["part_of"]

Array = NDArray[Any]


class Elementwise(Each):
    """One that applies a function to each element."""

    def constants(self, values: Array) -> Array:
        """The function's values."""
        return np.array(twin(self.layer).forward(values[None])[0])


class BatchNormed(Each):
    """A batch norm, which has numbers for each unit."""

    layer: BatchNorm

    def constants(self, values: Array) -> Array:
        """Of two rows alike, for a norm without running statistics; so many features may share a unit."""
        layer = twin(self.layer)
        layer.axis = 1
        return np.array(layer.forward(np.tile(spread(values, layer.features), (2, 1)))[0])

    def kept(self, units: NDArray[np.bool_]) -> Module:
        """Another batch norm with what belongs to the units."""
        old, units = self.layer, spread(units, self.layer.features)
        new = BatchNorm(
            int(units.sum()),
            old.eps,
            old.momentum,
            affine=bool(old.params),
            track_running_stats=bool(old.state),
            axis=old.axis,
            dtype=old.dtype,
        )
        for target, source in ((new.params, old.params), (new.state, old.state)):
            for name, array in target.items():
                array[...] = source[name][units] if array.ndim else source[name]
        return new


@part_of.register(_Activation)
def _(layer: Module) -> Each:
    return Elementwise(layer)


@part_of.register
def _(layer: Dropout) -> Each:
    return Each(layer)


@part_of.register
def _(layer: BatchNorm) -> Each:
    return BatchNormed(layer)


@part_of.register
def _(layer: Linear) -> Weighted | None:
    # A class below it may do more than its weight says.
    return Weighted(layer) if type(layer) is Linear else None


@like.register
def _(layer: Linear, outputs: int, inputs: int, bias: bool) -> Module:
    # A seed, so that a later draw does not overwrite the weight.
    return Linear(inputs, outputs, bias, rng=0, dtype=layer.dtype)
