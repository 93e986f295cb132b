"""Quantization: arrays as codes of a few bits, and the scales that blocks of them share."""

from stepsmith.quant._figures import QuantizationError
from stepsmith.quant._files import Tensors, load, save
from stepsmith.quant._scheme import REGISTRY, Scheme, scheme
from stepsmith.quant.array import QuantizedArray, dequantize, quantize
from stepsmith.quant.blockwise import FP4, NF4, Dynamic8

__all__ = [
    "FP4",
    "NF4",
    "REGISTRY",
    "Dynamic8",
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
