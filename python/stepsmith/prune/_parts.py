"""How a layer takes part when a model shrinks: it makes units, lets each through alone, or needs them all."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stepsmith.nn.base import Module
from stepsmith.nn.buffer import Buffer

__all__ = ["Each", "Weighted", "like", "part_of", "spread", "twin"]

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

    def fits(self, planes: bool) -> bool:
        """Does it treat each unit alone where units are axis 1 of planes, or the last axis?"""
        return True


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
        inputs = spread(units, self.inputs.size)
        values = spread(constants, self.inputs.size)[inputs].astype(np.float64)
        weight = self.weight[:, inputs].astype(np.float64)
        shift = weight.sum(axis=tuple(range(2, weight.ndim))) @ values
        self.bias += shift
        self.needs_bias = self.needs_bias or bool(shift.any())
        self.inputs &= ~inputs
        self.weight[:, inputs] = 0

    def made(self) -> Module:
        """The smaller layer."""
        weight = self.weight[self.outputs][:, self.inputs]
        new = like(self.layer, len(weight), weight.shape[1], self.needs_bias)
        new.params["weight"][...] = weight
        if self.needs_bias:
            new.params["bias"][...] = self.bias[self.outputs]
        return new


def twin(layer: Kind) -> Kind:
    """A layer of the same arrays whose passes leave the other one's last pass alone."""
    twin = copy.copy(layer)
    twin.__dict__ |= {name: Buffer() for name, value in vars(layer).items() if isinstance(value, Buffer)}
    return twin


def spread(values: Array, size: int) -> Array:
    """Numbers of units for that many features, which a flattening made of them in order."""
    return np.repeat(values, size // values.size)


@singledispatch
def part_of(_layer: Module) -> Each | Weighted | None:
    """The part that a layer takes; None for one that mixes units in ways that are not known here.

    A class takes part by ``part_of.register``.
    """
    return None


@singledispatch
def like(layer: Module, outputs: int, inputs: int, bias: bool) -> Module:
    """A layer of the same kind and other lengths, whose parameters are about to be written."""
    raise NotImplementedError(type(layer).__name__)
