"""The functions of the core on CuPy arrays: the same names, arguments and results, on the current device and stream."""

from stepsmith.cuda.activation import activate
from stepsmith.cuda.optim import Stepper
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
from stepsmith.cuda.vectors import assign, axpy, clamp, clip_grad_norm, dot, lerp, reduce, scale

__all__ = [
    "Stepper",
    "absmax",
    "activate",
    "affine_dequantize",
    "affine_quantize",
    "affine_quantize_given",
    "affine_steps",
    "assign",
    "axpy",
    "cast",
    "clamp",
    "clip_grad_norm",
    "dequantize",
    "dot",
    "fake_quantize",
    "lerp",
    "matmul_codes",
    "quantize",
    "reduce",
    "scale",
    "uniform",
]
