"""The functions of the core on CuPy arrays: the same names, arguments and results, on the current device and stream."""

from stepsmith.cuda._reduce import reduce
from stepsmith.cuda.activation import activate
from stepsmith.cuda.quant import (
    absmax,
    affine_dequantize,
    affine_quantize,
    affine_quantize_given,
    affine_steps,
    cast,
    dequantize,
    fake_quantize,
    matmul_codes,
    quantize,
)
from stepsmith.cuda.random import uniform

__all__ = [
    "absmax",
    "activate",
    "affine_dequantize",
    "affine_quantize",
    "affine_quantize_given",
    "affine_steps",
    "cast",
    "dequantize",
    "fake_quantize",
    "matmul_codes",
    "quantize",
    "reduce",
    "uniform",
]
