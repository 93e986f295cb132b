"""GGML's blocks on a GPU."""

from typing import Any

import numpy as np

from stepsmith.cuda._launch import launch_over
from stepsmith.cuda.quant._nan import FirstNan

__all__ = ["KINDS", "dequantize_ggml", "quantize_ggml"]

KINDS = ("q8_0", "q4_0", "q4_1", "q5_0", "q4_k", "q6_k")
"""``enum Kind`` of kernels/ggml_plain.cuh."""


def quantize_ggml(kind: str, x: Any, size: int, codes: Any, nan: FirstNan) -> None:
    """Blocks of an array, an argument of kernels, of whole ones."""
    args = x, np.uint64(size), np.int32(KINDS.index(kind)), codes, nan.pointer
    launch_over("ggml", "quantize_ggml", size, args, 8)


def dequantize_ggml(kind: str, codes: Any, out: Any, size: int) -> None:
    """The numbers of blocks."""
    launch_over("ggml", "dequantize_ggml", size, (codes, np.int32(KINDS.index(kind)), np.uint64(size), out))
