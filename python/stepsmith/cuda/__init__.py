"""The functions of the core on CuPy arrays: the same names, arguments and results, on the current device and stream."""

from stepsmith.cuda.activation import activate
from stepsmith.cuda.norm import norm_rows, norm_rows_backward
from stepsmith.cuda.random import uniform

__all__ = ["activate", "norm_rows", "norm_rows_backward", "uniform"]
