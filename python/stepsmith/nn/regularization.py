"""Penalties and limits of weights, around an optimizer's step."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np

from stepsmith import _check
from stepsmith._backend import core_of, namespace
from stepsmith.nn.buffer import Array, Buffer

__all__ = ["L1", "L2", "ElasticNet", "MaxNorm", "Regularizer"]

Globs = str | Sequence[str]
Rates = float | Mapping[str, float]


def _rate(lr: Rates, name: str) -> float | None:
    return lr.get(name) if isinstance(lr, Mapping) else lr


class Regularizer(ABC):  # noqa: B024 - a subclass writes the half that it needs
    """What happens around a step to the parameters whose names match a glob of `include` and none of `exclude`.

    Parameters are float32 or float64: an optimizer that keeps a master copy of 16-bit ones would not see a change.

    Raises:
        TypeError: Globs that are no strings; at use, parameters of another dtype.
        ValueError: At use, a glob that matches no parameter.
    """

    def __init__(self, include: Globs = "*weight*", exclude: Globs = ()) -> None:
        self._owner = type(self).__name__
        self.include, self.exclude = self._globs("include", include), self._globs("exclude", exclude)
        self._known: tuple[str, ...] | None = None
        self._chosen: list[str] = []
        self._scratch = Buffer()

    @property
    def acts_after(self) -> bool:
        """Whether it changes parameters after a step."""
        return type(self).after_step is not Regularizer.after_step

    def before_step(self, params: Mapping[str, Array], grads: Mapping[str, Array | None], scale: float = 1.0) -> float:
        """Add `scale` times the penalty's gradient to `grads` in place, and return the penalty itself.

        Parameters whose gradient is None are left out of both.

        Args:
            params: Name to parameter.
            grads: Name to gradient, of its parameter's shape and dtype, or None.
            scale: What else the gradients are multiplied by, such as a loss scale.
        """
        return 0.0

    def after_step(self, params: Mapping[str, Array], lr: Rates) -> None:  # noqa: B027 - most have nothing to do
        """Change the parameters in place, after a step.

        Args:
            params: Name to parameter.
            lr: The step's learning rate, or name to rate; parameters that have none were not stepped and stay.
        """

    def _globs(self, argument: str, globs: Globs) -> tuple[str, ...]:
        found = (globs,) if isinstance(globs, str) else tuple(globs)
        for glob in found:
            if not isinstance(glob, str):
                raise TypeError(f"{self._owner}: {argument} must be globs, got {glob!r}")
        return found

    def _select(self, params: Mapping[str, Array]) -> dict[str, Array]:
        """The parameters that are meant."""
        names = tuple(params)
        if names != self._known:
            self._chosen, self._known = self._match(names), names
        chosen = {name: params[name] for name in self._chosen}
        for name, param in chosen.items():
            if param.dtype not in (np.float32, np.float64):
                rule = "parameters must be float32 or float64"
                raise TypeError(f"{self._owner}: {rule}, got {param.dtype} for {name!r}")
        return chosen

    def _match(self, names: Sequence[str]) -> list[str]:
        for argument, globs in (("include", self.include), ("exclude", self.exclude)):
            for glob in globs:
                if not any(fnmatchcase(name, glob) for name in names):
                    raise ValueError(f"{self._owner}: {argument} must match one of {list(names)}, got {glob!r}")
        return [name for name in names if self._matches(name, self.include) and not self._matches(name, self.exclude)]

    @staticmethod
    def _matches(name: str, globs: Sequence[str]) -> bool:
        return any(fnmatchcase(name, glob) for glob in globs)

    def _like(self, param: Array) -> Array:
        return self._scratch.get(param.shape, param.dtype, param)


class ElasticNet(Regularizer):
    """Penalty l1·Σ abs(w) + l2/2·Σ w², with the gradient l1·sign(w) + l2·w, sign(0) = 0; Zou and Hastie 2005.

    Decoupled there is no penalty in the gradient; after the step w = sign(w)·max(abs(w) - lr·l1, 0), which makes exact
    zeros (the proximal step of l1, Tibshirani 1996), then w *= 1 - lr·l2 (Loshchilov and Hutter 2019).

    Args:
        l1: At least 0.
        l2: At least 0.
        decoupled: Whether it acts after the step.
        include: Globs of parameters' names, one or several.
        exclude: Globs of those that are left out all the same.

    Raises:
        TypeError: Another kind of number or glob, or 16-bit parameters at use.
        ValueError: A negative strength, or a glob that matches nothing at use.

    Example:
        >>> params, grads = {"weight": np.array([2.0, -1.0])}, {"weight": np.zeros(2)}
        >>> ElasticNet(0.5, 1.0).before_step(params, grads), grads["weight"].tolist()
        (4.0, [2.5, -1.5])
    """

    def __init__(
        self,
        l1: float,
        l2: float,
        decoupled: bool = False,
        include: Globs = "*weight*",
        exclude: Globs = (),
    ) -> None:
        super().__init__(include, exclude)
        self.l1 = _check.number(self._owner, "l1", l1, low=0.0)
        self.l2 = _check.number(self._owner, "l2", l2, low=0.0)
        self.decoupled = _check.boolean(self._owner, "decoupled", decoupled)

    def before_step(self, params: Mapping[str, Array], grads: Mapping[str, Array | None], scale: float = 1.0) -> float:
        """Add the penalty's gradient, unless decoupled; see `Regularizer`."""
        if self.decoupled:
            return 0.0
        chosen = {name: param for name, param in self._select(params).items() if grads.get(name) is not None}
        for name, param in chosen.items():
            grad = grads[name]
            assert grad is not None
            self._add(param, grad, scale)
        names, arrays = list(chosen), list(chosen.values())
        core = core_of(arrays[0] if arrays else None)
        penalty = self.l1 * core.reduce(self._owner, names, arrays, "sum_abs") if self.l1 else 0.0
        if self.l2:
            penalty += 0.5 * self.l2 * core.reduce(self._owner, names, arrays, "sum_squares")
        return penalty

    def _add(self, param: Array, grad: Array, scale: float) -> None:
        term, xp = self._like(param), namespace(param)
        if self.l1:
            xp.multiply(xp.sign(param, out=term), scale * self.l1, out=term)
            xp.add(grad, term, out=grad)
        if self.l2:
            xp.add(grad, xp.multiply(param, scale * self.l2, out=term), out=grad)

    @property
    def acts_after(self) -> bool:
        """Whether it is decoupled."""
        return self.decoupled

    def after_step(self, params: Mapping[str, Array], lr: Rates) -> None:
        """The soft threshold, then the decay, if decoupled."""
        if not self.decoupled:
            return
        for name, param in self._select(params).items():
            rate = _rate(lr, name)
            if rate is not None:
                self._shrink(param, rate)

    def _shrink(self, param: Array, lr: float) -> None:
        xp = namespace(param)
        if self.l1:
            # w - w is 0, and all else is abs(w) - lr·l1 with w's sign.
            xp.subtract(param, xp.clip(param, -lr * self.l1, lr * self.l1, out=self._like(param)), out=param)
        if self.l2:
            xp.multiply(param, 1.0 - lr * self.l2, out=param)


