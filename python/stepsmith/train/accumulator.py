"""The gradient of a large batch from those of its parts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stepsmith.nn.buffer import Buffer
from stepsmith.train.model import Array

__all__ = ["Accumulator"]


class Accumulator:
    """g = Σ wₖ·gₖ / Σ wₖ, where gₖ is the mean gradient of part k and wₖ what that mean divided by.

    Sums are float32 for 16-bit gradients, else of the gradients' dtype. Infinity and NaN travel.

    Attributes:
        arrays: Name to sum, and after `finish` to mean; the same arrays each time.

    Example:
        >>> total = Accumulator()
        >>> for weight, grad in ((3.0, 1.0), (1.0, 5.0)):
        ...     total.add({"w": np.array([grad])}, weight)
        >>> total.finish()
        >>> total.arrays
        {'w': array([2.])}
    """

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self._seen: set[str] = set()
        self._weight = 0.0
        self._scratch = Buffer()

    def add(self, grads: Mapping[str, Array | None], weight: float) -> None:
        """Add a part; one without weight adds nothing."""
        self._weight += weight
        if weight == 0.0:
            return
        with np.errstate(all="ignore"):
            for name, grad in grads.items():
                if grad is not None:
                    self._add(name, grad, weight)

    def _add(self, name: str, grad: Array, weight: float) -> None:
        total = self.arrays.get(name)
        if total is None:
            dtype = np.dtype(np.float32) if grad.dtype.itemsize == 2 else grad.dtype
            total = self.arrays[name] = np.zeros(grad.shape, dtype)
        factor = total.dtype.type(weight)
        if name not in self._seen:
            self._seen.add(name)
            np.multiply(grad, factor, out=total)
        else:
            np.add(total, np.multiply(grad, factor, out=self._scratch.get(grad.shape, total.dtype)), out=total)

    def finish(self) -> None:
        """Divide, and start afresh with the next part; a total weight of 0 gives zeros."""
        scale = 1.0 / self._weight if self._weight else 0.0
        for name, total in self.arrays.items():
            factor = scale if name in self._seen else 0.0
            np.multiply(total, total.dtype.type(factor), out=total)
        self._seen.clear()
        self._weight = 0.0
