"""Rows of a table on a GPU."""

from typing import Any

import numpy as np

from stepsmith._backend import cupy
from stepsmith.cuda._arrays import DIVISOR, argument, divisor
from stepsmith.cuda._call import is_wide
from stepsmith.cuda._launch import launch_over

__all__ = ["sum_rows"]


def sum_rows(sums: Any, rows: Any, indices: Any) -> None:
    """Writes to each row of `sums` the sum, from +0.0, of the rows that have its index, in their order.

    What ``numpy.add.at`` gives; CuPy's adds in whatever order the threads come.
    """
    xp, (count, features) = cupy(), sums.shape
    if indices.size == 0:
        sums.fill(0)
        return
    order = xp.argsort(indices)
    starts = xp.searchsorted(indices.take(order), xp.arange(count + 1))
    args = argument(sums), argument(rows), order, starts, np.array(divisor(features), DIVISOR), np.uint64(sums.size)
    launch_over("sum_rows", f"sum_rows_{'f64' if is_wide(sums) else 'f32'}", sums.size, args, per_thread=1)
