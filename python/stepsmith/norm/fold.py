"""Batch norm after a linear or convolution layer, folded into that layer for inference."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stepsmith import _check
from stepsmith._backend import namespace, require_same_kind
from stepsmith._outputs import check_weight, require_floats, store

__all__ = ["BatchStatistics", "fold_batch_norm"]

Array = NDArray[Any]


class BatchStatistics(Protocol):
    """What folding reads of a batch norm, such as an `nn.BatchNorm`."""

    @property
    def running_mean(self) -> Array | None:
        """(channels,)."""

    @property
    def running_var(self) -> Array | None:
        """(channels,)."""

    @property
    def weight(self) -> Array | None:
        """(channels,) or None for ones."""

    @property
    def bias(self) -> Array | None:
        """(channels,) or None for zeros."""

    @property
    def eps(self) -> float:
        """At least 0."""


def fold_batch_norm(weight: Array, bias: Array | None, bn: BatchStatistics) -> tuple[Array, Array]:
    """Weight and bias of one layer that does what a layer and the batch norm behind it do in inference.

    With s = γ/√(running_var + eps), γ and β the batch norm's weight and bias: weight' = weight·s for each output
    channel and bias' = (bias - running_mean)·s + β, computed in float64 and rounded once.

    Args:
        weight: (out, ...) of a linear or convolution layer; float32, float64, bfloat16 or float16.
        bias: (out,) of the dtype of weight, or None for zeros.
        bn: has running_mean, running_var, weight, bias and eps, as `nn.BatchNorm`; arrays of (out,).

    Returns:
        New arrays of the dtype of weight: (out, ...) and (out,).

    Raises:
        TypeError: another kind of array, dtype or batch norm.
        ValueError: shapes that do not fit, or a batch norm that tracks no statistics.

    Follows: ``torch.nn.utils.fuse_conv_bn_weights`` and ``fuse_linear_bn_weights``.

    Example:
        >>> bn = ss.nn.BatchNorm(1, eps=0.0)
        >>> bn.running_mean[...], bn.running_var[...] = 3.0, 4.0
        >>> weight, bias = fold_batch_norm(np.array([[2.0]], np.float32), None, bn)
        >>> weight.tolist(), bias.tolist()
        ([[1.0]], [-1.5])
    """
    owner = "fold_batch_norm"
    if not require_floats(owner, "weight", weight).ndim:
        raise ValueError(f"{owner}: weight must have shape (out, ...), got ()")
    channels = weight.shape[:1]
    shift = check_weight(owner, "bias", bias, channels, weight.dtype, weight)
    mean, var, gamma, beta, eps = _statistics(owner, bn, weight)
    own = namespace(weight)
    with np.errstate(all="ignore"):  # NaN and Inf travel
        scale = gamma / own.sqrt(var + eps)
        wide = weight.astype(np.float64) * scale.reshape(-1, *[1] * (weight.ndim - 1))
        moved = ((0.0 if shift is None else shift.astype(np.float64)) - mean) * scale + beta
        return store(own.empty(weight.shape, weight.dtype), wide), store(own.empty(channels, weight.dtype), moved)


def _statistics(owner: str, bn: object, weight: Array) -> tuple[Array, Array, Array, Array, float]:
    """Mean, variance, weight and bias in float64, and eps."""
    names = ("running_mean", "running_var", "weight", "bias")
    missing = [name for name in (*names, "eps") if not hasattr(bn, name)]
    if missing:
        raise TypeError(f"{owner}: bn must be a batch norm, got {type(bn).__name__} without {missing[0]}")
    given = {name: getattr(bn, name) for name in names}
    if given["running_mean"] is None or given["running_var"] is None:
        raise ValueError(f"{owner}: bn must track running statistics, got one without them")
    wide = [
        _wide(owner, f"bn.{name}", array, weight)
        if array is not None
        else namespace(weight).full(len(weight), float(name == "weight"))
        for name, array in given.items()
    ]
    return wide[0], wide[1], wide[2], wide[3], _check.number(owner, "bn.eps", getattr(bn, "eps", None), low=0.0)


def _wide(owner: str, name: str, value: object, weight: Array) -> Array:
    array, channels = require_floats(owner, name, value), weight.shape[:1]
    require_same_kind(owner, name, array, weight, "the other arrays")
    if array.shape != channels:
        raise ValueError(f"{owner}: {name} must have shape {channels} as weight has channels, got {array.shape}")
    return array.astype(np.float64)
