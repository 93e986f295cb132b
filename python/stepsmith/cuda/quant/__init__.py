"""Quantization on a GPU: the functions of the core that make codes of arrays of CuPy, and read them."""

from stepsmith.cuda.quant._nan import absmax
from stepsmith.cuda.quant.affine import affine_dequantize, affine_quantize, affine_quantize_given, affine_steps
from stepsmith.cuda.quant.blocks import dequantize, quantize
from stepsmith.cuda.quant.cast import cast
from stepsmith.cuda.quant.fake import fake_quantize
from stepsmith.cuda.quant.matmul import matmul_codes

__all__ = [
    "absmax",
    "affine_dequantize",
    "affine_quantize",
    "affine_quantize_given",
    "affine_steps",
    "cast",
    "dequantize",
    "fake_quantize",
    "matmul_codes",
    "quantize",
]
