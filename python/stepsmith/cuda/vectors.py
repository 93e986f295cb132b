"""Functions over lists of arrays: sums, norms, and what is done to all of them in place."""

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from stepsmith import _core
from stepsmith._backend import is_on_gpu
from stepsmith.cuda.optim.launches import Launches
from stepsmith.cuda.optim.lists import GRAD, PARAM, SHADOW, STATE, Call, rows_of
from stepsmith.cuda.optim.places import check, place_of
from stepsmith.cuda.optim.structs import REDUCTIONS
from stepsmith.optim._slab import wide_dtype_of

__all__ = ["assign", "axpy", "clamp", "clip_grad_norm", "dot", "lerp", "reduce", "scale"]

Arrays = Sequence[Any]

DTYPES_OF_16_BITS = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)


def reduce(owner: str, names: Sequence[str], arrays: Arrays, kind: str) -> float:
    """As `_core.reduce`; waits for the device."""
    if kind not in REDUCTIONS:
        return _core.reduce(owner, [], [], kind)
    _check(owner, names, arrays)
    if not arrays:
        return 0.0
    with arrays[0].device:
        call = Call(rows_of([{GRAD: array} for array in arrays], False), norm=REDUCTIONS[kind])
        Launches("assign", call.record).examine(call.rows)
        return float(call.found("sum"))


def clip_grad_norm(owner: str, names: Sequence[str], arrays: Arrays, kind: str, max_norm: float, raises: bool) -> Any:
    """Multiplies all arrays in place by min(1, max_norm / (norm + 1e-6)); the norm before, as a 0-d array.

    Waits for the device only if it is to raise for a norm that is not finite, before anything is written then.
    """
    _check(owner, names, arrays)
    _refuse_overlaps(owner, dict(zip(names, arrays)))
    with arrays[0].device:
        rows = rows_of([{PARAM: array, GRAD: array} for array in arrays], True)
        call = Call(rows, [1.0] * len(arrays), norm=REDUCTIONS[kind], max_norm=max_norm, is_examined=1)
        launches = Launches("assign", call.record)
        launches.examine(rows)
        norm = call.found("norm")
        if raises and not np.isfinite(float(norm)):
            raise _core.NonFiniteError(f"{owner}: the norm of grads must be finite, got {float(norm)}")
        launches.write(rows)
        return norm


def scale(owner: str, names: Sequence[str], arrays: Arrays, factor: float) -> None:
    """As `_core.scale`."""
    _change("scale", owner, names, arrays, factor)


def clamp(owner: str, names: Sequence[str], arrays: Arrays, limit: float) -> None:
    """As `_core.clamp`."""
    _change("clamp", owner, names, arrays, limit)


def _change(rule: str, owner: str, names: Sequence[str], arrays: Arrays, scalar: float) -> None:
    _check(owner, names, arrays)
    _refuse_overlaps(owner, dict(zip(names, arrays)))
    _write(rule, [{PARAM: array, GRAD: array} for array in arrays], [scalar] * len(arrays))


def lerp(
    owner: str, names: Sequence[str], arrays: Arrays, ends: Arrays, shadows: Arrays, weights: Sequence[float]
) -> None:
    """As `_core.lerp`; ends are of the arrays' compute types or bfloat16, shadows of 16 bits."""
    for what, given in (("arrays", arrays), ("ends", ends), ("shadows", shadows), ("weights", weights)):
        _check_length(what, len(names), len(given))
    _check(owner, names, arrays)
    written = dict(zip(names, arrays))
    for what, others in (("state", ends), ("shadow", shadows)):
        _check_like(owner, [f"{what} of {name}" for name in names], arrays, others)
        written |= {f"{what} of {name}": other for name, other in zip(names, others) if other is not None}
    _check_dtypes(owner, names, arrays, ends, shadows)
    _refuse_overlaps(owner, written)
    rows = [
        {PARAM: array, GRAD: array, STATE: end} | ({} if shadow is None else {SHADOW: shadow})
        for array, end, shadow in zip(arrays, ends, shadows)
    ]
    _write("lerp", rows, weights)


