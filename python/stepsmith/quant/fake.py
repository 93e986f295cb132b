"""Fake quantization: numbers rounded as if they had been codes, and gradients that go straight through."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepsmith import _check
from stepsmith._backend import core_of, is_on_gpu, namespace
from stepsmith._outputs import (
    check_written,
    compute_dtype,
    kept,
    like,
    meets,
    of_forward,
    output,
    outputs,
    require_floats,
)
from stepsmith.quant._numbers import as_numbers, spread

__all__ = ["FakeSaved", "fake_quantize", "fake_quantize_backward"]

Array = NDArray[Any]

# Codes and their distances stay exact, and so does the sum that rounds.
LARGEST = 2**20


@dataclass(slots=True)
class FakeSaved:
    """What a forward pass leaves for its backward pass.

    Attributes:
        x: the array that was quantized, not a copy; None if the output took its memory.
        scales: of the compute type's values, one a channel.
        zero_points: likewise.
        bounds: the least and the largest code, and whether numbers were multiplied by 1 / scale.
        shape: samples, channels, elements of a channel in a sample.
        steps_shape: the shape of the scales.
    """

    x: Array | None
    scales: NDArray[np.float64]
    zero_points: NDArray[np.float64]
    bounds: tuple[float, float, bool]
    shape: tuple[int, int, int]
    steps_shape: tuple[int, ...]


def fake_quantize(
    x: Array,
    scale: ArrayLike,
    zero_point: ArrayLike = 0,
    qmin: int = -128,
    qmax: int = 127,
    axis: int | None = None,
    *,
    convention: str = "torch",
    out: Array | None = None,
) -> tuple[Array, FakeSaved]:
    """Fake quantization: y = (clamp(round(x / scale) + zero_point, qmin, qmax) - zero_point) · scale.

    Rounds half to even. NaN stays NaN. Follows ``torch.fake_quantize_per_tensor_affine`` and ``_per_channel_affine``.
    Scales and zero points that are arrays of CuPy are taken as they are: a look at them would wait for the GPU.

    Args:
        x: float32, float64, bfloat16 or float16, any layout; computed in float32, or in float64 for float64.
        scale: one number, or with `axis` one for each index, of CuPy if `x` is; above 0, rounded to the compute type.
        zero_point: integers in [qmin, qmax], likewise.
        qmin: the least code.
        qmax: the largest code.
        axis: that has a scale for each index; may be negative. None for one scale.
        convention: "torch" multiplies by 1 / scale, "onnx" divides by the scale.
        out: takes y; may be x itself, then `saved` is of no use to the backward pass.

    Returns:
        y of the shape and dtype of x, and what `fake_quantize_backward` needs.

    Raises:
        TypeError, ValueError: another kind of array, numbers out of range. Nothing is written then.

    Example:
        >>> y, saved = ss.quant.fake_quantize(np.array([0.3, 0.6, 9.0]), 0.5, qmin=-4, qmax=3)
        >>> y
        array([0.5, 0.5, 1.5])
    """
    owner = "fake_quantize"
    require_floats(owner, "x", x)
    qmin = _check.integer(owner, "qmin", qmin, low=-LARGEST)
    qmax = _check.integer(owner, "qmax", qmax, low=qmin + 1, high=LARGEST)
    _check.one_of(owner, "convention", convention, ("onnx", "torch"))
    steps, shape = _shapes(owner, x, axis)
    scales = _given_scales(owner, scale, steps, x)
    points = _given_points(owner, zero_point, (qmin, qmax), steps, x)
    y = output(owner, "out", out, x.shape, x.dtype, x)
    check_written(owner, {"out": out})
    bounds = float(qmin), float(qmax), convention == "torch"
    source = None if meets(x, out) else x
    core_of(x).fake_quantize(owner, y, (x, None), scales, points, namespace(x).empty(0), bounds, shape)
    return y, FakeSaved(source, scales, points, bounds, shape, steps)


def fake_quantize_backward(
    dy: Array, saved: FakeSaved, *, out: tuple[Array | None, Array | None] | None = None
) -> tuple[Array, Array]:
    """Gradients of `fake_quantize`: straight through for x, learned step size for the scale.

    With r = round(x / scale) + zero_point: dx = dy where r is in [qmin, qmax], else 0; dscale = Σ dy · t, t being
    r - zero_point - x / scale there, qmin - zero_point below and qmax - zero_point above (Esser et al., "Learned Step
    Size Quantization", 2020, with PyTorch's bounds of the rounded number). The sum is one of float64 in a fixed order;
    LSQ's factor 1 / √(size · qmax) is the caller's.

    Args:
        dy: shape and dtype of x.
        saved: of the forward pass; x must be as it was.
        out: arrays for dx (may be dy itself) and dscale, or None for a new one.

    Returns:
        dx of the dtype of x, and dscale of the shape of the scales and the compute type.

    Example:
        >>> y, saved = ss.quant.fake_quantize(np.array([0.3, 0.6, 9.0]), 0.5, qmin=-4, qmax=3)
        >>> dx, dscale = ss.quant.fake_quantize_backward(np.ones(3), saved)
        >>> dx, float(dscale.round(9))
        (array([1., 1., 0.]), 3.2)
    """
    owner = "fake_quantize_backward"
    saved = of_forward(owner, saved, FakeSaved)
    x = kept(owner, saved.x)
    like(owner, "dy", dy, x)
    first, second = outputs(owner, out, 2)
    dx = output(owner, "out[0]", first, x.shape, x.dtype, x)
    dscale = output(owner, "out[1]", second, saved.steps_shape, compute_dtype(x), x)
    check_written(owner, {"out[0]": first, "out[1]": second})
    for name, array in (("x", x), ("dy", dy)):
        if meets(array, second):
            raise ValueError(f"{owner}: out[1] and {name} must not share memory, got arrays that overlap")
    sums = namespace(x).zeros(saved.scales.size)
    core_of(x).fake_quantize(owner, dx, (x, dy), saved.scales, saved.zero_points, sums, saved.bounds, saved.shape)
    dscale[...] = sums.reshape(saved.steps_shape)
    return dx, dscale


def _shapes(owner: str, x: Array, axis: int | None) -> tuple[tuple[int, ...], tuple[int, int, int]]:
    """The shape of the scales; samples, channels, elements of a channel in a sample."""
    if axis is None:
        return (), (1, 1, x.size)
    if not x.ndim:
        raise ValueError(f"{owner}: x must have an axis, got shape ()")
    axis = _check.integer(owner, "axis", axis, low=-x.ndim, high=x.ndim - 1) % x.ndim
    return (x.shape[axis],), (prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1 :]))


def _given_scales(owner: str, scale: ArrayLike, shape: tuple[int, ...], x: Array) -> NDArray[np.float64]:
    """One scale for each channel, of the compute type's values."""
    scales = _numbers(owner, "scale", scale, x).astype(compute_dtype(x), copy=False)
    if not is_on_gpu(scales):
        good = np.isfinite(scales) & (scales >= np.finfo(np.float32).tiny)
        if not good.all():
            raise ValueError(f"{owner}: scale must be finite normal numbers above 0, got {scales[~good][0]}")
    return spread(owner, "scale", scales, shape, x, np.float64).reshape(-1)


def _given_points(
    owner: str, zero_point: ArrayLike, bounds: tuple[int, int], shape: tuple[int, ...], x: Array
) -> NDArray[np.float64]:
    points = _numbers(owner, "zero_point", zero_point, x).astype(np.float64, copy=False)
    if not is_on_gpu(points):
        qmin, qmax = bounds
        good = (points >= qmin) & (points <= qmax) & (points == np.floor(points))
        if not good.all():
            raise ValueError(f"{owner}: zero_point must be integers in [{qmin}, {qmax}], got {points[~good][0]:g}")
    return spread(owner, "zero_point", points, shape, x, np.float64).reshape(-1)


def _numbers(owner: str, name: str, value: ArrayLike, x: Array) -> Array:
    numbers = as_numbers(owner, name, value, x)
    if numbers.dtype.kind not in "iuf":
        raise TypeError(f"{owner}: {name} must be numbers, got {numbers.dtype}")
    return numbers
