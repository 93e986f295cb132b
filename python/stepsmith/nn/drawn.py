"""What layers share whose parameters are drawn at random."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from stepsmith import init as initializers
from stepsmith._backend import assign, require_same_kind
from stepsmith.nn.base import Module, float_dtype
from stepsmith.nn.buffer import Array

__all__ = ["Drawn", "Weighted"]

# Keeps the streams of parameters apart from other draws of the same seed: the purpose "initialization" of Philox.
_INITIALIZATION = 3


class Drawn(Module):
    """A layer that draws its parameters once, at its first use or at once from an `rng` of its own.

    Its constructor calls `_allocate`, and `_start` at its end; `_first` makes the parameters, which are zeros before.
    """

    def _allocate(self, shapes: Mapping[str, tuple[int, ...]], dtype: npt.DTypeLike) -> None:
        self._owner = type(self).__name__
        self.dtype = float_dtype(self._owner, dtype)
        self.params = {name: np.zeros(shape, self.dtype) for name, shape in shapes.items()}
        self.grads = {name: np.zeros(shape, self.dtype) for name, shape in shapes.items()}

    def _start(self, rng: int | np.random.Generator | None) -> None:
        self._drawn = rng is not None
        if rng is not None:
            self._fill(np.random.default_rng(rng))

    def _fill(self, rng: np.random.Generator) -> None:
        """Draw the parameters on the CPU, wherever they are: they have the same bits everywhere."""
        for name, first in self._first(rng).items():
            assign(self.params[name], first)

    @abstractmethod
    def _first(self, rng: np.random.Generator) -> Mapping[str, Array]:
        """What the parameters are at first, in arrays of NumPy; those without a name stay zeros."""

    def draw(self, seed: int) -> None:
        """Draw the parameters, unless `rng` or an earlier use has done so."""
        if not self._drawn:
            self._fill(initializers.generator(seed, _INITIALIZATION, self.index))
            self._drawn = True

    def _check_sequences(self, x: Array, features: int) -> None:
        """Raise unless `x` is a batch of sequences of that many features."""
        require_same_kind(self._owner, "input", x, next(iter(self.params.values())))
        if x.dtype != self.dtype:
            raise TypeError(f"{self._owner}: input must be {self.dtype} as the parameters, got {x.dtype}")
        if x.ndim != 3 or x.shape[1] == 0 or x.shape[2] != features:
            shape = f"(samples, time, {features}), time at least 1"
            raise ValueError(f"{self._owner}: input must have shape {shape}, got {x.shape}")


class Weighted(Drawn):
    """A layer with a weight that an initializer draws, its outputs along the first axis, and perhaps a bias, zeros."""

    def _weigh(self, weight: tuple[int, ...], bias: bool, init: Callable[..., Array], dtype: npt.DTypeLike) -> None:
        shapes: dict[str, tuple[int, ...]] = {"weight": weight}
        self._allocate(shapes | ({"bias": weight[:1]} if bias else {}), dtype)
        self._init = init
        # Plain attributes: the passes run too often to look them up by name.
        self._weight, self._dweight = self.params["weight"], self.grads["weight"]
        self._bias, self._dbias = self.params.get("bias"), self.grads.get("bias")

    @property
    def weight(self) -> Array:
        """The weight, drawn if it was not yet."""
        return self.parameters()["weight"]

    @property
    def bias(self) -> Array | None:
        """The bias, or None."""
        return self._bias

    def _first(self, rng: np.random.Generator) -> dict[str, Array]:
        return {"weight": self._init(self._weight.shape, rng, dtype=self.dtype)}
