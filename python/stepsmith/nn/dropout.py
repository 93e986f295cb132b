"""Dropout from a counter, so that a mask depends on where it stands and on nothing that ran before."""

from __future__ import annotations

import math

import numpy as np

from stepsmith import _check, random
from stepsmith._backend import namespace, require_same_kind
from stepsmith.nn.base import Module
from stepsmith.nn.buffer import Array, Buffer

__all__ = ["Dropout", "SequenceDropout"]


class Dropout(Module):
    """y = x / (1 - p) where a uniform draw is at least p, else 0; the identity outside training (Srivastava 2014).

    The draws are Philox4x32-10 keyed by the model's `Counter` (seed, step) with the layer's depth-first index as
    the stream; element = (position of the sample in the global batch)·features + feature. So neither micro-batches nor
    ranks change a mask, and a resumed run draws the same ones.

    Args:
        p: Chance that an element is dropped, in [0, 1); one stays where its uniform number is at least p, rounded to
            float32.

    Attributes:
        always: Whether it drops outside training too, as `ensemble.mc_dropout` wants.

    Raises:
        TypeError: `p` is not a number.
        ValueError: `p` outside [0, 1).

    Example:
        >>> layer = Dropout(0.5)
        >>> y = layer(np.ones((100, 10), np.float32), training=True)
        >>> sorted(set(y.ravel().tolist())), bool((layer(y) == y).all())
        ([0.0, 2.0], True)
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = _check.number(type(self).__name__, "p", p, low=0.0, high=1.0, open_high=True)
        self._uniform, self._kept, self._factor = Buffer(), Buffer(), Buffer()
        self._y, self._dx = Buffer(), Buffer()
        self.always = self._active = False

    def forward(self, x: Array, training: bool = False) -> Array:
        """`x` under the counter's mask in training or where `always` is set, else `x` itself."""
        self._active = (training or self.always) and self.p > 0.0
        if not self._active:
            return x
        y = self._y.get(x.shape, x.dtype, x)
        namespace(x).multiply(x, self._mask(x), out=y)
        return y

    def backward(self, dy: Array, input_grad: bool = True) -> Array | None:
        """`dy` under the last mask, which was none outside training."""
        if not input_grad or not self._active:
            return dy if input_grad else None
        require_same_kind(type(self).__name__, "dy", dy, self._last_mask, "the last input")
        dx = self._dx.get(dy.shape, dy.dtype, dy)
        namespace(dy).multiply(dy, self._last_mask, out=dx)
        return dx

    def _mask(self, x: Array) -> Array:
        """1 / (1 - p) where the element is kept, 0 where it is dropped."""
        counter, shape, xp = self.counter, self._mask_shape(x), namespace(x)
        start = counter.sample * math.prod(shape[1:])
        out = self._uniform.get(shape, np.dtype(np.float32), x)
        random.uniform(shape, seed=counter.seed, step=counter.step, stream=self.index, start=start, out=out)
        kept = xp.greater_equal(out, self.p, out=self._kept.get(shape, np.dtype(np.bool_), x))
        factor = self._factor.get(shape, x.dtype, x)
        xp.multiply(kept, factor.dtype.type(1.0 / (1.0 - self.p)), out=factor)
        self._last_mask = factor
        return factor

    def _mask_shape(self, x: Array) -> tuple[int, ...]:
        return x.shape


class SequenceDropout(Dropout):
    """`Dropout` with one mask for all steps of a sequence (Gal and Ghahramani 2016), "variational" there.

    For inputs (samples, time, ...). Draws as those of `Dropout`, but element = (position of the sample in the global
    batch)·features + feature: a mask depends on neither the step nor the length.

    Args:
        p: Chance that a feature is dropped, in [0, 1).

    Raises:
        TypeError: `p` is not a number.
        ValueError: `p` outside [0, 1), an input without a time axis.

    Example:
        >>> y = SequenceDropout(0.5)(np.ones((10, 7, 3), np.float32), training=True)
        >>> bool((y == y[:, :1]).all()), sorted(set(y.ravel().tolist()))
        (True, [0.0, 2.0])
    """

    def forward(self, x: Array, training: bool = False) -> Array:
        """`x` under a mask of each sample in training, else `x` itself."""
        if x.ndim < 3:
            raise ValueError(f"SequenceDropout: input must have shape (samples, time, features), got {x.shape}")
        return super().forward(x, training)

    def _mask_shape(self, x: Array) -> tuple[int, ...]:
        return x.shape[0], 1, *x.shape[2:]
