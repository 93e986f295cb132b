"""Microscaling: short blocks of small floats along the last axis, each under a scale of one byte."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import ml_dtypes
import numpy as np

from stepsmith import _check
from stepsmith._backend import core_of, is_on_gpu
from stepsmith.quant._scheme import FLOAT32, UINT8, Array, Blocks, CodecScheme, Parts, Spec, as_bytes
from stepsmith.quant.float8 import FORMATS

__all__ = ["MX", "NVFP4"]

E8M0 = np.dtype(ml_dtypes.float8_e8m0fnu)
ELEMENTS: Mapping[str, np.dtype[Any] | None] = {
    "mxfp8_e4m3": FORMATS["e4m3fn"],
    "mxfp8_e5m2": FORMATS["e5m2"],
    "mxfp4": None,
}
"""Formats and their codes' dtypes; None for two codes a byte."""


class _Rows(CodecScheme):
    """Blocks along the last axis; the last block of a row may be shorter, and each row begins with its own byte."""

    block: ClassVar[int]

    def _blocks(self, shape: tuple[int, ...]) -> Blocks:
        *lead, length = shape or (1,)
        return Blocks(prod(lead), length, self.block)

    def _specs(self, shape: tuple[int, ...], codes: np.dtype[Any] | None, scales: np.dtype[Any]) -> dict[str, Spec]:
        *lead, length = shape or (1,)
        packed = Spec((*lead, -(-length // 2)), UINT8)
        of_blocks = Spec((*lead, -(-length // self.block)), scales)
        return {"codes": packed if codes is None else Spec(shape, codes), "scales": of_blocks}


@dataclass(frozen=True)
class MX(_Rows):
    """OCP microscaling: blocks of 32 elements along the last axis under a power of two.

    scale = 2^(floor(log2 absmax) - emax), at least 2^-127, as a byte of the format e8m0; emax is 8 for mxfp8_e4m3, 15
    for mxfp8_e5m2, 2 for mxfp4. code = x / scale rounded half to even, the largest number if it is too large, decoded
    as code · scale. A block of zeros has the byte 0. A block with infinity has the byte 0xFF, NaN: it decodes to NaN as
    a whole (OCP Microscaling Formats 1.0, 2023).

    Args:
        format: "mxfp8_e4m3", "mxfp8_e5m2", or "mxfp4": 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives, two codes a
            byte, the first in the low half.

    Example:
        >>> q = ss.quant.quantize(np.array([[5.0, -0.6, 0.1]], np.float32), ss.quant.MX("mxfp4"))
        >>> q.dequantize().tolist(), q.codes.tolist(), q.scales.view(np.uint8).tolist()
        ([[4.0, -0.5, 0.0]], [[150, 0]], [[127]])
    """

    format: str = "mxfp8_e4m3"
    name: ClassVar[str] = "mx"
    block: ClassVar[int] = 32

    def __post_init__(self) -> None:
        _check.one_of("MX", "format", self.format, ELEMENTS)

    def parts(self, shape: tuple[int, ...]) -> dict[str, Spec]:
        """Codes in the array's shape, or rows of half as many bytes, and rows of scales."""
        return self._specs(shape, ELEMENTS[self.format], E8M0)

    def codec(self) -> tuple[str, list[float]]:
        """Named as the core has it."""
        return self.format, []


@dataclass(frozen=True)
class NVFP4(_Rows):
    """4-bit floats in blocks of 16 along the last axis, under e4m3 scales, under one scale of the tensor.

    tensor_scale = absmax of the tensor / 2688, at least 2^-149; scale = absmax of the block / tensor_scale / 6 rounded
    to float8_e4m3fn; code = x / (scale · tensor_scale) rounded half to even to 0, 0.5, 1, 1.5, 2, 3, 4, 6 or their
    negatives, two codes a byte, the first in the low half; decoded as code · (scale · tensor_scale). The tensor's
    absmax takes a sweep of its own. As NVIDIA's format of that name.

    Example:
        >>> q = ss.quant.quantize(np.array([[6.0, -1.1, 0.4]], np.float32), ss.quant.NVFP4())
        >>> q.dequantize().tolist(), q.scales.astype(float).tolist()
        ([[6.0, -1.0, 0.5]], [[448.0]])
    """

    name: ClassVar[str] = "nvfp4"
    block: ClassVar[int] = 16

    def parts(self, shape: tuple[int, ...]) -> dict[str, Spec]:
        """Rows of half as many bytes as elements, rows of scales, and the tensor's scale."""
        return {**self._specs(shape, None, FORMATS["e4m3fn"]), "tensor_scale": Spec((), FLOAT32)}

    def codec(self) -> tuple[str, list[float]]:
        """Named as the core has it."""
        return self.name, []

    def _under(self, parts: Parts, shape: tuple[int, ...]) -> tuple[str, list[Any], tuple[int, int, int]]:
        scale: Any = parts["tensor_scale"]
        # A GPU reads it where it is, for which the host need not wait.
        return self.name, [scale if is_on_gpu(scale) else float(scale)], self._blocks(shape)

    def quantize(self, owner: str, x: Array, parts: Parts, nan: str, checks_first: bool) -> None:
        """Fills the parts in two sweeps over `x`; the first one checks it."""
        absmax = np.float32(core_of(x).absmax(owner, x, nan == "zero"))
        scale = absmax / np.float32(2688)
        parts["tensor_scale"][...] = max(scale, np.float32(2.0**-149)) if absmax else 0
        codes, scales = as_bytes(parts["codes"], x), as_bytes(parts["scales"], x)
        core_of(x).quantize(owner, self._under(parts, x.shape), x, codes, scales, nan == "zero", False)

    def dequantize(self, owner: str, parts: Parts, out: Array) -> None:
        """Fills `out` in one sweep."""
        codes, scales = as_bytes(parts["codes"], out), as_bytes(parts["scales"], out)
        core_of(out).dequantize(owner, self._under(parts, out.shape), codes, scales, out)
