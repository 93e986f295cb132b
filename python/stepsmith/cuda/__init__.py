"""The functions of the core on CuPy arrays: the same names, arguments and results, on the current device and stream."""

from stepsmith.cuda.activation import activate
from stepsmith.cuda.quant import absmax, dequantize, quantize
from stepsmith.cuda.random import uniform

__all__ = ["absmax", "activate", "dequantize", "quantize", "uniform"]
