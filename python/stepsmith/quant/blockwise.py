"""Codes of levels, scaled by the largest magnitude of each block of the flattened array."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from stepsmith import _check
from stepsmith.quant._scheme import FLOAT32, UINT8, Blocks, CodecScheme, Spec, flat_blocks, power_of_two

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

    @property
    def codec(self) -> str:
        """With or without signs."""
        return "dynamic8_signed" if self.signed else "dynamic8_unsigned"

    def _blocks(self, shape: tuple[int, ...]) -> Blocks:
        return flat_blocks(shape, self.block_size)


@dataclass(frozen=True)
class FourBit(CodecScheme):
    """Sixteen levels, two codes a byte, the first in the high half."""

    block_size: int = 64

    def __post_init__(self) -> None:
        power_of_two(type(self).__name__, "block_size", self.block_size, 32, 4096)

    def parts(self, shape: tuple[int, ...]) -> dict[str, Spec]:
        """Two codes a byte of the flattened array, and the largest magnitude of each block."""
        codes = Spec((-(-prod(shape) // 2),), UINT8)
        return {"codes": codes, "scales": Spec((self._blocks(shape).number,), FLOAT32)}

    @property
    def codec(self) -> str:
        """Named as the scheme."""
        return self.name

    def _blocks(self, shape: tuple[int, ...]) -> Blocks:
        return flat_blocks(shape, self.block_size)


@dataclass(frozen=True)
class NF4(FourBit):
    """4-bit codes whose levels are quantiles of a normal distribution, with an exact zero.

    code = the level nearest to x · (1 / absmax), decoded as level · absmax; absmax is that of a block of `block_size`
    elements of the flattened array. As bitsandbytes' ``quantize_nf4`` (Dettmers et al., "QLoRA", 2023).

    Args:
        block_size: elements that share a scale, a power of two from 32 to 4096.

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

    Example:
        >>> ss.quant.quantize(np.array([1, 0.3, 0, -1], np.float32), ss.quant.FP4()).dequantize()
        array([ 1.        ,  0.33333334,  0.        , -1.        ], dtype=float32)
    """

    name: ClassVar[str] = "fp4"
