"""Targets of the cross entropy: labels of any integer type, or probabilities."""

from __future__ import annotations

import numpy as np

from stepsmith._backend import core_of, namespace, require_array, require_same_kind
from stepsmith._outputs import compute_dtype
from stepsmith.nn.buffer import Array

__all__ = ["Classes", "check_labels", "check_target", "classes"]

Classes = tuple[Array, int | None, bool]


def check_target(owner: str, logits: Array, labels: Array, axis: int) -> bool:
    """Raise unless the target suits logits with that class axis and any number of samples; are they labels?"""
    require_array(owner, "labels", labels)
    require_same_kind(owner, "labels", labels, logits, "the logits")
    kind, compute = labels.dtype.kind, compute_dtype(logits)
    if kind not in "iu" and labels.ndim != logits.ndim:
        raise TypeError(f"{owner}: labels must be integers, got {labels.dtype} of shape {labels.shape}")
    if kind not in "iu" and labels.dtype != compute:
        raise TypeError(f"{owner}: labels must be integers or probabilities of dtype {compute}, got {labels.dtype}")
    shape = logits.shape if kind not in "iu" else logits.shape[:axis] + logits.shape[axis + 1 :]
    if labels.ndim != len(shape) or labels.shape[1:] != shape[1:]:
        want = "(samples,)" if len(shape) == 1 else f"({', '.join(['samples', *map(str, shape[1:])])})"
        raise ValueError(f"{owner}: labels must have shape {want if shape else '()'}, got {labels.shape}")
    return kind in "iu"


def classes(labels: Array, ignore_index: int | None) -> Classes:
    """The labels as the core takes them; a negative number is no label of an unsigned type."""
    is_unsigned = labels.dtype.kind == "u"
    if type(labels) is not np.ndarray and namespace(labels) is not np:
        values = namespace(labels).ascontiguousarray(labels, np.int64).reshape(-1)
    else:
        # Quick where nothing is to be done, which is what a training step sees.
        is_plain = labels.dtype == np.int64 and labels.flags.carray
        values = (labels if is_plain else np.require(labels, np.int64, ["C", "A"])).reshape(-1)
    is_none = ignore_index is None or (is_unsigned and ignore_index < 0)
    return values, None if is_none else ignore_index, is_unsigned


def check_labels(owner: str, labels: Array, count: int, ignore_index: int | None) -> None:
    """Raise at the first label that is neither below `count` nor ignored; None ignores none."""
    core_of(labels).check_labels(owner, classes(labels, ignore_index), count)
