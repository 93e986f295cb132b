"""Quantization: arrays as codes of a few bits, and the scales that blocks of them share.

A scheme says how, `quantize` makes a `QuantizedArray` of an array, which decodes itself and tells its error, `save` and
`load` take quantized and plain arrays to a safetensors file and back; ``stepsmith quantize`` is the command for that.
"""

from stepsmith.quant._figures import QuantizationError
from stepsmith.quant._files import Tensors, load, save
from stepsmith.quant._scheme import REGISTRY, Scheme, scheme
from stepsmith.quant.array import QuantizedArray, dequantize, quantize
from stepsmith.quant.blockwise import FP4, NF4, Dynamic8
from stepsmith.quant.float8 import Float8
from stepsmith.quant.micro import MX, NVFP4

__all__ = [
    "FP4",
    "MX",
    "NF4",
    "NVFP4",
    "REGISTRY",
    "Dynamic8",
    "Float8",
    "QuantizationError",
    "QuantizedArray",
    "Scheme",
    "Tensors",
    "dequantize",
    "load",
    "quantize",
    "save",
    "scheme",
]
