"""Codes of levels, scaled by the largest magnitude of each block of the flattened array."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from stepsmith import _check
from stepsmith._backend import core_of, namespace
from stepsmith.quant._scheme import FLOAT32, UINT8, Array, Blocks, CodecScheme, Parts, Spec, flat_blocks, power_of_two

__all__ = ["FP4", "NF4", "Dynamic8"]


@dataclass(frozen=True)
class Dynamic8(CodecScheme):
    """Dynamic 8-bit codes: seven decades of values, the larger the finer.

    code = the value nearest to x · (1 / absmax), decoded as value · absmax; absmax is that of a block of `block_size`
    elements of the flattened array. Of two values as near the one nearer to zero is taken, and 0 stays 0. As
    bitsandbytes' ``quantize_blockwise`` (Dettmers et al., "8-bit Optimizers via Block-wise Quantization", 2022), whose
    CPU code does not always take the nearest value.

    Args:
        block_size: elements that share a scale, a power of two from 32 to 4096.
        signed: values from -0.993 to 1; else from 0 to 1, twice as fine, and what is below 0 becomes 0.

    Example:
        >>> q = ss.quant.quantize(np.linspace(-1, 1, 512, dtype=np.float32), ss.quant.Dynamic8())
        >>> q.codes.dtype, q.scales.shape
        (dtype('uint8'), (2,))
    """

    block_size: int = 256
    signed: bool = True
    name: ClassVar[str] = "dynamic8"

    def __post_init__(self) -> None:
        power_of_two("Dynamic8", "block_size", self.block_size, 32, 4096)
        _check.boolean("Dynamic8", "signed", self.signed)

    def parts(self, shape: tuple[int, ...]) -> dict[str, Spec]:
        """A code an element, and the largest magnitude of each block."""
        return {"codes": Spec(shape, UINT8), "scales": Spec((self._blocks(shape).number,), FLOAT32)}

    def codec(self) -> tuple[str, list[float]]:
        """With or without signs."""
        return ("dynamic8_signed" if self.signed else "dynamic8_unsigned"), []

    def _blocks(self, shape: tuple[int, ...]) -> Blocks:
        return flat_blocks(shape, self.block_size)


SCALE_BLOCK = 256
"""Scales that share a scale in double quantization."""


@dataclass(frozen=True)
class FourBit(CodecScheme):
    """Sixteen levels, two codes a byte, the first in the high half."""

    block_size: int = 64
    double_quant: bool = False

    def __post_init__(self) -> None:
        power_of_two(type(self).__name__, "block_size", self.block_size, 32, 4096)
        _check.boolean(type(self).__name__, "double_quant", self.double_quant)

    def parts(self, shape: tuple[int, ...]) -> dict[str, Spec]:
        """Two codes a byte of the flattened array, and the largest magnitude of each block or what stands for it."""
        codes, number = Spec((-(-prod(shape) // 2),), UINT8), self._blocks(shape).number
        if not self.double_quant:
            return {"codes": codes, "scales": Spec((number,), FLOAT32)}
        return {
            "codes": codes,
            "scale_codes": Spec((number,), UINT8),
            "scale_absmax": Spec((-(-number // SCALE_BLOCK),), FLOAT32),
            "scale_offset": Spec((), FLOAT32),
        }

    def codec(self) -> tuple[str, list[float]]:
        """Named as the scheme."""
        return self.name, []

    def _blocks(self, shape: tuple[int, ...]) -> Blocks:
        return flat_blocks(shape, self.block_size)

    def quantize(self, owner: str, x: Array, parts: Parts, nan: str, checks_first: bool) -> None:
        """Fills the parts in one sweep over `x`; double quantization goes over the scales once more."""
        if not self.double_quant:
            return super().quantize(owner, x, parts, nan, checks_first)
        scales = namespace(x).empty(parts["scale_codes"].shape, FLOAT32)
        super().quantize(owner, x, {"codes": parts["codes"], "scales": scales}, nan, checks_first)
        total = core_of(x).reduce(owner, ["scales"], [scales], "sum")
        parts["scale_offset"][...] = total / max(scales.size, 1)
        scales -= parts["scale_offset"]
        Dynamic8(SCALE_BLOCK).quantize(owner, scales, _nested(parts), nan, False)
        return None

    def dequantize(self, owner: str, parts: Parts, out: Array) -> None:
        """Fills `out` in one sweep."""
        if not self.double_quant:
            return super().dequantize(owner, parts, out)
        own = namespace(out)
        scales = own.empty(parts["scale_codes"].shape, FLOAT32)
        Dynamic8(SCALE_BLOCK).dequantize(owner, _nested(parts), scales)
        scales += parts["scale_offset"]
        own.maximum(scales, 0, out=scales)
        return super().dequantize(owner, {"codes": parts["codes"], "scales": scales}, out)


def _nested(parts: Parts) -> Parts:
    """What holds the scales of double quantization, as Dynamic8 calls it."""
    return {"codes": parts["scale_codes"], "scales": parts["scale_absmax"]}


@dataclass(frozen=True)
class NF4(FourBit):
    """4-bit codes whose levels are quantiles of a normal distribution, with an exact zero.

    code = the level nearest to x · (1 / absmax), decoded as level · absmax; absmax is that of a block of `block_size`
    elements of the flattened array. As bitsandbytes' ``quantize_nf4`` (Dettmers et al., "QLoRA", 2023).

    Args:
        block_size: elements that share a scale, a power of two from 32 to 4096.
        double_quant: keep each block's absmax as a code too: offset = mean(absmax), a float64 sum divided by their
            number and rounded to float32, and Dynamic8 codes at block 256 of absmax - offset, in the parts
            "scale_codes", "scale_absmax" and "scale_offset"; absmax is decoded as max(value + offset, 0).

    Example:
        >>> q = ss.quant.quantize(np.ones((64, 3), np.float32), ss.quant.NF4())
        >>> q.nbytes, float(q.dequantize().min())
        (108, 1.0)
    """

    name: ClassVar[str] = "nf4"


@dataclass(frozen=True)
class FP4(FourBit):
    """4-bit floats: 0, 1/192, 1/6, 1/4, 1/3, 1/2, 2/3, 1 and their negatives, times absmax.

    code = the level nearest to x · (1 / absmax); zero has the code 0 alone. As bitsandbytes' ``quantize_fp4``.

    Args:
        block_size: elements that share a scale, a power of two from 32 to 4096.
        double_quant: keep each block's absmax as a code too, as `NF4` does.

    Example:
        >>> ss.quant.quantize(np.array([1, 0.3, 0, -1], np.float32), ss.quant.FP4()).dequantize()
        array([ 1.        ,  0.33333334,  0.        , -1.        ], dtype=float32)
    """

    name: ClassVar[str] = "fp4"
