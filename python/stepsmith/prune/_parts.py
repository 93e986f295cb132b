"""How a layer takes part when a model shrinks: it makes units, lets each through alone, or needs them all."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stepsmith.nn.activation import _Activation
from stepsmith.nn.base import Module
from stepsmith.nn.batch_norm import BatchNorm
from stepsmith.nn.buffer import Buffer
from stepsmith.nn.dropout import Dropout
from stepsmith.nn.linear import Linear

__all__ = ["Each", "Weighted", "part_of"]

Array = NDArray[Any]
Kind = TypeVar("Kind", bound=Module)


class Each:
    """A layer that treats each unit alone, and all alike.

    Args:
        layer: Whatever it is.
    """

    def __init__(self, layer: Module) -> None:
        self.layer = layer

    def constants(self, values: Array) -> Array:
        """What becomes of units that are constant, in evaluation; NaN where the output is none."""
        return values

    def kept(self, units: NDArray[np.bool_]) -> Module:
        """A copy of the layer for those units alone."""
        return copy.deepcopy(self.layer)


class Elementwise(Each):
    """One that applies a function to each element."""

    def constants(self, values: Array) -> Array:
        """The function's values."""
        return np.array(_twin(self.layer).forward(values[None])[0])


class BatchNormed(Each):
    """A batch norm, which has numbers for each unit."""

    layer: BatchNorm

    def constants(self, values: Array) -> Array:
        """Of two rows alike, for a norm without running statistics; so many features may share a unit."""
        layer = _twin(self.layer)
        layer.axis = 1
        return np.array(layer.forward(np.tile(_spread(values, layer.features), (2, 1)))[0])

    def kept(self, units: NDArray[np.bool_]) -> Module:
        """Another batch norm with what belongs to the units."""
        old, units = self.layer, _spread(units, self.layer.features)
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


@dataclass
class Weighted:
    """A layer whose weight has outputs and inputs as its first two axes.

    Attributes:
        layer: With `params` "weight" and perhaps "bias".
        weight: A copy, in which what is removed becomes 0.
        bias: In float64, to which constants are added; zeros if there was none.
        needs_bias: Whether there must be one.
        outputs: Which units stay.
        inputs: Which units of the layer before stay.
        folds: Whether any constant input is a constant share of the output.
    """

    layer: Module
    folds: bool = True

    def __post_init__(self) -> None:
        params = self.layer.params
        self.weight = params["weight"].copy()
        outputs, inputs = self.weight.shape[:2]
        self.needs_bias = "bias" in params
        self.bias = params["bias"].astype(np.float64) if self.needs_bias else np.zeros(outputs)
        self.outputs, self.inputs = np.ones(outputs, np.bool_), np.ones(inputs, np.bool_)

    def silent(self) -> NDArray[np.bool_]:
        """Units without an input."""
        return np.asarray(~self.weight.reshape(len(self.weight), -1).any(axis=1))

    def unheard(self, units: int) -> NDArray[np.bool_]:
        """Which of so many units of the layer before nothing here listens to; each has as many inputs."""
        return np.asarray(~np.moveaxis(self.weight, 1, 0).reshape(units, -1).any(axis=1))

    def drop_outputs(self, units: NDArray[np.bool_]) -> None:
        """Take away units of this layer."""
        self.outputs &= ~units
        self.weight[units] = 0

    def drop_inputs(self, units: NDArray[np.bool_], constants: Array) -> None:
        """Take away units of the layer before, whose outputs are these constants."""
        inputs = _spread(units, self.inputs.size)
        values = _spread(constants, self.inputs.size)[inputs].astype(np.float64)
        weight = self.weight[:, inputs].astype(np.float64)
        shift = weight.sum(axis=tuple(range(2, weight.ndim))) @ values
        self.bias += shift
        self.needs_bias = self.needs_bias or bool(shift.any())
        self.inputs &= ~inputs
        self.weight[:, inputs] = 0

    def made(self) -> Module:
        """The smaller layer."""
        weight = self.weight[self.outputs][:, self.inputs]
        new = _like(self.layer, len(weight), weight.shape[1], self.needs_bias)
        new.params["weight"][...] = weight
        if self.needs_bias:
            new.params["bias"][...] = self.bias[self.outputs]
        return new


def _twin(layer: Kind) -> Kind:
    """A layer of the same arrays whose passes leave the other one's last pass alone."""
    twin = copy.copy(layer)
    twin.__dict__ |= {name: Buffer() for name, value in vars(layer).items() if isinstance(value, Buffer)}
    return twin


def _spread(values: Array, size: int) -> Array:
    """Numbers of units for that many features, which a flattening made of them in order."""
    return np.repeat(values, size // values.size)


@singledispatch
def part_of(_layer: Module) -> Each | Weighted | None:
    """The part that a layer takes; None for one that mixes units in ways that are not known here.

    A class takes part by ``part_of.register``.
    """
    return None


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
    return Weighted(layer) if type(layer) is Linear else None


@singledispatch
def _like(layer: Module, outputs: int, inputs: int, bias: bool) -> Module:
    """A layer of the same kind and other lengths, whose parameters are about to be written."""
    raise NotImplementedError(type(layer).__name__)


@_like.register
def _(layer: Linear, outputs: int, inputs: int, bias: bool) -> Module:
    # A seed, so that a later draw does not overwrite the weight.
    return Linear(inputs, outputs, bias, rng=0, dtype=layer.dtype)
