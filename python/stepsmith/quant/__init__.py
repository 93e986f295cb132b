"""Quantization: arrays as codes of a few bits, and the scales that blocks of them share.

A scheme says how, `quantize` makes a `QuantizedArray` of an array, which decodes itself and tells its error, `save` and
`load` take quantized and plain arrays to a safetensors file and back; ``stepsmith quantize`` is the command for that.
"""

from stepsmith.quant._figures import QuantizationError
from stepsmith.quant._files import Tensors, load, save
from stepsmith.quant._matmul import matmul
from stepsmith.quant._scheme import REGISTRY, Scheme, scheme
from stepsmith.quant.affine import Affine, quantize_affine
from stepsmith.quant.array import QuantizedArray, dequantize, quantize
from stepsmith.quant.blockwise import FP4, NF4, Dynamic8
from stepsmith.quant.fake import FakeSaved, fake_quantize, fake_quantize_backward
from stepsmith.quant.float8 import Float8
from stepsmith.quant.ggml import GGML
from stepsmith.quant.gguf import load_gguf, save_gguf
from stepsmith.quant.micro import MX, NVFP4
from stepsmith.quant.observers import HistogramMSE, MinMax, MovingAverage, Observer, Percentile

__all__ = [
    "FP4",
    "GGML",
    "MX",
    "NF4",
    "NVFP4",
    "REGISTRY",
    "Affine",
    "Dynamic8",
    "FakeSaved",
    "Float8",
    "HistogramMSE",
    "MinMax",
    "MovingAverage",
    "Observer",
    "Percentile",
    "QuantizationError",
    "QuantizedArray",
    "Scheme",
    "Tensors",
    "dequantize",
    "fake_quantize",
    "fake_quantize_backward",
    "load",
    "load_gguf",
    "matmul",
    "quantize",
    "quantize_affine",
    "save",
    "save_gguf",
    "scheme",
]
