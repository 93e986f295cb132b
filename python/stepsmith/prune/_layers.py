"""The parts of the layers that there are: a layer joins by ``part_of.register``, one with a weight by ``like`` too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith.nn.activation import _Activation
from stepsmith.nn.base import Module
from stepsmith.nn.batch_norm import BatchNorm
from stepsmith.nn.conv import Conv2d
from stepsmith.nn.dropout import Dropout
from stepsmith.nn.linear import Linear
from stepsmith.nn.pool import AvgPool2d, Flatten, MaxPool2d
from stepsmith.prune._parts import Each, Weighted, like, part_of, spread, twin

__all__ = ["Flattened"]

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

    def fits(self, planes: bool) -> bool:
        """Its channels must be the units."""
        return self.layer.axis in ((1, -3) if planes else (1, -1))


class Averaged(Each):
    """Means of windows."""

    layer: AvgPool2d

    def constants(self, values: Array) -> Array:
        """Themselves, unless zeros of the padding count."""
        padded = self.layer.count_include_pad and self.layer.windows.padding != (0, 0)
        return np.where(values == 0, values, np.nan) if padded else values


class Largest(Each):
    """Maxima of windows."""

    layer: MaxPool2d

    def constants(self, values: Array) -> Array:
        """Themselves, unless a window may lie in the padding alone."""
        windows = self.layer.windows
        outside = windows.padding != (0, 0) and windows.dilation != (1, 1)
        return np.full_like(values, np.nan) if outside else values


class Flattened(Each):
    """Planes that become features, those of a channel one after another."""


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
def _(layer: AvgPool2d) -> Each:
    return Averaged(layer)


@part_of.register
def _(layer: MaxPool2d) -> Each:
    return Largest(layer)


@part_of.register
def _(layer: Flatten) -> Each | None:
    return Flattened(layer) if layer.start_axis == 1 else None


# A class below one of these may do more than its weight says.


@part_of.register
def _(layer: Linear) -> Weighted | None:
    return Weighted(layer) if type(layer) is Linear else None


@part_of.register
def _(layer: Conv2d) -> Weighted | None:
    # Groups tie channels together; around a constant the zeros of the padding show.
    alone = type(layer) is Conv2d and layer.groups == 1
    return Weighted(layer, folds=layer.windows.padding == (0, 0)) if alone else None


# A seed, so that a later draw does not overwrite the weight.


@like.register
def _(layer: Linear, outputs: int, inputs: int, bias: bool) -> Module:
    return Linear(inputs, outputs, bias, rng=0, dtype=layer.dtype)


@like.register
def _(layer: Conv2d, outputs: int, inputs: int, bias: bool) -> Module:
    windows = layer.windows
    shape = windows.kernel, windows.stride, windows.padding, windows.dilation
    return Conv2d(inputs, outputs, *shape, bias=bias, rng=0, dtype=layer.dtype)
