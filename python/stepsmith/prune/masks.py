"""Which weights stay: boolean masks, True where a weight is kept, by the exact number that goes.

Weights may be on a GPU; masks are arrays of NumPy, made on the CPU.
"""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith import _check
from stepsmith._backend import moved, require_array
from stepsmith._outputs import compute_dtype, require_floats

__all__ = ["Mask", "count_of", "global_masks", "magnitude_mask", "n_m_mask", "rows", "structured_mask"]

Array = NDArray[Any]
Mask = NDArray[np.bool_]


def magnitude_mask(w: Array, amount: float, mask: Mask | None = None) -> Mask:
    """Prune the weights of the smallest magnitude: exactly `amount` of them.

    Among equal magnitudes the first in C order go first.

    Args:
        w: Weights, float32, float64, bfloat16 or float16 of any shape and layout.
        amount: An int is the number of weights that go; a float in [0, 1] is their share, rounded half to even:
            ``round(amount * n)``.
        mask: What was pruned before and stays so; then only the kept weights are counted and compared.

    Returns:
        A new boolean array of the shape of w.

    Raises:
        TypeError: Another kind of array, dtype or amount.
        ValueError: NaN among the weights, an amount out of range, or a mask of another shape.

    Follows: ``torch.nn.utils.prune.l1_unstructured``.

    Example:
        >>> first = magnitude_mask(np.array([0.1, -3.0, 2.0, -0.5]), 1)
        >>> first.tolist()
        [False, True, True, True]
        >>> magnitude_mask(np.array([0.1, -3.0, 2.0, -0.5]), 1, mask=first).tolist()
        [False, True, True, False]
    """
    owner = "magnitude_mask"
    magnitudes, kept = _magnitudes(owner, "w", w), _kept(owner, "mask", mask, w)
    return _pruned([magnitudes], [kept], count_of(owner, amount, int(kept.sum())))[0]


def global_masks(
    params: Mapping[str, Array], amount: float, masks: Mapping[str, Mask] | None = None
) -> dict[str, Mask]:
    """Prune the weights of the smallest magnitude of all tensors together; see `magnitude_mask`.

    Among equal magnitudes the first tensor's go first.

    Args:
        params: Name → weights; other tensors of a model, such as biases, are left out by not being here.
        amount: Number or share of all these weights that go.
        masks: What was pruned before; a tensor without a mask keeps all.

    Returns:
        Name → mask, for each of the tensors.

    Raises:
        TypeError, ValueError: As `magnitude_mask`, or a mask for another name.

    Follows: ``torch.nn.utils.prune.global_unstructured`` with ``L1Unstructured``.

    Example:
        >>> masks = global_masks({"a": np.array([1.0, 2.0]), "b": np.array([[0.5], [-4.0]])}, 0.5)
        >>> {name: mask.tolist() for name, mask in masks.items()}
        {'a': [False, True], 'b': [[False], [True]]}
    """
    owner, given = "global_masks", dict(masks or {})
    if not isinstance(params, Mapping):
        raise TypeError(f"{owner}: params must be a mapping from names to arrays, got {type(params).__name__}")
    if unknown := [name for name in given if name not in params]:
        raise ValueError(f"{owner}: masks must have names of params, got {unknown}")
    magnitudes = [_magnitudes(owner, f"params[{name!r}]", w) for name, w in params.items()]
    kept = [_kept(owner, f"masks[{name!r}]", given.get(name), w) for name, w in params.items()]
    count = count_of(owner, amount, sum(int(own.sum()) for own in kept))
    return dict(zip(params, _pruned(magnitudes, kept, count)))


def structured_mask(w: Array, amount: float, axis: int = 0, norm: float = 2, mask: Mask | None = None) -> Mask:
    """Prune whole slices, such as the rows of units that go: those of the smallest norm over the other axes.

    Norms are computed in float64. Among equal norms the first slices go first.

    Args:
        w: Weights of at least one axis.
        amount: Number or share of the slices that go; see `magnitude_mask`.
        axis: Whose indices are the slices; 0 for the outputs of a layer, 1 for its inputs.
        norm: 1, 2 or inf.
        mask: What was pruned before and stays so; then only slices that keep a weight are counted and compared.

    Returns:
        A new boolean array of the shape of w.

    Raises:
        TypeError, ValueError: As `magnitude_mask`, or another axis or norm.

    Follows: ``torch.nn.utils.prune.ln_structured``.

    Example:
        >>> structured_mask(np.array([[3.0, 0.0], [2.0, 2.0], [0.0, 4.0]]), 1).tolist()
        [[True, True], [False, False], [True, True]]
    """
    owner = "structured_mask"
    magnitudes, kept = _magnitudes(owner, "w", w), _kept(owner, "mask", mask, w)
    axis = _axis(owner, w, axis)
    norms = _norms(owner, rows(np.where(kept, magnitudes, 0.0), axis), norm)
    alive: Mask = np.asarray(rows(kept, axis).any(axis=1))
    slices = _pruned([norms], [alive], count_of(owner, amount, int(alive.sum())))[0]
    return kept & slices.reshape(-1, *[1] * (w.ndim - 1 - axis))


