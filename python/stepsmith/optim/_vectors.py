"""All parameters as one vector: lists of arrays shaped like them, and the arithmetic that the core does on those."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith import _core
from stepsmith._backend import address_of, assign, device_of, moved, one_core
from stepsmith.optim._arrays import Arrays
from stepsmith.optim._options import Options
from stepsmith.optim._slab import Spec, allocate

__all__ = ["Vector", "Vectors", "guard", "loss_of", "match", "pair_of"]

Array = NDArray[Any]
Vector = list[Array]
"""One array a parameter, of its shape and compute type."""


def guard(owner: str, params: Mapping[str, Array]) -> _core.Stepper:
    """Checks that the arrays can be written in place; what it returns lets one caller at a time in."""
    options, core = Options(owner), one_core(owner, params)
    rows = [Arrays(options, {name: param}, []).row(name, ()) for name, param in params.items()]
    stepper: _core.Stepper = core.Stepper(owner, "sgd", list(params), rows, options.settings(None))
    return stepper


class Vectors:
    """The space of these float32 and float64 arrays: each vector has an array for each of them.

    Inner products and norms are fixed-shape sums in float64, the arrays in order; multiples are rounded to each array's
    type.
    """

    def __init__(self, owner: str, params: Mapping[str, Array]) -> None:
        self._owner, self.params = owner, list(params.values())
        self._params = [f"params[{name!r}]" for name in params]
        self._grads = [f"grads[{name!r}]" for name in params]
        self._bound = [_fingerprint(array) for array in self.params]
        self._core = one_core(owner, params)

    def check(self) -> None:
        """Fails if a parameter is no longer the array in memory that it was."""
        for name, array, bound in zip(self._params, self.params, self._bound):
            now = _fingerprint(array)
            if now != bound:
                what = next(what for what, new, old in zip(_FIELDS, now, bound) if new != old)
                raise ValueError(f"{self._owner}: {name} must stay as it was bound, got another {what}")

    def restore(self, before: Vector) -> None:
        """Writes the parameters back, wherever they are still the arrays that they were."""
        for array, bound, old in zip(self.params, self._bound, before):
            if _fingerprint(array) == bound:
                assign(array, old)

    def zeros(self) -> Vector:
        """A new vector, each array laid out like its parameter."""
        return allocate([Spec(array.shape, array.dtype, array) for array in self.params], *self.params[:1])

    def copy(self, vector: Sequence[Array]) -> Vector:
        """A new vector with these elements."""
        return self.multiple(1.0, vector)

    def taken(self, arrays: Sequence[Array]) -> Vector:
        """A new vector of arrays that may be on another device."""
        return self.copy([moved(array, device_of(param)) for array, param in zip(arrays, self.params)])

    def multiple(self, factor: float, vector: Sequence[Array]) -> Vector:
        """The vector times the factor, as a new one."""
        out = self.zeros()
        self.assign(out, factor, vector)
        return out

    def gradient(self, grads: Sequence[Array | None]) -> Vector:
        """Gradients of any dtype and layout in the parameters' types, zeros where there is none."""
        out = self.zeros()
        present = [k for k, grad in enumerate(grads) if grad is not None]
        names = [self._grads[k] for k in present]
        self._core.assign(self._owner, names, [out[k] for k in present], 1.0, [grads[k] for k in present])
        return out

    def assign(self, out: Sequence[Array], factor: float, vector: Sequence[Array]) -> None:
        """Writes factor·vector to `out`."""
        self._core.assign(self._owner, self._params, out, factor, vector)

    def add(self, out: Sequence[Array], factor: float, vector: Sequence[Array]) -> None:
        """Adds factor·vector to `out`."""
        self._core.axpy(self._owner, self._params, out, factor, vector)

    def scale(self, out: Sequence[Array], factor: float) -> None:
        """Multiplies `out` by the factor."""
        self._core.scale(self._owner, self._params, out, factor)

    def dot(self, a: Sequence[Array], b: Sequence[Array]) -> float:
        """Σ a·b."""
        product: float = self._core.dot(self._owner, self._params, a, b)
        return product

    def norm(self, vector: Sequence[Array], kind: str) -> float:
        """Norm "sum_abs" or "max_abs"; the latter is NaN if an element is."""
        norm: float = self._core.reduce(self._owner, self._params, vector, kind)
        return norm

    def nonfinite(self, vector: Sequence[Array]) -> str | None:
        """The first gradient element that is NaN or infinite, in words."""
        for name, array in zip(self._grads, vector):
            there = moved(array, "cpu")
            for index in np.argwhere(~np.isfinite(there)):
                return f"{name} must be finite, got {there[tuple(index)]} at index {index.tolist()}"
        return None


_FIELDS = "dtype", "shape", "data pointer", "strides", "flags"


def _fingerprint(array: Array) -> tuple[Any, ...]:
    return array.dtype, array.shape, address_of(array), array.strides, getattr(array.flags, "num", None)


def match(owner: str, names: Iterable[str], grads: object) -> list[Array | None]:
    """Gradients by name or in order, as a list in the parameters' order."""
    names = list(names)
    if isinstance(grads, Mapping):
        missing, extra = [name for name in names if name not in grads], [name for name in grads if name not in names]
        if missing or extra:
            raise ValueError(f"{owner}: grads must have the names of params, missing {missing}, extra {extra}")
        return [grads[name] for name in names]
    if hasattr(grads, "dtype") or not isinstance(grads, Iterable):
        rule = "a mapping by name or a sequence in parameter order"
        raise TypeError(f"{owner}: grads must be {rule}, got {type(grads).__name__}")
    matched = list(grads)
    if len(matched) != len(names):
        raise ValueError(f"{owner}: grads must be {len(names)} arrays ({', '.join(names)}), got {len(matched)}")
    return matched


def loss_of(owner: str, value: object) -> float:
    """The loss as a float: a number or an array without axes."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{owner}: loss must be a number, got {value!r}")
    return float(value)


def pair_of(owner: str, what: str, result: object) -> tuple[Any, Any]:
    """What a function of the user returned, which must be (loss, grads)."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise TypeError(f"{owner}: {what} must return (loss, grads), got {type(result).__name__}")
    return result[0], result[1]
