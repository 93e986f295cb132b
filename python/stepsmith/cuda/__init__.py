"""The functions of the core on CuPy arrays: the same names, arguments and results, on the current device and stream.

`sum_rows` alone has no twin there: it is NumPy's ``add.at`` on the CPU.
"""

from stepsmith.cuda.activation import activate
from stepsmith.cuda.batch_norm import batch_norm, batch_norm_backward
from stepsmith.cuda.conv import convolve, convolve_backward
from stepsmith.cuda.norm import norm_rows, norm_rows_backward
from stepsmith.cuda.random import uniform
from stepsmith.cuda.rows import sum_rows
from stepsmith.cuda.softmax import check_labels, cross_entropy_rows, softmax_rows, softmax_rows_backward
from stepsmith.cuda.window import average_pool, average_pool_backward, max_pool, max_pool_backward

__all__ = [
    "activate",
    "average_pool",
    "average_pool_backward",
    "batch_norm",
    "batch_norm_backward",
    "check_labels",
    "convolve",
    "convolve_backward",
    "cross_entropy_rows",
    "max_pool",
    "max_pool_backward",
    "norm_rows",
    "norm_rows_backward",
    "softmax_rows",
    "softmax_rows_backward",
    "sum_rows",
    "uniform",
]
