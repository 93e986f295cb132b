"""Rows of a table for numbers and for positions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith import init as initializers
from stepsmith._backend import core_of, is_on_gpu, namespace, require_same_kind
from stepsmith.nn.base import check_gradient
from stepsmith.nn.buffer import Array, Buffer
from stepsmith.nn.drawn import Drawn

__all__ = ["Embedding", "PositionalEmbedding"]


class Embedding(Drawn):
    """y = weight[x] for integers x of any shape; as ``torch.nn.Embedding``.

    dweight[j] = the sum of dy over the places where x is j, added in the order of the places; a dense array. Integers
    have no gradient: `backward` returns None.

    Args:
        count: Number of rows; x is in [0, count).
        features: Length of a row.
        padding_index: Row that starts at zero and gets no gradient; a negative one counts from the end.
        init: Initializer of the weight, of `stepsmith.init` or alike.
        rng: Generator or seed to draw the weight from at once; None leaves the draw to the model (see `Module`).
        dtype: float32 or float64, of the weight and the output.

    Raises:
        ValueError: A length below 1, a padding index out of range, an x out of range, by value.
        TypeError: Another dtype, an x that is no integer array.

    Example:
        >>> layer = Embedding(5, 3, padding_index=0, rng=0)
        >>> y = layer(np.array([[0, 4], [1, 0]]))
        >>> y.shape, float(abs(y[0, 0]).sum())
        ((2, 2, 3), 0.0)
    """

    def __init__(
        self,
        count: int,
        features: int,
        padding_index: int | None = None,
        *,
        init: Callable[..., Array] = initializers.normal,
        rng: int | np.random.Generator | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.count = _check.integer("Embedding", "count", count, low=1)
        self.features = _check.integer("Embedding", "features", features, low=1)
        if padding_index is not None:
            padding_index = (
                _check.integer("Embedding", "padding_index", padding_index, low=-count, high=count - 1) % count
            )
        self.padding_index, self._init = padding_index, init
        self._allocate({"weight": (self.count, self.features)}, dtype)
        self._indices, self._places, self._y = Buffer(), Buffer(), Buffer()
        self._start(rng)

    def _first(self, rng: np.random.Generator) -> dict[str, Array]:
        weight = self._init((self.count, self.features), rng, dtype=self.dtype)
        if self.padding_index is not None:
            weight = np.array(weight)
            weight[self.padding_index] = 0.0
        return {"weight": weight}

    def forward(self, x: Array, training: bool = False) -> Array:
        """The rows, (..., features); keeps a copy of `x`."""
        require_same_kind("Embedding", "input", x, self.params["weight"])
        if x.dtype.kind not in "iu":
            raise TypeError(f"Embedding: input must be integers, got {x.dtype}")
        self._check_range(x)
        self._shape = x.shape
        indices = self._indices.get(x.shape, np.dtype(np.intp), x)
        namespace(x).copyto(indices, x, casting="unsafe")
        y = self._y.get((*x.shape, self.features), self.dtype, x)
        if is_on_gpu(x):
            return self.params["weight"].take(indices, 0, y)
        # Checked already: "clip" takes without a copy of the output, which "raise" makes.
        return np.take(self.params["weight"], indices, axis=0, out=y, mode="clip")

    def _check_range(self, x: Array) -> None:
        # On a GPU both wait in the queue before the first one is waited for.
        for extreme in map(int, (x.min(), x.max()) if x.size else ()):
            if not 0 <= extreme < self.count:
                raise ValueError(f"Embedding: input must be in [0, {self.count}), got {extreme}")

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Write dweight; integers have no gradient."""
        dweight = self.grads["weight"]
        check_gradient("Embedding", dy, (*self._shape, self.features), self.dtype, dweight)
        indices = self._indices.get(self._shape, np.dtype(np.intp), dy)
        if is_on_gpu(dy):
            core_of(dy).sum_rows(dweight, dy.reshape(-1, self.features), indices.reshape(-1))
        else:
            self._sum_rows(dweight, dy, indices)
        if self.padding_index is not None:
            dweight[self.padding_index] = 0.0
        return None

    def _sum_rows(self, dweight: Array, dy: Array, indices: Array) -> None:
        places = self._places.get((*self._shape, self.features), np.dtype(np.intp), dy)
        np.multiply(indices[..., None], self.features, out=places)
        np.add(places, np.arange(self.features), out=places)
        dweight[...] = 0.0
        # Of one axis `add.at` runs eight times as fast as of rows.
        np.add.at(dweight.reshape(-1), places.reshape(-1), dy.reshape(-1))


class PositionalEmbedding(Drawn):
    """y = x + weight[:time]: a learned row for each position of a sequence is added to it.

    As a ``torch.nn.Embedding`` of the positions, for inputs (samples, time, features) with time at most `length`.
    dweight is the sum of dy over the samples, zero for positions that do not occur; dx = dy.

    Args:
        length: Number of positions.
        features: Length of a row.
        init: Initializer of the weight, of `stepsmith.init` or alike.
        rng: Generator or seed to draw the weight from at once; None leaves the draw to the model (see `Module`).
        dtype: float32 or float64, of weight, inputs and outputs.

    Raises:
        ValueError: A length below 1, a longer sequence.
        TypeError: Another dtype.

    Example:
        >>> layer = PositionalEmbedding(5, 3, rng=0)
        >>> y = layer(np.zeros((2, 4, 3), np.float32))
        >>> bool((y[1] == layer.params["weight"][:4]).all())
        True
    """

    def __init__(
        self,
        length: int,
        features: int,
        *,
        init: Callable[..., Array] = initializers.normal,
        rng: int | np.random.Generator | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.length = _check.integer("PositionalEmbedding", "length", length, low=1)
        self.features = _check.integer("PositionalEmbedding", "features", features, low=1)
        self._init, self._y = init, Buffer()
        self._allocate({"weight": (self.length, self.features)}, dtype)
        self._start(rng)

    def _first(self, rng: np.random.Generator) -> dict[str, Array]:
        return {"weight": self._init((self.length, self.features), rng, dtype=self.dtype)}

    def forward(self, x: Array, training: bool = False) -> Array:
        """`x` with the positions' rows added."""
        self._check_sequences(x, self.features)
        self._shape, steps = x.shape, x.shape[1]
        if steps > self.length:
            raise ValueError(f"PositionalEmbedding: time must be at most {self.length}, got {steps}")
        y = self._y.get(x.shape, self.dtype, x)
        namespace(x).add(x, self.params["weight"][:steps], out=y)
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Write dweight; return `dy` itself."""
        dweight, steps = self.grads["weight"], self._shape[1]
        check_gradient("PositionalEmbedding", dy, self._shape, self.dtype, dweight)
        namespace(dy).add.reduce(dy, axis=0, out=dweight[:steps])
        dweight[steps:] = 0.0
        return dy if input_grad else None
