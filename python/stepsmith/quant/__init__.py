"""Quantization: arrays as codes of a few bits, and the scales that blocks of them share."""

from stepsmith.quant._matmul import matmul
from stepsmith.quant._scheme import REGISTRY, Scheme
from stepsmith.quant.affine import Affine, quantize_affine
from stepsmith.quant.array import QuantizedArray, dequantize, quantize
from stepsmith.quant.blockwise import FP4, NF4, Dynamic8
from stepsmith.quant.fake import FakeSaved, fake_quantize, fake_quantize_backward
from stepsmith.quant.ggml import GGML
from stepsmith.quant.gguf import load_gguf, save_gguf
from stepsmith.quant.observers import HistogramMSE, MinMax, MovingAverage, Observer, Percentile

__all__ = [
    "FP4",
    "GGML",
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
    "load_gguf",
    "matmul",
    "quantize",
    "quantize_affine",
    "save_gguf",
]
