"""Products with quantized weights, whose codes are never written out as floats."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith import _check
from stepsmith._backend import addresses, one_core
from stepsmith._outputs import meets, output, require_floats
from stepsmith.quant._scheme import FLOAT32, Scheme, as_bytes
from stepsmith.quant.affine import Affine
from stepsmith.quant.array import QuantizedArray
from stepsmith.quant.blockwise import FP4, NF4

__all__ = ["matmul", "multiplies"]

Array = NDArray[Any]


def matmul(q: QuantizedArray, x: Array, out: Array | None = None, activations: str = "float32") -> Array:
    """Multiply by the transpose of a quantized weight W, which is decoded in registers: x · Wᵀ.

    The sum of an output has one shape at any CPU level, number of threads and split of the batch. Of elements that
    share a scale, number i goes to lane i mod 16, each lane a float32 sum in order of products code · x; the lanes
    times the scale are added to lanes of the row, and these fold by halves (lane i + lane i + 8, then 4, 2, 1). With
    activations "int8" each row of x becomes integers first: scale = absmax / 127 (1 if that is no normal number),
    x / scale half to even. The sum of the products of integers that share a scale is exact; times the scale, in
    float32, it is added to the row's sum, which is multiplied by the scale of the activations. W is read once for four
    rows of x.

    Args:
        q: of shape (outputs, inputs), by `NF4`, `FP4`, or symmetric `Affine` of 8 or 4 bits with one scale, one for
            each row (axis 0) or for groups.
        x: (..., inputs), float32, float64, bfloat16 or float16 of any layout, rounded to float32 as it is read.
        out: float32 of shape (..., outputs), of any layout; it must share no memory with x and q.
        activations: "float32" as they are, or "int8" quantized, for `Affine` weights.

    Returns:
        `out`, or a new array.

    Raises:
        TypeError, ValueError: other weights, another kind of array or shape, an `out` that overlaps; for "int8" what is
            not finite. Nothing has been written then.

    Example:
        >>> w = np.array([[1, -1, 0, 2], [0, 3, 3, 0]], np.float32)
        >>> q = ss.quant.quantize(w, ss.quant.Affine(axis=0))
        >>> q.matmul(np.ones(4, np.float32)).round(2), q.matmul(np.ones((1, 4), np.float32), activations="int8").shape
        (array([2., 6.], dtype=float32), (1, 2))
    """
    if not isinstance(q, QuantizedArray):
        raise TypeError(f"matmul: q must be a QuantizedArray, got {type(q).__name__}")
    _check.one_of("matmul", "activations", activations, ("float32", "int8"))
    kind, steps = _weights(q, activations)
    require_floats("matmul", "x", x)
    rows, length = q.shape
    if x.ndim < 1 or x.shape[-1] != length:
        raise ValueError(f"matmul: x must have shape (..., {length}) for weights of shape {q.shape}, got {x.shape}")
    core = one_core("matmul", {"x": x, "q": q.codes, "out": out})
    out = output("matmul", "out", out, (*x.shape[:-1], rows), FLOAT32, x)
    for name, part in {"x": x, **{f"q.parts['{name}']": part for name, part in q.parts.items()}}.items():
        if meets(part, out) and np.shares_memory(addresses(part), addresses(out)):
            raise ValueError(f"matmul: out and {name} must not share memory, got ones that overlap")
    codes, scales = as_bytes(q.codes, x), q.scales.reshape(-1)
    core.matmul_codes("matmul", kind, codes, scales, (rows, length), steps, x, out, activations == "int8")
    return out


def multiplies(q: QuantizedArray) -> bool:
    """Does `matmul` take these weights?"""
    return q.ndim == 2 and _codes(q.scheme, q.ndim)[0] is not None and _is_plain(q)


def _is_plain(q: QuantizedArray) -> bool:
    """Codes and float32 scales, and nothing else?"""
    return set(q.parts) == {"codes", "scales"} and q.scales.dtype == FLOAT32


def _weights(q: QuantizedArray, activations: str) -> tuple[str, tuple[str, int]]:
    """Name of the codes, and which of them share a scale."""
    kind, steps = _codes(q.scheme, q.ndim)
    if kind is None or not _is_plain(q):
        rule = "NF4, FP4, or symmetric Affine of 8 or 4 bits with one scale, one for axis 0 or for groups"
        raise ValueError(f"matmul: q must be quantized by {rule}, got {q.scheme!r}")
    if q.ndim != 2:
        raise ValueError(f"matmul: q must have shape (outputs, inputs), got {q.shape}")
    if activations == "int8" and not kind.startswith("int"):
        raise ValueError(f"matmul: activations must be 'float32' for weights by {q.scheme!r}, got 'int8'")
    return kind, steps


def _codes(scheme: Scheme, ndim: int) -> tuple[str | None, tuple[str, int]]:
    if isinstance(scheme, NF4 | FP4):
        return scheme.name, ("blocks", scheme.block_size)
    if not isinstance(scheme, Affine) or not scheme.symmetric or scheme.bits not in (4, 8):
        return None, ("all", 0)
    kind = f"int{scheme.bits}"
    if scheme.group_size is not None:
        return kind, ("groups", scheme.group_size)
    if scheme.axis is None:
        return kind, ("all", 0)
    return (kind if scheme.axis in (0, -ndim) else None), ("rows", 0)
