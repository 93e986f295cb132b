"""The gradient of a large batch from those of its parts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stepsmith._backend import device_of, namespace
from stepsmith.nn.buffer import Buffer
from stepsmith.train.model import Array

__all__ = ["Accumulator"]


class Accumulator:
    """g = Σ wₖ·gₖ / Σ wₖ, where gₖ is the mean gradient of part k and wₖ what that mean divided by.

    Sums are float32 for 16-bit gradients, else of the gradients' dtype. Infinity and NaN travel.

    Example:
        >>> total = Accumulator()
        >>> for weight, grad in ((3.0, 1.0), (1.0, 5.0)):
        ...     total.add({"w": np.array([grad])}, weight)
        >>> total.finish()
        {'w': array([2.])}
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}
        self._seen: dict[str, bool] = {}
        self._weight = 0.0
        self._scratch = Buffer()

    def add(self, grads: Mapping[str, Array | None], weight: float) -> None:
        """Add a part; one without weight adds nothing."""
        self._weight += weight
        with np.errstate(all="ignore"):
            for name, grad in grads.items():
                self._seen.setdefault(name, False)
                if grad is not None and weight != 0.0:
                    self._add(name, grad, weight)

    def _add(self, name: str, grad: Array, weight: float) -> None:
        total, xp = self._arrays.get(name), namespace(grad)
        if total is None or device_of(total) != device_of(grad):
            dtype = np.dtype(np.float32) if grad.dtype.itemsize == 2 else grad.dtype
            total = self._arrays[name] = xp.zeros(grad.shape, dtype)
        factor = total.dtype.type(weight)
        if not self._seen[name]:
            self._seen[name] = True
            xp.multiply(grad, factor, out=total)
        else:
            xp.add(total, xp.multiply(grad, factor, out=self._scratch.get(grad.shape, total.dtype, grad)), out=total)

    def finish(self) -> dict[str, Array | None]:
        """The mean by name, None where no part had a gradient; the arrays hold until the next part is added."""
        scale = 1.0 / self._weight if self._weight else 0.0
        means: dict[str, Array | None] = {}
        for name, seen in self._seen.items():
            total = self._arrays[name] if seen else None
            means[name] = total
            if total is not None:
                namespace(total).multiply(total, total.dtype.type(scale), out=total)
        self._seen, self._weight = {}, 0.0
        return means