def n_m_mask(w: Array, n: int = 2, m: int = 4, axis: int = -1) -> Mask:
    """Keep the n largest magnitudes of each run of m along an axis; among equal ones the first go first.

    Args:
        w: Weights of at least one axis.
        n: Weights of a run that stay, from 1 to m.
        m: Length of a run, which divides that of the axis.
        axis: Along which runs lie; -1, the inputs of a `nn.Linear`, is what sparse matrix units multiply along.

    Returns:
        A new boolean array of the shape of w.

    Raises:
        TypeError, ValueError: As `magnitude_mask`, or n, m or an axis that do not fit.

    Follows: 2:4 sparsity (Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021).

    Example:
        >>> n_m_mask(np.array([1.0, -5.0, 3.0, 2.0])).tolist()
        [False, True, True, False]
    """
    owner = "n_m_mask"
    magnitudes = _magnitudes(owner, "w", w)
    axis = _axis(owner, w, axis)
    m = _check.integer(owner, "m", m, low=1)
    n = _check.integer(owner, "n", n, low=1, high=m)
    if w.shape[axis] % m:
        raise ValueError(f"{owner}: w must have a multiple of m={m} along axis {axis}, got {w.shape[axis]}")
    last = np.moveaxis(magnitudes, axis, -1)
    smallest = last.reshape(*last.shape[:-1], last.shape[-1] // m, m).argsort(axis=-1, kind="stable")[..., : m - n]
    runs = np.ones((*smallest.shape[:-1], m), np.bool_)
    np.put_along_axis(runs, smallest, False, axis=-1)
    return np.ascontiguousarray(np.moveaxis(runs.reshape(last.shape), -1, axis))


def count_of(owner: str, amount: object, total: int) -> int:
    """How many of so many an amount is."""
    if isinstance(amount, Integral) and not isinstance(amount, bool):
        return _check.integer(owner, "amount", amount, low=0, high=total)
    if isinstance(amount, bool) or not isinstance(amount, Real):
        raise TypeError(f"{owner}: amount must be an integer or a number in [0, 1], got {amount!r}")
    return round(_check.number(owner, "amount", amount, low=0.0, high=1.0) * total)


def _magnitudes(owner: str, name: str, w: object) -> Array:
    """|w| in the compute type."""
    array = moved(require_floats(owner, name, w), "cpu")
    magnitudes: Array = np.abs(array.astype(compute_dtype(array), order="C"))
    if np.isnan(magnitudes).any():
        where = [int(i) for i in np.argwhere(np.isnan(magnitudes))[0]]
        raise ValueError(f"{owner}: {name} must not have NaN, got one at index {where}")
    return magnitudes


def _kept(owner: str, name: str, mask: object, w: Array) -> Mask:
    """A copy of the mask in C order."""
    if mask is None:
        return np.ones(w.shape, np.bool_)
    array = require_array(owner, name, np.asarray(mask) if isinstance(mask, np.bool_) else mask)
    if array.dtype != np.bool_:
        raise TypeError(f"{owner}: {name} must be boolean, got {array.dtype}")
    if array.shape != w.shape:
        raise ValueError(f"{owner}: {name} must have the shape of the weights, {w.shape}, got {array.shape}")
    return np.array(moved(array, "cpu"), order="C")


def _pruned(keys: list[Array], kept: list[Mask], count: int) -> list[Mask]:
    """The masks without the smallest `count` of all kept keys, the first of equal ones first."""
    if count:
        candidates = np.concatenate([own[mask] for own, mask in zip(keys, kept)])
        bound = np.partition(candidates, count - 1)[count - 1]
        goes = candidates < bound
        goes[np.flatnonzero(candidates == bound)[: count - int(goes.sum())]] = True
        ends = np.cumsum([int(mask.sum()) for mask in kept])
        for mask, own in zip(kept, np.split(goes, ends[:-1])):
            mask[mask] = ~own
    return kept


def _axis(owner: str, w: Array, axis: object) -> int:
    """The axis, counted from the front."""
    if not w.ndim:
        raise ValueError(f"{owner}: w must have at least one axis, got shape ()")
    return _check.integer(owner, "axis", axis, low=-w.ndim, high=w.ndim - 1) % w.ndim


def rows(array: Array, axis: int) -> Array:
    """One row for each index of the axis."""
    count = array.shape[axis]
    return np.moveaxis(array, axis, 0).reshape(count, array.size // count if count else 0)


def _norms(owner: str, magnitudes: Array, norm: object) -> Array:
    if isinstance(norm, bool) or not isinstance(norm, Real):
        raise TypeError(f"{owner}: norm must be 1, 2 or inf, got {norm!r}")
    if norm not in (1, 2, np.inf):
        raise ValueError(f"{owner}: norm must be 1, 2 or inf, got {norm!r}")
    if norm == np.inf:
        return np.asarray(magnitudes.max(axis=1, initial=0.0))
    wide = magnitudes.astype(np.float64, order="C")
    # A power of two changes no comparison and keeps squares of large float64 numbers finite.
    largest = wide.max(initial=0.0, where=np.isfinite(wide))
    np.ldexp(wide, -int(np.frexp(largest)[1]), out=wide)
    return np.asarray((wide if norm == 1 else np.square(wide)).sum(axis=1))
