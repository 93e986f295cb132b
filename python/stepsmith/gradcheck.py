"""Gradients written by hand against differences of the function itself."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith._backend import is_on_gpu, require_array
from stepsmith._outputs import overlaps_itself

__all__ = ["GradcheckError", "GradcheckReport", "gradcheck"]

Array = npt.NDArray[Any]
Function = Callable[[Mapping[str, Array]], tuple[float, Mapping[str, Array]]]

_OWNER = "gradcheck"
_EPS = sys.float_info.epsilon
_STEPS = {"central": _EPS ** (1 / 3), "forward": _EPS ** (1 / 2)}


class GradcheckError(AssertionError):
    """A gradient differs from the differences of its function; the message names the worst entry."""


@dataclass(frozen=True, slots=True)
class GradcheckReport:
    """What was compared, and the entry that came nearest to its tolerance.

    Attributes:
        name: array of the worst entry.
        index: its index there.
        analytic: its gradient as the function gave it.
        numeric: its gradient by differences.
        error: abs(analytic - numeric).
        tolerance: what the error may be.
        compared: number of entries, in all arrays.
        unchecked: inputs of which the function gave no gradient.
    """

    name: str
    index: tuple[int, ...]
    analytic: float
    numeric: float
    error: float
    tolerance: float
    compared: int
    unchecked: tuple[str, ...]


def gradcheck(
    fn: Function,
    inputs: Mapping[str, Array],
    *,
    method: Literal["central", "forward"] = "central",
    step: float | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    max_entries: int | None = None,
    seed: int = 0,
) -> GradcheckReport:
    """Compares each entry of the gradients that a function gives with differences of its value.

    The numeric gradient is (f(x + h) - f(x - h)) / 2h, or (f(x + h) - f(x)) / h for the forward method, with
    h = step·max(1, abs(x)). An entry is right where abs(analytic - numeric) is at most

        atol + rtol·scale + 4·eps·abs(f)/h,

    scale the largest numeric gradient in its array, so that an array of small gradients is held to small errors. The
    last term is the rounding of f, of some eps·abs(f), which a difference divides by h. Steps of ∛eps (central) and
    √eps (forward) keep the error of the method, about h²·f'''/6 and h·f''/2, below the rest for a function whose
    derivatives are of one size. Gradients below atol are not told from zero: scale f up if they count. NaN is wrong.

    Args:
        fn: takes `inputs` and returns (value, gradients by name): a float, and of some or all inputs a float64 array
            of the input's shape. It must give equal values for equal inputs and leave them as they are.
        inputs: name to float64 array of any layout; changed in place, one entry at a time, and put back, also after
            an error.
        method: "central", or "forward" with half the calls and fewer right digits.
        step: h for an x within [-1, 1]; None for the steps above.
        rtol: at least 0.
        atol: at least 0.
        max_entries: how many entries of each array are compared, drawn with `seed`; None for all.
        seed: at least 0.

    Returns:
        The worst entry, and how many were compared.

    Raises:
        GradcheckError: a wrong entry.
        TypeError: an array, a gradient or a value that is not float64.
        ValueError: unknown names, other shapes, arrays that share memory or nothing to compare.

    Follows: ``torch.autograd.gradcheck``; Nocedal and Wright, Numerical Optimization, 8.1.

    Example:
        >>> report = gradcheck(lambda p: (float(p["x"] @ p["x"]), {"x": 2 * p["x"]}), {"x": np.array([1.0, -3.0])})
        >>> report.compared, report.error < 1e-8
        (2, True)
    """
    _check.one_of(_OWNER, "method", method, _STEPS)
    unit = _STEPS[method] if step is None else _check.number(_OWNER, "step", step, low=0.0, open_low=True)
    rtol, atol = (_check.number(_OWNER, name, tol, low=0.0) for name, tol in (("rtol", rtol), ("atol", atol)))
    most = None if max_entries is None else _check.integer(_OWNER, "max_entries", max_entries, low=1)
    seed = _check.integer(_OWNER, "seed", seed, low=0)
    _check_inputs(inputs)
    kept = {name: array.copy() for name, array in inputs.items()}
    try:
        value, grads = _first(fn, inputs, kept)
        differences = _Differences(fn, inputs, None if method == "central" else value, unit)
        rows = [
            _compare(name, grad, _drawn(grad, most, [seed, i]), differences, abs(value), rtol, atol)
            for i, (name, grad) in enumerate(grads.items())
        ]
    finally:
        for name, array in inputs.items():
            array[...] = kept[name]
    return _report([row for row in rows if row.compared], tuple(name for name in inputs if name not in grads))


def _check_inputs(inputs: Mapping[str, Array]) -> None:
    if not isinstance(inputs, Mapping):
        raise TypeError(f"{_OWNER}: inputs must be a dict of arrays, got {type(inputs).__name__}")
    for name, value in inputs.items():
        array = _require_own(f"inputs[{name!r}]", value)
        if array.dtype != np.float64:
            raise TypeError(f"{_OWNER}: inputs[{name!r}] must be float64, got {array.dtype}")
        if not array.flags.writeable:
            raise ValueError(f"{_OWNER}: inputs[{name!r}] must be writable, got a read-only array")
        if overlaps_itself(array):
            raise ValueError(f"{_OWNER}: inputs[{name!r}] must not overlap itself, got strides {array.strides}")
    for (first, a), (second, b) in combinations(inputs.items(), 2):
        if np.shares_memory(a, b):
            raise ValueError(f"{_OWNER}: inputs must not share memory, got {first!r} and {second!r} that do")


def _require_own(name: str, value: object) -> Array:
    """The value, which must be an array of NumPy: entries are changed and read one by one."""
    if is_on_gpu(value):
        raise TypeError(
            f"{_OWNER}: {name} must be a NumPy array, whose entries are changed one by one, got one of CuPy"
        )
    return require_array(_OWNER, name, value)


def _first(fn: Function, inputs: Mapping[str, Array], kept: Mapping[str, Array]) -> tuple[float, dict[str, Array]]:
    """The value, and gradients of our own: a layer hands out buffers that its next pass fills anew."""
    value, grads = _call(fn, inputs)
    if not isinstance(grads, Mapping):
        raise TypeError(f"{_OWNER}: fn must return gradients by name, got {type(grads).__name__}")
    own = {name: _gradient(name, grad, inputs).copy() for name, grad in grads.items()}
    if not any(grad.size for grad in own.values()):
        raise ValueError(f"{_OWNER}: fn must return a gradient with an entry to compare, got {list(own)}")
    for name, array in inputs.items():
        if not np.array_equal(array, kept[name], equal_nan=True):
            raise ValueError(f"{_OWNER}: fn must leave its inputs as they are, got a change of {name!r}")
    again, _ = _call(fn, inputs)
    if not math.isclose(value, again, rel_tol=1e-12, abs_tol=1e-12) and not (math.isnan(value) and math.isnan(again)):
        raise ValueError(f"{_OWNER}: fn must return equal values for equal inputs, got {value!r} and {again!r}")
    return value, own


def _call(fn: Function, inputs: Mapping[str, Array]) -> tuple[float, Mapping[str, Array]]:
    result = fn(inputs)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"{_OWNER}: fn must return (value, gradients), got {type(result).__name__}")
    if not isinstance(result[0], float):
        raise TypeError(f"{_OWNER}: fn must return a float as its value, got {type(result[0]).__name__}")
    return float(result[0]), result[1]


def _gradient(name: str, value: object, inputs: Mapping[str, Array]) -> Array:
    if name not in inputs:
        raise ValueError(f"{_OWNER}: gradients must have names of inputs, {list(inputs)}, got {name!r}")
    grad = _require_own(f"gradient of {name!r}", value)
    if grad.dtype != np.float64:
        raise TypeError(f"{_OWNER}: gradient of {name!r} must be float64, got {grad.dtype}")
    if grad.shape != inputs[name].shape:
        raise ValueError(f"{_OWNER}: gradient of {name!r} must have shape {inputs[name].shape}, got {grad.shape}")
    return grad


def _drawn(grad: Array, most: int | None, seed: list[int]) -> Array:
    """Positions in C order of the entries to compare."""
    if most is None or most >= grad.size:
        return np.arange(grad.size)
    return np.sort(np.random.default_rng(seed).choice(grad.size, most, replace=False))


@dataclass(frozen=True, slots=True)
class _Differences:
    """Numeric derivatives of a function.

    Attributes:
        fn: the function.
        inputs: its arrays.
        base: its value at the inputs for forward differences, None for central ones.
        unit: the step for numbers up to 1.
    """

    fn: Function
    inputs: Mapping[str, Array]
    base: float | None
    unit: float

    def step(self, x: float) -> float:
        """The step at a number."""
        return self.unit * max(1.0, abs(x))

    def at(self, name: str, index: tuple[int, ...]) -> float:
        """The derivative for one entry, which is put back."""
        array = self.inputs[name]
        x = float(array[index])
        above, below = x + self.step(x), x if self.base is not None else x - self.step(x)
        # What was added is not quite the step: x + h is rounded.
        span = above - below
        if span == 0.0:
            raise ValueError(f"{_OWNER}: step must change every entry, got {self.unit!r}, lost in {x!r}")
        try:
            high = self._value(array, index, above)
            low = self._value(array, index, below) if self.base is None else self.base
        finally:
            array[index] = x
        return (high - low) / span

    def _value(self, array: Array, index: tuple[int, ...], x: float) -> float:
        array[index] = x
        return _call(self.fn, self.inputs)[0]


@dataclass(frozen=True, slots=True)
class _Row:
    """The worst entry of an array, how bad it is (at most 1 is right), and how many are wrong."""

    name: str
    index: tuple[int, ...]
    analytic: float
    numeric: float
    tolerance: float
    badness: float
    wrong: int
    compared: int


def _compare(
    name: str, grad: Array, places: Array, differences: _Differences, size: float, rtol: float, atol: float
) -> _Row:
    if not places.size:
        return _Row(name, (), 0.0, 0.0, 0.0, 0.0, 0, 0)
    indices = [tuple(map(int, index)) for index in _indices(places, grad.shape)]
    numeric = np.array([differences.at(name, index) for index in indices])
    analytic = np.array([grad[index] for index in indices])
    steps = np.array([differences.step(float(differences.inputs[name][index])) for index in indices])
    scale = np.abs(numeric[np.isfinite(numeric)]).max(initial=0.0)
    with np.errstate(all="ignore"):  # NaN and Inf travel, to be found wrong
        tolerance = atol + rtol * scale + 4 * _EPS * size / steps
        error = np.abs(analytic - numeric)
        badness = np.where(error == 0.0, 0.0, error / tolerance)
    badness[np.isnan(badness) | ~np.isfinite(tolerance)] = np.inf
    i = int(badness.argmax())
    wrong = int(np.count_nonzero(badness > 1.0))
    entry = indices[i], float(analytic[i]), float(numeric[i]), float(tolerance[i])
    return _Row(name, *entry, float(badness[i]), wrong, places.size)


def _indices(places: Array, shape: tuple[int, ...]) -> Iterator[tuple[Any, ...]]:
    return zip(*np.unravel_index(places, shape)) if shape else iter([()])


def _report(rows: list[_Row], unchecked: tuple[str, ...]) -> GradcheckReport:
    worst = max(rows, key=lambda row: row.badness)
    compared, wrong = sum(row.compared for row in rows), sum(row.wrong for row in rows)
    error = abs(worst.analytic - worst.numeric)
    if wrong:
        place = "".join([worst.name, f"[{', '.join(map(str, worst.index))}]" if worst.index else ""])
        raise GradcheckError(
            f"{_OWNER}: gradient of {place} must be {worst.numeric!r} as the differences are, got {worst.analytic!r} "
            f"(error {error:.3g}, tolerance {worst.tolerance:.3g}; {wrong} of {compared} entries are wrong)"
        )
    return GradcheckReport(
        worst.name, worst.index, worst.analytic, worst.numeric, error, worst.tolerance, compared, unchecked
    )
