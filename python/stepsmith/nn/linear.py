"""The fully connected layer."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith import init as initializers
from stepsmith._backend import namespace, require_same_kind
from stepsmith.nn.buffer import Array, Buffer
from stepsmith.nn.drawn import Weighted

__all__ = ["Linear", "rows"]


class Linear(Weighted):
    """y = x·weightᵀ + bias over the last axis; as ``torch.nn.Linear``.

    dx = dy·weight, dweight = dyᵀ·x, dbias = the sum of dy over all rows: the samples, and what other axes there are.

    Args:
        in_features: Length of an input row.
        out_features: Length of an output row.
        bias: Whether there is one; it starts at zero.
        init: Initializer of the weight, of `stepsmith.init` or alike.
        rng: Generator or seed to draw the weight from at once; None leaves the draw to the model (see `Module`).
        dtype: float32 or float64, of parameters, inputs and outputs.

    Attributes:
        weight: (out, in).
        bias: (out,) or None.

    Raises:
        ValueError: A length below 1.
        TypeError: Another dtype.

    Example:
        >>> layer = Linear(2, 3, rng=0)
        >>> layer(np.ones((5, 2), np.float32)).shape, sorted(layer.parameters())
        ((5, 3), ['bias', 'weight'])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        init: Callable[..., Array] = initializers.xavier_uniform,
        rng: int | np.random.Generator | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = (
            _check.integer("Linear", "in_features", in_features, low=1),
            _check.integer("Linear", "out_features", out_features, low=1),
        )
        self._weigh((self.out_features, self.in_features), bias, init, dtype)
        self._y, self._dx = Buffer(), Buffer()
        self._start(rng)

    def forward(self, x: Array, training: bool = False) -> Array:
        """x·weightᵀ + bias for `x` of shape (samples, ..., in); keeps `x` itself for `backward`, not a copy."""
        require_same_kind("Linear", "input", x, self._weight)
        if x.dtype != self.dtype:
            raise TypeError(f"Linear: input must be {self.dtype} as the parameters, got {x.dtype}")
        if x.ndim < 2 or x.shape[-1] != self.in_features:
            raise ValueError(f"Linear: input must have shape (samples, ..., {self.in_features}), got {x.shape}")
        self._x, xp = x, namespace(x)
        y = self._y.get((*x.shape[:-1], self.out_features), self.dtype, x)
        # One product of all rows: of more than two axes NumPy would make one for each sample.
        xp.matmul(rows(x), self._weight.T, out=rows(y))
        if self._bias is not None:
            xp.add(y, self._bias, out=y)
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """Write dweight and dbias; return dy·weight."""
        require_same_kind("Linear", "dy", dy, self._weight)
        dy, xp = rows(dy), namespace(dy)
        xp.matmul(dy.T, rows(self._x), out=self._dweight)
        if self._dbias is not None:
            xp.add.reduce(dy, axis=0, out=self._dbias)
        if not input_grad:
            return None
        dx = self._dx.get(self._x.shape, self.dtype, dy)
        xp.matmul(dy, self._weight, out=rows(dx))
        return dx

    def flops(self, x: tuple[int, ...], y: tuple[int, ...]) -> int:
        """2·in for each output."""
        return 2 * self.in_features * math.prod(y)


def rows(x: Array) -> Array:
    """All rows of the last axis under each other."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