def axpy(owner: str, names: Sequence[str], arrays: Arrays, factor: float, others: Arrays) -> None:
    """As `_core.axpy`."""
    _combine("axpy", owner, names, arrays, factor, others)


def assign(owner: str, names: Sequence[str], arrays: Arrays, factor: float, others: Arrays) -> None:
    """As `_core.assign`."""
    _combine("assign", owner, names, arrays, factor, others)


def _combine(rule: str, owner: str, names: Sequence[str], arrays: Arrays, factor: float, others: Arrays) -> None:
    _check_pairs(owner, names, arrays, others)
    territory = _refuse_overlaps(owner, dict(zip(names, arrays)))
    territory.refuse_shared(names, [place_of(other) for other in others])
    rows = [{PARAM: array, GRAD: other} for array, other in zip(arrays, others)]
    _write(rule, rows, [factor] * len(arrays))


def dot(owner: str, names: Sequence[str], arrays: Arrays, others: Arrays) -> float:
    """As `_core.dot`; waits for the device."""
    _check_pairs(owner, names, arrays, others)
    if not arrays:
        return 0.0
    with arrays[0].device:
        call = Call(rows_of([{PARAM: a, GRAD: b} for a, b in zip(arrays, others)], False))
        Launches("assign", call.record).multiply(call.rows)
        return float(call.found("sum"))


def _write(rule: str, operands: Sequence[Mapping[int, Any]], scalars: Sequence[float]) -> None:
    """Runs a rule over the arrays, each row with a scalar of its own."""
    if operands:
        with operands[0][PARAM].device:
            call = Call(rows_of(operands, True), scalars)
            Launches(rule, call.record).write(call.rows)


# Checks, with the words of the core.


def _check(owner: str, names: Sequence[str], arrays: Arrays) -> None:
    """All are arrays that kernels can work on, on the device of the first one."""
    for name, array in zip(names, arrays):
        if not is_on_gpu(array):
            kind = f"{type(array).__module__}.{type(array).__qualname__}"
            raise TypeError(f"{owner}: {name} must be an array of CuPy, got {kind}")
        check(owner, name, array, arrays[0])


def _check_like(owner: str, names: Sequence[str], arrays: Arrays, others: Arrays) -> None:
    """The others, None among them, have the arrays' shapes."""
    there = [(name, array, other) for name, array, other in zip(names, arrays, others) if other is not None]
    for name, array, other in there:
        _check(owner, [name], [other])
        check(owner, name, other, array)
    wrong = [
        f"{name} must have shape {array.shape}, got {other.shape}"
        for name, array, other in there
        if array.shape != other.shape
    ]
    if wrong:
        raise ValueError(f"{owner}: {'; '.join(wrong)}")


def _check_dtypes(owner: str, names: Sequence[str], arrays: Arrays, ends: Arrays, shadows: Arrays) -> None:
    """Kernels have code for these types alone."""
    for name, array, end, shadow in zip(names, arrays, ends, shadows):
        wide = wide_dtype_of(array)
        if end.dtype not in (wide, DTYPES_OF_16_BITS[0]):
            raise TypeError(f"{owner}: state of {name} must be {wide} or bfloat16, got {end.dtype}")
        if shadow is not None and shadow.dtype not in DTYPES_OF_16_BITS:
            raise TypeError(f"{owner}: shadow of {name} must be bfloat16 or float16, got {shadow.dtype}")


def _check_pairs(owner: str, names: Sequence[str], arrays: Arrays, others: Arrays) -> None:
    for given in (arrays, others):
        _check_length(f"{owner}: arrays", len(names), len(given))
    _check(owner, names, arrays)
    _check_like(owner, names, arrays, others)


def _check_length(what: str, want: int, got: int) -> None:
    if want != got:
        raise ValueError(f"{what} must have {want} entries, got {got}")


def _refuse_overlaps(owner: str, written: Mapping[str, Any]) -> Any:
    """No element is written twice."""
    return _core.Territory(owner, list(written), [place_of(array) for array in written.values()])