class L1(ElasticNet):
    """Penalty strength·Σ abs(w), or, decoupled, a soft threshold after the step; see `ElasticNet`.

    Args:
        strength: At least 0.
        decoupled: Whether it acts after the step.
        include: Globs of parameters' names, one or several.
        exclude: Globs of those that are left out all the same.

    Raises:
        TypeError: As `ElasticNet`.
        ValueError: As `ElasticNet`.

    Example:
        >>> w = np.array([0.5, -0.01])
        >>> L1(0.1, decoupled=True).after_step({"weight": w}, lr=1.0)
        >>> w.tolist()
        [0.4, 0.0]
    """

    def __init__(
        self, strength: float, decoupled: bool = False, include: Globs = "*weight*", exclude: Globs = ()
    ) -> None:
        strength = _check.number("L1", "strength", strength, low=0.0)
        super().__init__(strength, 0.0, decoupled, include, exclude)


class L2(ElasticNet):
    """Penalty strength/2·Σ w², or, decoupled, w *= 1 - lr·strength after the step; see `ElasticNet`.

    Args:
        strength: At least 0.
        decoupled: Whether it acts after the step.
        include: Globs of parameters' names, one or several.
        exclude: Globs of those that are left out all the same.

    Raises:
        TypeError: As `ElasticNet`.
        ValueError: As `ElasticNet`.

    Example:
        >>> grads = {"weight": np.zeros(1)}
        >>> L2(0.5).before_step({"weight": np.array([2.0])}, grads), grads["weight"].tolist()
        (1.0, [1.0])
    """

    def __init__(
        self, strength: float, decoupled: bool = False, include: Globs = "*weight*", exclude: Globs = ()
    ) -> None:
        strength = _check.number("L2", "strength", strength, low=0.0)
        super().__init__(0.0, strength, decoupled, include, exclude)


class MaxNorm(Regularizer):
    """After a step w *= min(1, limit / ‖w‖) for each unit, an index of `axis`; Srivastava et al. 2014.

    The norm is over all other axes, in float64. Arrays of one axis, such as a norm's weight, have no units: they stay.

    Args:
        limit: Above 0.
        axis: Of the units: 0 for the (out, in, ...) weights of the layers here.
        include: Globs of parameters' names, one or several.
        exclude: Globs of those that are left out all the same.

    Raises:
        TypeError: Another kind of number or glob, or 16-bit parameters at use.
        ValueError: A limit that is not above 0; at use, an axis out of range or a glob that matches nothing.

    Example:
        >>> w = np.array([[3.0, 4.0], [0.3, 0.4]])
        >>> MaxNorm(1.0).after_step({"weight": w}, lr=0.1)
        >>> w.tolist()
        [[0.6000000000000001, 0.8], [0.3, 0.4]]
    """

    def __init__(self, limit: float, axis: int = 0, include: Globs = "*weight*", exclude: Globs = ()) -> None:
        super().__init__(include, exclude)
        self.limit = _check.number("MaxNorm", "limit", limit, low=0.0, open_low=True)
        self.axis = _check.integer("MaxNorm", "axis", axis)

    def after_step(self, params: Mapping[str, Array], lr: Rates) -> None:
        """Scale units that are too long."""
        stepped = {name: param for name, param in self._select(params).items() if _rate(lr, name) is not None}
        chosen = {name: param for name, param in stepped.items() if param.ndim > 1}
        for name, param in chosen.items():
            if not -param.ndim <= self.axis < param.ndim:
                raise ValueError(f"MaxNorm: axis must be one of {name!r}, of shape {param.shape}, got {self.axis}")
        for param in chosen.values():
            others, xp = tuple(axis for axis in range(param.ndim) if axis != self.axis % param.ndim), namespace(param)
            squares = self._scratch.get(param.shape, np.dtype(np.float64), param)
            xp.multiply(param, param, out=squares, dtype=np.float64)
            norms = xp.sqrt(xp.add.reduce(squares, axis=others, keepdims=True))
            factors = self.limit / xp.maximum(norms, self.limit)
            xp.multiply(param, factors.astype(param.dtype, copy=False), out=param)
