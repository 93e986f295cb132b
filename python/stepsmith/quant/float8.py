"""8-bit floats as codes: as they are, or scaled by the largest magnitude of each block."""

from dataclasses import dataclass
from typing import ClassVar

import ml_dtypes
import numpy as np

from stepsmith import _check
from stepsmith.quant._scheme import FLOAT32, Blocks, CodecScheme, Spec, flat_blocks, power_of_two

__all__ = ["FORMATS", "Float8"]

FORMATS = {
    "e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "ue5m3": np.dtype(np.uint8),
}
"""Names of the formats and the codes' dtypes."""


@dataclass(frozen=True)
class Float8(CodecScheme):
    """8-bit floats, half to even; the codes have the dtype of ml_dtypes and the array's shape.

    Without `block_size` code = x rounded to the format, what is too large becoming the largest number (448 and 57344):
    `stepsmith.cast` with the checks of `quantize`. With it code = x · (largest / absmax) rounded, decoded as
    code · scale, scale = absmax / largest; absmax is that of a block of the flattened array (Micikevicius et al., "FP8
    Formats for Deep Learning", 2022).

    Args:
        format: "e4m3fn", of four bits of exponent and three of mantissa, "e5m2", or "ue5m3", which has no sign: the top
            bits of a float16 behind its own, as uint8; what is below 0 becomes 0. ml_dtypes lacks it, and it needs a
            block size.
        block_size: elements that share a scale, a power of two from 32 to 4096; None for no scales.

    Example:
        >>> x = np.array([1000, 0.3, -1], np.float32)
        >>> ss.quant.quantize(x, ss.quant.Float8("e4m3fn")).dequantize().tolist()
        [448.0, 0.3125, -1.0]
        >>> ss.quant.quantize(x, ss.quant.Float8("e4m3fn", block_size=64)).scales.tolist()
        [2.232142925262451]
    """

    format: str = "e4m3fn"
    block_size: int | None = None
    name: ClassVar[str] = "float8"

    def __post_init__(self) -> None:
        _check.one_of("Float8", "format", self.format, FORMATS)
        if self.format == "ue5m3" and self.block_size is None:
            raise ValueError("Float8: block_size must be given for the format 'ue5m3', got None")
        if self.block_size is not None:
            power_of_two("Float8", "block_size", self.block_size, 32, 4096)

    def parts(self, shape: tuple[int, ...]) -> dict[str, Spec]:
        """A code an element, and the scale of each block if there are some."""
        codes = {"codes": Spec(shape, FORMATS[self.format])}
        return codes if self.block_size is None else {**codes, "scales": Spec((self._blocks(shape).number,), FLOAT32)}

    def codec(self) -> tuple[str, list[float]]:
        """Named as the core has it."""
        return f"{'float8' if self.block_size is None else 'scaled'}_{self.format}", []

    def _blocks(self, shape: tuple[int, ...]) -> Blocks:
        return flat_blocks(shape, self.block_size or 4096)
