"""Quantization: arrays as codes of a few bits, and the scales that blocks of them share."""

from stepsmith.quant._scheme import REGISTRY, Scheme
from stepsmith.quant.affine import Affine, quantize_affine
from stepsmith.quant.array import QuantizedArray, dequantize, quantize
from stepsmith.quant.blockwise import FP4, NF4, Dynamic8
from stepsmith.quant.fake import FakeSaved, fake_quantize, fake_quantize_backward
from stepsmith.quant.observers import HistogramMSE, MinMax, MovingAverage, Observer, Percentile

__all__ = [
    "FP4",
    "NF4",
    "REGISTRY",
    "Affine",
    "Dynamic8",
    "FakeSaved",
    "HistogramMSE",
    "MinMax",
    "MovingAverage",
    "Observer",
    "Percentile",
    "QuantizedArray",
    "Scheme",
    "dequantize",
    "fake_quantize",
    "fake_quantize_backward",
    "quantize",
    "quantize_affine",
]
