"""Integers times a scale: for a tensor, an axis or groups of a row."""

from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepsmith import _check
from stepsmith._backend import core_of, is_on_gpu, namespace, one_core
from stepsmith._outputs import require_floats
from stepsmith._recycled import empty
from stepsmith.quant._numbers import as_numbers, check_shape, is_array, one_of, spread
from stepsmith.quant._scheme import FLOAT32, UINT8, Parts, Scheme, Spec, as_bytes
from stepsmith.quant.array import QuantizedArray, check_out

__all__ = ["Affine", "quantize_affine"]

Array = NDArray[Any]
INT32 = np.dtype(np.int32)

SCALINGS = {"narrow": 0.0, "observer": 0.5, "full": 1.0}
"""What is added to the largest code: the sum divides the largest magnitude."""


@dataclass(frozen=True)
class Affine(Scheme):
    """Integers q of 2 to 8 bits that stand for (q - zero_point) · scale.

    q = round(clamp(x / scale, qmin - zero_point, qmax - zero_point)) + zero_point, half to even. Symmetric: the zero
    point is 0, scale = absmax / qmax and codes are in [-qmax, qmax] with qmax = 2^(bits - 1) - 1. Asymmetric: codes are
    in [0, 2^bits - 1], scale = (max - min) / qmax of a range that includes 0, zero_point = round(-min / scale). A range
    so small that the scale is no normal number has scale 1 and zero point 0. 0 always stays 0.

    Codes of 8 bits and of odd widths are int8 (symmetric) or uint8. Two codes of 4 bits and four of 2 share a uint8,
    the first in the lowest bits: of the flattened array, or with groups of each row. One sweep over the array where
    a scale belongs to at most 65,536 elements one after another, else one more for the ranges.

    Args:
        bits: 2 to 8.
        symmetric: codes around 0; else the whole range from min to max.
        axis: that has a scale for each index; may be negative. None for one scale.
        group_size: elements of the last axis that share a scale, instead of `axis`; the last group of a row may be
            shorter. A multiple of 2 at 4 bits and of 4 at 2 bits.
        convention: "onnx" divides by the scale, "torch" multiplies by 1 / scale: they differ in rare codes by 1.
        scaling: of symmetric codes; "narrow" as above, "observer" absmax / (qmax + 1/2) and "full" absmax / (qmax + 1),
            both with codes from -qmax - 1. PyTorch's observers follow "observer".

    Example:
        >>> q = ss.quant.quantize(np.array([[0, 1, -2, 0.5]], np.float32), ss.quant.Affine(symmetric=False, axis=0))
        >>> q.codes, q.scales, q.parts["zero_points"]
        (array([[170, 255,   0, 212]], dtype=uint8), array([0.01176471], dtype=float32), array([170], dtype=int32))
    """

    bits: int = 8
    symmetric: bool = True
    axis: int | None = None
    group_size: int | None = None
    convention: str = "onnx"
    scaling: str = "narrow"
    name: ClassVar[str] = "affine"

    def __post_init__(self) -> None:
        _check.integer("Affine", "bits", self.bits, low=2, high=8)
        _check.boolean("Affine", "symmetric", self.symmetric)
        _check.one_of("Affine", "convention", self.convention, ("onnx", "torch"))
        _check.one_of("Affine", "scaling", self.scaling, SCALINGS)
        if not self.symmetric and self.scaling != "narrow":
            raise ValueError(f"Affine: scaling must be 'narrow' for asymmetric codes, got {self.scaling!r}")
        if self.axis is not None:
            _check.integer("Affine", "axis", self.axis)
        if self.group_size is None:
            return
        _check.integer("Affine", "group_size", self.group_size, low=1)
        if self.axis is not None:
            raise ValueError(f"Affine: axis must be None with group_size, got {self.axis}")
        if self.group_size % self._of_byte:
            raise ValueError(f"Affine: group_size must be a multiple of {self._of_byte}, got {self.group_size}")

    @property
    def qmin(self) -> int:
        """The least code."""
        if not self.symmetric:
            return 0
        return -self.qmax - (self.scaling != "narrow")

    @property
    def qmax(self) -> int:
        """The largest code."""
        return int(2 ** (self.bits - 1 if self.symmetric else self.bits) - 1)

    @property
    def _of_byte(self) -> int:
        """Codes that share a byte."""
        return {2: 4, 4: 2}.get(self.bits, 1)

    def parts(self, shape: tuple[int, ...]) -> dict[str, Spec]:
        """Codes, scales, and zero points of asymmetric codes."""
        steps = self.steps_shape(shape)
        specs = {"codes": self._codes(shape), "scales": Spec(steps, FLOAT32)}
        return specs if self.symmetric else {**specs, "zero_points": Spec(steps, INT32)}

    def _codes(self, shape: tuple[int, ...]) -> Spec:
        if self._of_byte == 1:
            return Spec(shape, np.dtype(np.int8) if self.symmetric else UINT8)
        if self.group_size is None or not shape:
            return Spec((-(-prod(shape) // self._of_byte),), UINT8)
        return Spec((*shape[:-1], -(-shape[-1] // self._of_byte)), UINT8)

    def steps_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the scales of an array."""
        if self.group_size is not None:
            return (*shape[:-1], -(-shape[-1] // self.group_size)) if shape else (1,)
        return () if self.axis is None else (shape[self._axis(shape)],)

    def _axis(self, shape: tuple[int, ...]) -> int:
        assert self.axis is not None
        if not -len(shape) <= self.axis < len(shape):
            raise ValueError(f"Affine: axis must be one of an array of shape {shape}, got {self.axis}")
        return self.axis % len(shape)

    def _cut(self, shape: tuple[int, ...]) -> tuple[bool, int, int, int]:
        """Which scale belongs to an element, as the core takes it."""
        if self.group_size is not None:
            return True, prod(shape[:-1]), (shape[-1] if shape else 1), self.group_size
        if self.axis is None:
            return False, 1, prod(shape), prod(shape)
        axis = self._axis(shape)
        return False, shape[axis], prod(shape[axis + 1 :]), prod(shape)

    def _grid(self) -> tuple[int, int, int, float | None, bool]:
        """The codes, as the core takes them."""
        divisor = self.qmax + SCALINGS[self.scaling] if self.symmetric else None
        return self.bits, self.qmin, self.qmax, divisor, self.convention == "torch"

    def quantize(self, owner: str, x: Array, parts: Parts, nan: str, checks_first: bool) -> None:
        """Fills the parts."""
        scales, zero_points = parts["scales"].reshape(-1), _points(parts)
        codes, zeroes = as_bytes(parts["codes"], x), nan == "zero"
        core_of(x).affine_quantize(
            owner, self._grid(), self._cut(x.shape), x, codes, scales, zero_points, zeroes, checks_first
        )

    def dequantize(self, owner: str, parts: Parts, out: Array) -> None:
        """Fills `out`."""
        scales, zero_points = parts["scales"].reshape(-1), _points(parts)
        codes = as_bytes(parts["codes"], out)
        core_of(out).affine_dequantize(owner, self._grid(), self._cut(out.shape), codes, scales, zero_points, out)

    def steps(self, low: ArrayLike, high: ArrayLike) -> tuple[Array, Array]:
        """Scales and zero points of ranges of numbers.

        Args:
            low: the smallest numbers; what is above 0 counts as 0.
            high: the largest numbers, likewise.

        Returns:
            float32 and int32, of the shape that `low` and `high` broadcast to; of CuPy if these are.
        """
        core = one_core("Affine", {"low": low if is_array(low) else None, "high": high if is_array(high) else None})
        own = namespace(low if is_on_gpu(low) else high)
        below, above = own.broadcast_arrays(own.asarray(low, np.float64), own.asarray(high, np.float64))
        shape = below.shape
        if own.isnan(below).any() or own.isnan(above).any():
            raise ValueError("Affine: low and high must not be NaN, got one")
        with np.errstate(over="ignore", under="ignore"):
            below, above = (own.maximum(x, 0.0).astype(np.float32).ravel() for x in (-below, above))
        scales, zero_points = own.empty(shape, np.float32), own.empty(shape, np.int32)
        core.affine_steps(self._grid(), below, above, scales.reshape(-1), zero_points.reshape(-1))
        return scales, zero_points


def _points(parts: Parts) -> Array:
    points = parts.get("zero_points")
    none: Array = namespace(parts["scales"]).empty(0, np.int32)
    return none if points is None else points.reshape(-1)


def quantize_affine(
    x: Array,
    scheme: Affine,
    scale: ArrayLike,
    zero_point: ArrayLike | None = None,
    out: QuantizedArray | None = None,
    nan: str = "raise",
) -> QuantizedArray:
    """Codes of an array with scales and zero points that are known, in one sweep.

    Args:
        x: float32, float64, bfloat16 or float16, of any shape and layout.
        scheme: how.
        scale: one number, or one for each that the scheme has, of CuPy if `x` is; finite and above 0, rounded to
            float32.
        zero_point: likewise, codes of the scheme; None or 0 for symmetric codes.
        out: what a call with the same scheme and shape returned; its arrays are filled again.
        nan: "raise" a ValueError at NaN, or take it for "zero". With `out` NaN is looked for before anything is
            written, which is a sweep of its own: "zero" does without.

    Returns:
        The codes with these scales, `out` if it was given.

    Raises:
        TypeError, ValueError: as `quantize`, and scales or zero points that the scheme cannot have.

    Example:
        >>> x, scheme = np.array([0.26, -9, 1.25], np.float32), ss.quant.Affine(bits=4)
        >>> q = ss.quant.quantize_affine(x, scheme, 0.5)
        >>> q.codes, q.dequantize()
        (array([145,   2], dtype=uint8), array([ 0.5, -3.5,  1. ], dtype=float32))
    """
    owner = "quantize_affine"
    require_floats(owner, "x", x)
    if not isinstance(scheme, Affine):
        raise TypeError(f"{owner}: scheme must be an Affine, got {scheme!r}")
    _check.one_of(owner, "nan", nan, ("raise", "zero"))
    specs = scheme.parts(x.shape)
    scales = _given_scales(owner, scale, specs["scales"].shape, x)
    points = _given_points(owner, zero_point, scheme, scales)
    if out is not None:
        check_out(owner, out, x, scheme)
    codes = empty(*specs["codes"], x) if out is None else out.codes
    cut, zeroes = scheme._cut(x.shape), nan == "zero"
    core_of(x).affine_quantize_given(
        owner, scheme._grid(), cut, x, as_bytes(codes, x), scales.ravel(), points.ravel(), zeroes, out is not None
    )
    parts = {"codes": codes, "scales": scales} | ({} if scheme.symmetric else {"zero_points": points})
    if out is None:
        return QuantizedArray(scheme, x.shape, parts)
    for name in parts.keys() - {"codes"}:
        out.parts[name][...] = parts[name]
    return out


def _given_scales(owner: str, scale: ArrayLike, shape: tuple[int, ...], x: Array) -> NDArray[np.float32]:
    """The scales as float32 of that shape, where `x` is."""
    numbers = as_numbers(owner, "scale", scale, x)
    if numbers.dtype.kind not in "iuf" and numbers.dtype != "bfloat16":
        raise TypeError(f"{owner}: scale must be numbers, got {numbers.dtype}")
    with np.errstate(over="ignore", under="ignore"):
        single = numbers.astype(np.float32, copy=False)
    good = namespace(single).isfinite(single) & (single >= np.finfo(np.float32).tiny)
    scales: NDArray[np.float32] = spread(owner, "scale", single, shape, x, np.float32)
    if not good.all():
        rule = "finite normal float32 numbers above 0"
        raise ValueError(f"{owner}: scale must be {rule}, got {one_of(numbers if not shape else single[~good])}")
    return scales


def _given_points(owner: str, zero_point: ArrayLike | None, scheme: Affine, scales: Array) -> Array:
    points = as_numbers(owner, "zero_point", 0 if zero_point is None else zero_point, scales)
    if points.dtype.kind not in "iu":
        raise TypeError(f"{owner}: zero_point must be integers, got {points.dtype}")
    low, high = (0, 0) if scheme.symmetric else (scheme.qmin, scheme.qmax)
    check_shape(owner, "zero_point", points, scales.shape)
    bad = points[(points < low) | (points > high)]
    if bad.size:
        rule = "0 for symmetric codes" if scheme.symmetric else f"in [{low}, {high}]"
        raise ValueError(f"{owner}: zero_point must be {rule}, got {one_of(bad)}")
    if scheme.symmetric:
        none: Array = namespace(scales).empty(0, np.int32)
        return none
    return spread(owner, "zero_point", points, scales.shape, scales, np.int32)
