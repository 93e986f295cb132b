"""Batch norm: statistics of each channel over all samples, with running statistics for inference."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith import _check
from stepsmith._backend import core_of, namespace
from stepsmith._outputs import (
    Four,
    apart,
    check_weight,
    check_written,
    compute_dtype,
    kept,
    like,
    meets,
    of_forward,
    of_places,
    output,
    outputs,
    require_floats,
    unwritten,
)

__all__ = ["BatchSaved", "batch_norm", "batch_norm_backward"]

Array = NDArray[Any]
Numbers = NDArray[np.float64]


@dataclass(slots=True)
class BatchSaved:
    """What `batch_norm` leaves for its backward pass.

    Attributes:
        x: the array that was normalized, not a copy; None if the output took its memory.
        weight: of the forward pass, a copy only if an output took its memory, or None.
        mean: float64, one a channel.
        rstd: float64, 1/√(variance + eps).
        has_weight: was there a weight?
        has_bias: was there a bias?
        training: are mean and rstd those of x?
        shape: samples, channels, elements of a channel in a sample.
    """

    x: Array | None
    weight: Array | None
    mean: Numbers
    rstd: Numbers
    has_weight: bool
    has_bias: bool
    training: bool
    shape: tuple[int, int, int]


def batch_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    running_mean: Array | None = None,
    running_var: Array | None = None,
    *,
    momentum: float | None = 0.1,
    batches: int = 0,
    training: bool = True,
    eps: float = 1e-5,
    axis: int = 1,
    out: Array | None = None,
) -> tuple[Array, BatchSaved]:
    """Batch normalization of each channel: y = (x - mean)·rstd·weight + bias, rstd = 1/√(variance + eps).

    In training mean and (biased) variance are those of all samples of x, and running statistics move in place:
    running += (new - running)·momentum, the new variance unbiased (n/(n - 1)). Else they are the running ones.

    Args:
        x: any axes, any layout; float32, float64, bfloat16 or float16.
        weight: (channels,) of the compute type.
        bias: likewise.
        running_mean: (channels,) of the compute type, written in training.
        running_var: likewise.
        momentum: weight of the new value; None for the average of all batches so far, 1/(batches + 1).
        batches: how many batches the running statistics have seen, for a momentum of None.
        training: statistics of x, or the running ones.
        eps: at least 0.
        axis: of the channels: 1 for NC, NCL and NCHW, -1 for NHWC.
        out: takes y; may be x itself, then `saved` is of no use to the backward pass.

    Returns:
        y of the shape and dtype of x, and what `batch_norm_backward` needs.

    Raises:
        TypeError: another kind of array or dtype.
        ValueError: shapes that do not fit, one value a channel in training, no running statistics without it.

    Follows: ``torch.nn.functional.batch_norm``.

    Example:
        >>> y, saved = batch_norm(np.array([[1.0], [3.0]]), eps=0.0)
        >>> y.tolist(), saved.mean.tolist()
        ([[-1.0], [1.0]], [2.0])
    """
    owner = "batch_norm"
    training = _check.boolean(owner, "training", training)
    shape = _channels(owner, require_floats(owner, "x", x), axis)
    of_channel, compute = (shape[1],), compute_dtype(x)
    eps = _check.number(owner, "eps", eps, low=0.0)
    new = _new_weight(owner, momentum, batches)
    has_weight = weight is not None
    bias = check_weight(owner, "bias", bias, of_channel, compute, x)
    weight = check_weight(owner, "weight", weight, of_channel, compute, x)
    running = _running(owner, running_mean, running_var, of_channel, x)
    if running is None and not training:
        raise ValueError(f"{owner}: running_mean and running_var must be given unless training, got None")
    if bias is not None and weight is None:
        weight = namespace(x).ones_like(bias)
    y = output(owner, "out", out, x.shape, x.dtype, x)
    values = shape[0] * shape[2]
    if training and values == 1:
        raise ValueError(f"{owner}: x must have more than one value per channel in training, got shape {x.shape}")
    source: Array | None = x
    read: Four = (x, weight, bias, None)
    if out is not None:
        weight, read = unwritten(weight, (out,)), apart(read, (out,))
        source = None if meets(x, out) else x
    assert read[0] is not None
    arrays = read[0], read[1], read[2]
    mean, rstd = core_of(x).batch_norm(owner, y, arrays, running, new, eps, training, shape)
    return y, BatchSaved(source, weight, mean, rstd, has_weight, bias is not None, training, shape)


def _channels(owner: str, x: Array, axis: int) -> tuple[int, int, int]:
    """Samples, channels and what is behind them."""
    if x.ndim < 2:
        raise ValueError(f"{owner}: x must have samples and channels, got shape {x.shape}")
    axis = _check.integer(owner, "axis", axis, low=-x.ndim, high=x.ndim - 1) % x.ndim
    return math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])


def _new_weight(owner: str, momentum: float | None, batches: int) -> float:
    """The weight of the new statistics."""
    batches = _check.integer(owner, "batches", batches, low=0)
    return 1.0 / (batches + 1) if momentum is None else _check.number(owner, "momentum", momentum, low=0.0, high=1.0)


def _running(owner: str, mean: object, var: object, shape: tuple[int, ...], x: Array) -> tuple[Array, Array] | None:
    """Both running statistics or none."""
    checked_mean = check_weight(owner, "running_mean", mean, shape, compute_dtype(x), x)
    checked_var = check_weight(owner, "running_var", var, shape, compute_dtype(x), x)
    if (checked_mean is None) != (checked_var is None):
        raise ValueError(f"{owner}: running_mean and running_var must be given together, got one")
    return None if checked_mean is None or checked_var is None else (checked_mean, checked_var)


def batch_norm_backward(
    dy: Array, saved: BatchSaved, *, out: tuple[Array | None, Array | None, Array | None] | None = None
) -> tuple[Array, Array | None, Array | None]:
    """Gradients of `batch_norm`.

    In training dx = (g - mean(g) - x̂·mean(g·x̂))·rstd with g = dy·weight and means over the channel, else
    dx = dy·rstd·weight. dweight = Σ dy·x̂ and dbias = Σ dy, sums in float64 whose shape is fixed by that of x.

    Args:
        dy: shape and dtype of x.
        saved: of the forward pass; x and weight must be as they were.
        out: arrays for the three gradients, or None for a new one; that of dx may be dy or x itself.

    Returns:
        dx of the dtype of x, dweight and dbias of the compute type; None for what the forward pass did without.

    Raises:
        TypeError: another kind of array or dtype.
        ValueError: shapes that do not fit, or a forward pass that wrote over x.

    Example:
        >>> y, saved = batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1))
        >>> dx, dweight, dbias = batch_norm_backward(np.ones((2, 1)), saved)
        >>> dx.tolist(), dbias.tolist()
        ([[0.0], [0.0]], [2.0])
    """
    dx, dweight, dbias = differentiate("batch_norm_backward", dy, saved, out)
    assert dx is not None
    return dx, dweight, dbias


def differentiate(
    owner: str,
    dy: Array,
    saved: BatchSaved,
    out: tuple[Array | None, Array | None, Array | None] | None,
    input_grad: bool = True,
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients of `batch_norm`; without `input_grad` the pass that writes dx, which is None, is left out."""
    x = kept(owner, of_forward(owner, saved, BatchSaved).x)
    dy = like(owner, "dy", dy, x)
    given = outputs(owner, out, 3)
    dx = output(owner, "out[0]", given[0], x.shape, x.dtype, x) if input_grad else None
    dweight = of_places(owner, "out[1]", given[1], saved.weight if saved.has_weight else None)
    dbias = of_places(owner, "out[2]", given[2], saved.weight if saved.has_bias else None)
    if out is not None:
        check_written(owner, {"out[0]": given[0], "out[1]": given[1], "out[2]": given[2]})
    read = apart((dy, x, saved.weight, None), (given[0],))
    arrays, statistics = (read[0], read[1], read[2]), (saved.mean, saved.rstd)
    sums = core_of(x).batch_norm_backward(owner, dx, arrays, statistics, saved.training, saved.shape)
    for gradient, total in ((dweight, sums[0]), (dbias, sums[1])):
        if gradient is not None:
            gradient[...] = total
    return dx, dweight, dbias
