"""The oracle of sums, norms and the clipping factor of several arrays."""

import math
from collections.abc import Sequence

import numpy as np

from reference_storage import Array, compute_type, wide
from reference_sums import fixed_sum


def reduce(arrays: Sequence[Array], kind: str) -> float:
    if kind == "max_abs":
        largest = [np.abs(wide(array)).max(initial=0.0) for array in arrays]
        return float(np.max([0.0, *largest]))
    term = {"sum": lambda x: x, "sum_abs": np.abs, "sum_squares": lambda x: x * x}[kind]
    total = 0.0
    for array in arrays:
        total = total + fixed_sum(term(wide(array)))
    return total


def grad_norm(params: Sequence[Array], grads: Sequence[Array], grad_scale: float = 1.0) -> float:
    """Of all gradients in their parameters' compute types."""
    total = 0.0
    for param, grad in zip(params, grads):
        x = wide(grad, compute_type(param.dtype))
        total = total + fixed_sum(x * x)
    return math.sqrt(total) / abs(grad_scale)


def clip_factor(max_norm: float, norm: float) -> float:
    factor = max_norm / (norm + 1e-6)
    return 1.0 if factor > 1.0 else factor
