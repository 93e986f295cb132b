"""Quantized arrays, and the way there and back."""

from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stepsmith import _check
from stepsmith._backend import addresses, as_device, device_of, moved, one_core, require_same_kind
from stepsmith._outputs import FLOATS, meets, output, require_floats
from stepsmith._recycled import empty
from stepsmith.quant._figures import QuantizationError, compare
from stepsmith.quant._scheme import Scheme, kept_dtype

__all__ = ["QuantizedArray", "check_out", "dequantize", "quantize"]

Array = NDArray[Any]


class QuantizedArray:
    """Codes of a few bits, and the scales that blocks of them share.

    Made by `quantize` or from arrays that exist; it holds them without a copy.

    Args:
        scheme: how elements became codes.
        shape: of the array that was quantized.
        parts: name → array, "codes", and "scales" where the scheme has them, as ``scheme.parts(shape)`` says; all of
            NumPy or all of CuPy, which has no floats of 8 bits: theirs are uint8.

    Raises:
        TypeError, ValueError: parts that are not what the scheme says.
    """

    def __init__(self, scheme: Scheme, shape: tuple[int, ...], parts: Mapping[str, Array]) -> None:
        specs = scheme.parts(shape)
        if set(specs) != set(parts):
            raise ValueError(f"QuantizedArray: parts must be {sorted(specs)}, got {sorted(parts)}")
        for name, (wanted, dtype) in specs.items():
            kept = kept_dtype(dtype, parts[name])
            part = output("QuantizedArray", f"parts['{name}']", parts[name], wanted, kept)
            if not part.flags.c_contiguous:
                raise ValueError(f"QuantizedArray: parts['{name}'] must be in C order, got strides {part.strides}")
        one_core("QuantizedArray", {f"parts['{name}']": part for name, part in parts.items()})
        self.scheme = scheme
        self.shape = shape
        self.parts: Mapping[str, Array] = MappingProxyType(dict(parts))

    @property
    def codes(self) -> Array:
        """The codes, packed where the scheme packs them."""
        return self.parts["codes"]

    @property
    def scales(self) -> Array:
        """What the elements of a block share."""
        if "scales" not in self.parts:
            raise AttributeError(f"QuantizedArray: {self.scheme!r} has no scales")
        return self.parts["scales"]

    @property
    def size(self) -> int:
        """Elements of the array that was quantized."""
        return prod(self.shape)

    @property
    def ndim(self) -> int:
        """Axes of the array that was quantized."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in self.parts.values())

    @property
    def device(self) -> str:
        """Where the parts are: "cpu", "cuda:0" and so on."""
        return device_of(self.codes)

    def to(self, device: str) -> "QuantizedArray":
        """The same codes and scales, bit by bit, on a device.

        Args:
            device: "cpu", "cuda" for CuPy's current device, or "cuda:N".

        Returns:
            Itself if it is there, else one with copies of the parts; those of floats of 8 bits are uint8 on a GPU.

        Raises:
            TypeError, ValueError: another device, or one that this machine has not.
            ImportError: CuPy is missing.
            RuntimeError: there is no GPU or no driver.

        Example:
            >>> q = ss.quant.quantize(np.ones(3, np.float32), ss.quant.NF4())
            >>> q.to("cpu") is q
            True
        """
        target = as_device("QuantizedArray.to", device)
        if self.device == target:
            return self
        specs = self.scheme.parts(self.shape)
        parts = {name: _moved(part, specs[name].dtype, target) for name, part in self.parts.items()}
        return QuantizedArray(self.scheme, self.shape, parts)

    def dequantize(self, out: Array | None = None, dtype: DTypeLike = np.float32) -> Array:
        """The array that the codes stand for; see `dequantize`."""
        return dequantize(self, out=out, dtype=dtype)

    def error(self, x: Array) -> QuantizationError:
        """How far the codes are from the array that they were made of, in one sweep in float64.

        max = max |e|, rms = sqrt(Σe² / n), sqnr = 10·log10(Σx² / Σe²) in dB, cosine = Σxy / sqrt(Σx²·Σy²), where y is
        the decoded array, float32, and e = y - x. Nothing but y is allocated.

        Args:
            x: float32, float64, bfloat16 or float16 of this shape, of any layout. NaN and infinity go into the figures.

        Raises:
            TypeError, ValueError: another kind of array or shape.

        Example:
            >>> x = np.array([1.0, 0.5, -1.0, 0.0], np.float32)
            >>> error = ss.quant.quantize(x, ss.quant.NF4()).error(x)
            >>> f"{error.max:.4f} {error.rms:.4f} {error.sqnr:.2f} dB {error.cosine:.6f}"
            '0.0593 0.0296 28.06 dB 0.999288'
        """
        require_floats("QuantizedArray.error", "x", x)
        require_same_kind("QuantizedArray.error", "x", x, self.codes, "its parts")
        if x.shape != self.shape:
            raise ValueError(f"QuantizedArray.error: x must have shape {self.shape}, got {x.shape}")
        return compare(x, self.dequantize())

    def matmul(self, x: Array, out: Array | None = None, activations: str = "float32") -> Array:
        """Multiply by the transpose of this array, a weight of shape (outputs, inputs); see `matmul`."""
        from stepsmith.quant._matmul import matmul

        return matmul(self, x, out=out, activations=activations)

    def __reduce__(self) -> tuple[type["QuantizedArray"], tuple[Any, ...]]:
        """For copies."""
        return QuantizedArray, (self.scheme, self.shape, dict(self.parts))

    def __repr__(self) -> str:
        return f"QuantizedArray(shape={self.shape}, scheme={self.scheme!r}, nbytes={self.nbytes})"


def _moved(part: Array, dtype: np.dtype[Any], device: str) -> Array:
    """A part of that dtype on a device."""
    has_bytes = dtype.itemsize == 1
    there = moved(part.view(np.uint8) if has_bytes else part, device)
    return there.view(kept_dtype(dtype, there)) if has_bytes else there


def quantize(x: Array, scheme: Scheme, out: QuantizedArray | None = None, nan: str = "raise") -> QuantizedArray:
    """Codes and scales of an array, in one sweep over it where a scale does not span more.

    Numbers are quantized as float32: float64 is rounded to it as it is read. Infinity counts as the largest float32.

    Args:
        x: float32, float64, bfloat16 or float16, of any shape and layout.
        scheme: how.
        out: what a call with the same scheme and shape returned; its arrays are filled again.
        nan: "raise" a ValueError at NaN, or take it for "zero", which does not wait for a GPU.

    Returns:
        The codes and scales where x is, `out` if it was given.

    Raises:
        TypeError, ValueError: another kind of array, a shape that the scheme cannot hold, NaN, an `out` that does not
            fit or that `x` overlaps. Nothing has been written then.

    Example:
        >>> x = np.array([[0.0, 1.0, -2.0]], np.float32)
        >>> q = ss.quant.quantize(x, ss.quant.NF4())
        >>> q.dequantize()
        array([[ 0.        ,  0.88141966, -2.        ]], dtype=float32)
    """
    require_floats("quantize", "x", x)
    require_scheme("quantize", scheme)
    _check.one_of("quantize", "nan", nan, ("raise", "zero"))
    specs = scheme.parts(x.shape)
    if out is not None:
        check_out("quantize", out, x, scheme)
        scheme.quantize("quantize", x, out.parts, nan, True)
        return out
    parts = {name: empty(shape, kept_dtype(dtype, x), x) for name, (shape, dtype) in specs.items()}
    scheme.quantize("quantize", x, parts, nan, False)
    return QuantizedArray(scheme, x.shape, parts)


def require_scheme(owner: str, scheme: object) -> Scheme:
    """The scheme, which must be one."""
    if not isinstance(scheme, Scheme):
        raise TypeError(f"{owner}: scheme must be one of stepsmith.quant, such as NF4(), got {scheme!r}")
    return scheme


def check_out(owner: str, out: object, x: Array, scheme: Scheme) -> None:
    """An output, which must be of that scheme, writable and apart from `x`."""
    if not isinstance(out, QuantizedArray):
        raise TypeError(f"{owner}: out must be a QuantizedArray, got {type(out).__name__}")
    if (out.scheme, out.shape) != (scheme, x.shape):
        raise ValueError(f"{owner}: out must have scheme {scheme!r} and shape {x.shape}, got {out!r}")
    require_same_kind(owner, "out.parts['codes']", out.codes, x, "the others")
    for name, part in out.parts.items():
        if not addresses(part).flags.writeable:
            raise ValueError(f"{owner}: out.parts['{name}'] must be writable, got a read-only array")
        if meets(part, x):
            raise ValueError(f"{owner}: out.parts['{name}'] and x must not share memory, got arrays that overlap")


def dequantize(q: QuantizedArray, out: Array | None = None, dtype: DTypeLike = np.float32) -> Array:
    """The array that the codes stand for.

    Args:
        q: what `quantize` returned.
        out: float32, float64, bfloat16 or float16 of its shape, of any layout; each number is rounded once.
        dtype: of a new array, without `out`.

    Returns:
        `out`, or a new array.

    Raises:
        TypeError, ValueError: another kind of array or shape, or an `out` that overlaps the codes.
    """
    if not isinstance(q, QuantizedArray):
        raise TypeError(f"dequantize: q must be a QuantizedArray, got {type(q).__name__}")
    if out is None:
        wanted = np.dtype(dtype)
        if wanted not in FLOATS:
            raise TypeError(f"dequantize: dtype must be float32, float64, bfloat16 or float16, got {wanted}")
        out = empty(q.shape, wanted, q.codes)
    else:
        require_floats("dequantize", "out", out)
        output("dequantize", "out", out, q.shape, out.dtype, q.codes)
        for name, part in q.parts.items():
            if meets(part, out):
                raise ValueError(f"dequantize: out and q.parts['{name}'] must not share memory, got ones that overlap")
    q.scheme.dequantize("dequantize", q.parts, out)
    return out
