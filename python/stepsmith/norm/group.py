"""Group norm and instance norm: channels on one axis, statistics over each group of them in a sample."""

import math
from typing import Any

from numpy.typing import NDArray

from stepsmith import _check
from stepsmith._outputs import check_weight, compute_dtype, require_floats
from stepsmith.norm import _rows
from stepsmith.norm._saved import Rows, Saved

__all__ = ["group_norm", "group_norm_backward", "instance_norm", "instance_norm_backward"]

Array = NDArray[Any]


def _forward(
    owner: str, x: Array, weight: object, bias: object, groups: int | None, eps: float, out: Array | None
) -> tuple[Array, Saved]:
    require_floats(owner, "x", x)
    if x.ndim < 2:
        raise ValueError(f"{owner}: x must have samples and channels as its first axes, got shape {x.shape}")
    eps = _check.number(owner, "eps", eps, low=0.0)
    samples, channels, run = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    groups = max(channels, 1) if groups is None else _check.integer(owner, "groups", groups, low=1)
    if channels % groups:
        raise ValueError(f"{owner}: groups must divide the {channels} channels, got {groups}")
    weight = check_weight(owner, "weight", weight, (channels,), compute_dtype(x), x)
    bias = check_weight(owner, "bias", bias, (channels,), compute_dtype(x), x)
    rows = Rows(samples * groups, channels // groups * run, groups, run)
    y, _, saved = _rows.forward(owner, x, rows, weight, bias, eps, out)
    return y, saved


def group_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    groups: int,
    eps: float = 1e-5,
    out: Array | None = None,
) -> tuple[Array, Saved]:
    """Group normalization: y = (x - mean)·rstd·weight + bias, mean and variance over a group of channels of a sample.

    Args:
        x: (samples, channels, ...), any layout; float32, float64, bfloat16 or float16.
        weight: (channels,) of the compute type.
        bias: likewise.
        groups: divides the channels; 1 takes all together, as many as channels is `instance_norm`.
        eps: at least 0.
        out: takes y; may be x itself, then `saved` is of no use to the backward pass.

    Returns:
        y of the shape and dtype of x, and what `group_norm_backward` needs.

    Raises:
        TypeError: another kind of array or dtype.
        ValueError: shapes that do not fit, groups that do not divide the channels.

    Follows: ``torch.nn.functional.group_norm``.

    Example:
        >>> y, saved = group_norm(np.array([[[1.0], [3.0]]]), groups=1, eps=0.0)
        >>> y.tolist()
        [[[-1.0], [1.0]]]
    """
    return _forward("group_norm", x, weight, bias, groups, eps, out)


def group_norm_backward(
    dy: Array, saved: Saved, *, out: tuple[Array | None, Array | None, Array | None] | None = None
) -> tuple[Array, Array | None, Array | None]:
    """Gradients of `group_norm`; as `layer_norm_backward`, with sums over samples and places for weight and bias.

    Example:
        >>> y, saved = group_norm(np.array([[[1.0], [3.0]]]), np.ones(2), groups=1)
        >>> dx, dweight, _ = group_norm_backward(np.ones((1, 2, 1)), saved)
        >>> dx.tolist()
        [[[0.0], [0.0]]]
    """
    return _rows.backward("group_norm_backward", dy, saved, out=out)


def instance_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, *, eps: float = 1e-5, out: Array | None = None
) -> tuple[Array, Saved]:
    """Instance normalization: `group_norm` with a group for each channel.

    Follows: ``torch.nn.functional.instance_norm`` with the statistics of its input.

    Example:
        >>> y, saved = instance_norm(np.array([[[1.0, 3.0]]]), eps=0.0)
        >>> y.tolist()
        [[[-1.0, 1.0]]]
    """
    return _forward("instance_norm", x, weight, bias, None, eps, out)


def instance_norm_backward(
    dy: Array, saved: Saved, *, out: tuple[Array | None, Array | None, Array | None] | None = None
) -> tuple[Array, Array | None, Array | None]:
    """Gradients of `instance_norm`; as `group_norm_backward`.

    Example:
        >>> y, saved = instance_norm(np.array([[[1.0, 3.0]]]), np.ones(1))
        >>> dx, dweight, _ = instance_norm_backward(np.ones((1, 1, 2)), saved)
        >>> dx.tolist()
        [[[0.0, 0.0]]]
    """
    return _rows.backward("instance_norm_backward", dy, saved, out=out)
