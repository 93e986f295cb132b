"""The functions of the core on CuPy arrays: the same names, arguments and results, on the current device and stream.

`sum_rows` alone has no twin there: it is NumPy's ``add.at`` on the CPU.
"""

from stepsmith.cuda.activation import activate
from stepsmith.cuda.batch_norm import batch_norm, batch_norm_backward
from stepsmith.cuda.conv import convolve, convolve_backward
from stepsmith.cuda.norm import norm_rows, norm_rows_backward
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
from stepsmith.cuda.rows import sum_rows
from stepsmith.cuda.softmax import check_labels, cross_entropy_rows, softmax_rows, softmax_rows_backward
from stepsmith.cuda.vectors import assign, axpy, clamp, clip_grad_norm, dot, lerp, reduce, scale
from stepsmith.cuda.window import average_pool, average_pool_backward, max_pool, max_pool_backward

__all__ = [
    "Stepper",
    "absmax",
    "activate",
    "affine_dequantize",
    "affine_quantize",
    "affine_quantize_given",
    "affine_steps",
    "assign",
    "average_pool",
    "average_pool_backward",
    "axpy",
    "batch_norm",
    "batch_norm_backward",
    "cast",
    "check_labels",
    "clamp",
    "clip_grad_norm",
    "convolve",
    "convolve_backward",
    "cross_entropy_rows",
    "dequantize",
    "dot",
    "fake_quantize",
    "lerp",
    "matmul_codes",
    "max_pool",
    "max_pool_backward",
    "norm_rows",
    "norm_rows_backward",
    "quantize",
    "reduce",
    "scale",
    "softmax_rows",
    "softmax_rows_backward",
    "sum_rows",
    "uniform",
]
