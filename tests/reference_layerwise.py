"""The oracle's rules that measure whole tensors: rust/optim/lamb.rs, lars.rs and adafactor.rs."""

import math

import numpy as np

from reference_storage import larger, wide
from reference_sums import fixed_sum


def lamb(
    param,
    grad,
    state,
    *,
    weight_decay,
    one_minus_beta1,
    beta2,
    one_minus_beta2,
    inv_bias_correction1,
    inv_sqrt_bias_correction2,
    eps,
    lr,
):
    m, v = state
    m = m + (grad - m) * one_minus_beta1
    v = v * beta2 + grad * grad * one_minus_beta2
    denom = np.sqrt(v) * inv_sqrt_bias_correction2 + eps
    update = m * inv_bias_correction1 / denom + param * weight_decay
    norms = norm_of(param), norm_of(update)
    ratio = norms[0] / norms[1] if norms[0] > 0 and norms[1] > 0 else 1.0
    return param - update * param.dtype.type(lr * ratio), (m, v)


def lars(param, grad, state, *, weight_decay, momentum, nesterov, lr, trust_coefficient):
    (buffer,) = state
    update = grad + param * weight_decay
    norms = norm_of(param), norm_of(update)
    ratio = trust_coefficient * norms[0] / norms[1] if norms[0] > 0 and norms[1] > 0 else 1.0
    direction = update * param.dtype.type(lr * ratio)
    buffer = buffer * momentum + direction
    direction = direction + buffer * momentum if nesterov else buffer
    return param - direction, (buffer,)


def adafactor(param, grad, state, *, decay, one_minus_beta2, eps1, eps2, rho, d):
    row_var, col_var, variance = state
    eps1 = eps1 if eps1 != 0 else np.finfo(param.dtype).eps
    if param.ndim < 2:
        variance = variance + (grad * grad - variance) * one_minus_beta2
        estimate = variance
    elif not param.size:
        estimate = grad
    else:
        rows, columns = means_of_squares(grad)
        row_var = row_var + (rows - row_var) * one_minus_beta2
        col_var = col_var + (columns - col_var) * one_minus_beta2
        estimate = row_var / larger(mean_of_rows(row_var), eps1) * col_var
    update = grad / np.sqrt(larger(estimate, larger(eps1 * eps1, np.finfo(param.dtype).tiny)))
    root = math.sqrt(param.size)
    sizes = (norm_of(param) / root, norm_of(update) / (root * d)) if root else (0.0, 0.0)
    alpha = (sizes[0] if sizes[0] > eps2 else eps2) * rho
    step_size = param.dtype.type(alpha / sizes[1] if sizes[1] > 1 else alpha)
    return param * decay - update * step_size, (row_var, col_var, variance)


def norm_of(x):
    """2-norm of a whole array, by its fixed-shape sum."""
    x = wide(x)
    return math.sqrt(fixed_sum(x * x))


def means_of_squares(grad):
    """Of each matrix over rows (fixed-shape sums) and columns (blocks of 64 rows in order, blocks in order)."""
    *outer, height, width = grad.shape
    squares = grad.astype(np.float64) ** 2
    rows = np.array([fixed_sum(row) for row in squares.reshape(-1, width)])
    columns = np.zeros((*outer, 1, width))
    for top in range(0, height, 64):
        block = np.zeros((*outer, 1, width))
        for row in range(top, min(top + 64, height)):
            block = block + squares[..., row : row + 1, :]
        columns = columns + block
    rows = rows.reshape(*outer, height, 1)
    return (rows / width).astype(grad.dtype), (columns / height).astype(grad.dtype)


def mean_of_rows(row_var):
    """Of the row means of each matrix, by their fixed-shape sum."""
    *outer, height, _ = row_var.shape
    means = [fixed_sum(rows) / height for rows in row_var.reshape(-1, height)]
    return np.array(means, row_var.dtype).reshape(*outer, 1, 1)
