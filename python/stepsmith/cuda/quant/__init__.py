"""Quantization on a GPU: the functions of the core that make codes of arrays of CuPy, and read them."""

from stepsmith.cuda.quant._nan import absmax
from stepsmith.cuda.quant.blocks import dequantize, quantize

__all__ = ["absmax", "dequantize", "quantize"]
