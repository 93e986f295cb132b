"""The NumPy oracle: what each kernel must equal bit for bit.

A rule here and its file in rust/optim/ say the same lines with the same names in the same order. Arrays are of
the compute type and so are the scalars: NumPy's float64 scalars would promote float32 arrays.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from reference_codes import CodedType, coded_type
from reference_sums import fixed_sum

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64), "bf16": BFLOAT16, "f16": np.dtype(np.float16)}
SHARED = {"row_var", "col_var"}
"""Means over rows and columns belong to no single element, so that no mask zeroes them."""

Array = np.ndarray[Any, Any]

# Rules: rust/optim/*.rs.


def sgd(param, grad, state, *, lr, weight_decay, momentum, one_minus_dampening, nesterov, first_step):
    (buffer,) = state
    if weight_decay != 0:
        grad = grad + param * weight_decay
    if momentum == 0:
        return param - grad * lr, (buffer,)
    buffer = grad if first_step else buffer * momentum + grad * one_minus_dampening
    direction = grad + buffer * momentum if nesterov else buffer
    return param - direction * lr, (buffer,)


def adam(
    param,
    grad,
    state,
    *,
    weight_decay,
    decay,
    one_minus_beta1,
    beta2,
    one_minus_beta2,
    step_size,
    inv_sqrt_bias_correction2,
    eps,
    amsgrad,
):
    m, v, v_max = state
    if weight_decay != 0:
        grad = grad + param * weight_decay
    m = m + (grad - m) * one_minus_beta1
    v = v * beta2 + grad * grad * one_minus_beta2
    v_max = np.where(v_max > v, v_max, v) if amsgrad else v
    denom = np.sqrt(v_max) * inv_sqrt_bias_correction2 + eps
    return param * decay - m * step_size / denom, (m, v, v_max)


def adagrad(param, grad, state, *, weight_decay, step_size, eps):
    (sum,) = state
    if weight_decay != 0:
        grad = grad + param * weight_decay
    sum = sum + grad * grad
    denom = np.sqrt(sum) + eps
    return param - grad * step_size / denom, (sum,)


def rmsprop(param, grad, state, *, weight_decay, lr, alpha, one_minus_alpha, eps, momentum, centered, eps_inside_sqrt):
    square_avg, grad_avg, buffer = state
    if weight_decay != 0:
        grad = grad + param * weight_decay
    square_avg = square_avg * alpha + grad * grad * one_minus_alpha
    variance = square_avg
    if centered:
        grad_avg = grad_avg + (grad - grad_avg) * one_minus_alpha
        variance = larger(np.zeros_like(param), square_avg - grad_avg * grad_avg)
    denom = np.sqrt(variance + eps) if eps_inside_sqrt else np.sqrt(variance) + eps
    if momentum == 0:
        return param - grad * lr / denom, (square_avg, grad_avg, buffer)
    buffer = buffer * momentum + grad / denom
    return param - buffer * lr, (square_avg, grad_avg, buffer)


def adadelta(param, grad, state, *, weight_decay, lr, rho, one_minus_rho, eps):
    square_avg, acc_delta = state
    if weight_decay != 0:
        grad = grad + param * weight_decay
    square_avg = square_avg * rho + grad * grad * one_minus_rho
    delta = np.sqrt(acc_delta + eps) / np.sqrt(square_avg + eps) * grad
    acc_delta = acc_delta * rho + delta * delta * one_minus_rho
    return param - delta * lr, (square_avg, acc_delta)


def adamax(param, grad, state, *, weight_decay, one_minus_beta1, beta2, step_size, eps):
    m, u = state
    if weight_decay != 0:
        grad = grad + param * weight_decay
    m = m + (grad - m) * one_minus_beta1
    u = larger(u * beta2, np.abs(grad) + eps)
    return param - m * step_size / u, (m, u)


def nadam(
    param,
    grad,
    state,
    *,
    weight_decay,
    decay,
    one_minus_beta1,
    beta2,
    one_minus_beta2,
    grad_step,
    m_step,
    inv_bias_correction2,
    eps,
):
    m, v = state
    if weight_decay != 0:
        grad = grad + param * weight_decay
    m = m + (grad - m) * one_minus_beta1
    v = v * beta2 + grad * grad * one_minus_beta2
    denom = np.sqrt(v * inv_bias_correction2) + eps
    return param * decay - (grad * grad_step + m * m_step) / denom, (m, v)


def radam(
    param, grad, state, *, weight_decay, decay, one_minus_beta1, beta2, one_minus_beta2, step_size, eps, rectified
):
    m, v = state
    if weight_decay != 0:
        grad = grad + param * weight_decay
    m = m + (grad - m) * one_minus_beta1
    v = v * beta2 + grad * grad * one_minus_beta2
    if not rectified:
        return param * decay - m * step_size, (m, v)
    denom = np.sqrt(v) + eps
    return param * decay - m * step_size / denom, (m, v)


def rprop(param, grad, state, *, eta_minus, eta_plus, step_size_min, step_size_max):
    prev, step_size = state
    zero, one = np.zeros_like(param), np.ones_like(param)
    agreement = grad * prev
    eta = np.where(agreement > 0, eta_plus, np.where(agreement < 0, eta_minus, one))
    step_size = larger(step_size_min, step_size * eta)
    step_size = np.where(step_size > step_size_max, step_size_max, step_size)
    grad = np.where(agreement < 0, zero, grad)
    return param - sign(grad) * step_size, (grad, step_size)


def asgd(param, grad, state, *, weight_decay, decay, eta, mu, averaging):
    (ax,) = state
    if weight_decay != 0:
        grad = grad + param * weight_decay
    param = param * decay - grad * eta
    ax = ax + (param - ax) * mu if averaging else param
    return param, (ax,)


def lion(param, grad, state, *, decay, one_minus_beta1, one_minus_beta2, lr):
    (m,) = state
    direction = m + (grad - m) * one_minus_beta1
    m = m + (grad - m) * one_minus_beta2
    return param * decay - sign(direction) * lr, (m,)


def ademamix(
    param,
    grad,
    state,
    *,
    decay,
    one_minus_beta1,
    beta2,
    one_minus_beta2,
    one_minus_beta3,
    step_size,
    slow_step_size,
    inv_sqrt_bias_correction2,
    eps,
):
    m, v, m_slow = state
    m = m + (grad - m) * one_minus_beta1
    v = v * beta2 + grad * grad * one_minus_beta2
    m_slow = m_slow + (grad - m_slow) * one_minus_beta3
    denom = np.sqrt(v) * inv_sqrt_bias_correction2 + eps
    return param * decay - (m * step_size + m_slow * slow_step_size) / denom, (m, v, m_slow)


def schedulefree_adamw(
    param,
    grad,
    state,
    *,
    weight_decay,
    beta2,
    one_minus_beta2,
    inv_bias_correction2,
    eps,
    average_weight,
    y_step,
    lr,
):
    z, v = state
    v = v * beta2 + grad * grad * one_minus_beta2
    denom = np.sqrt(v * inv_bias_correction2) + eps
    normalized = grad / denom
    if weight_decay != 0:
        normalized = normalized + param * weight_decay
    param = param + (z - param) * average_weight + normalized * y_step
    return param, (z - normalized * lr, v)


def adan(
    param,
    grad,
    state,
    *,
    decay,
    shrink,
    one_minus_beta1,
    beta2,
    one_minus_beta2,
    beta3,
    one_minus_beta3,
    step_size,
    diff_step_size,
    inv_sqrt_bias_correction3,
    eps,
    first_step,
):
    m, m_diff, n, prev_grad = state
    diff = np.zeros_like(param) if first_step else grad - prev_grad
    m = m + (grad - m) * one_minus_beta1
    m_diff = m_diff + (diff - m_diff) * one_minus_beta2
    ahead = grad + diff * beta2
    n = n * beta3 + ahead * ahead * one_minus_beta3
    denom = np.sqrt(n) * inv_sqrt_bias_correction3 + eps
    update = (m * step_size + m_diff * diff_step_size) / denom
    return (param * decay - update) * shrink, (m, m_diff, n, grad)


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


def larger(a, b):
    return np.where(a > b, a, b)


def sign(x):
    one = x.dtype.type(1)
    return np.where(x > 0, one, np.where(x < 0, -one, one - one))


RULES: dict[str, Callable[..., Any]] = {
    "sgd": sgd,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adadelta": adadelta,
    "adam": adam,
    "adamw": adam,
    "adamax": adamax,
    "nadam": nadam,
    "radam": radam,
    "rprop": rprop,
    "asgd": asgd,
    "lion": lion,
    "ademamix": ademamix,
    "schedulefree_adamw": schedulefree_adamw,
    "adan": adan,
    "lamb": lamb,
    "lars": lars,
    "adafactor": adafactor,
}
STATE = {
    "sgd": ("momentum",),
    "adagrad": ("sum",),
    "rmsprop": ("square_avg", "grad_avg", "momentum"),
    "adadelta": ("square_avg", "acc_delta"),
    "adam": ("m", "v", "v_max"),
    "adamw": ("m", "v", "v_max"),
    "adamax": ("m", "u"),
    "nadam": ("m", "v"),
    "radam": ("m", "v"),
    "rprop": ("prev", "step_size"),
    "asgd": ("ax",),
    "lion": ("m",),
    "ademamix": ("m", "v", "m_slow"),
    "schedulefree_adamw": ("z", "v"),
    "adan": ("m", "m_diff", "n", "prev_grad"),
    "lamb": ("m", "v"),
    "lars": ("momentum",),
    "adafactor": ("row_var", "col_var", "variance"),
}
# Scalars that stay in float64, since more is made of them.
EXACT = {"lamb": {"lr"}, "lars": {"lr", "trust_coefficient"}, "adafactor": {"eps2", "rho", "d"}}
FLAGS = {
    "nesterov",
    "first_step",
    "amsgrad",
    "centered",
    "eps_inside_sqrt",
    "rectified",
    "averaging",
}

# Scalars of update `step` (from 1) in float64, from a group's hyperparameters. They stand here again on purpose.


def sgd_scalars(step, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    return {
        "lr": lr,
        "weight_decay": weight_decay,
        "momentum": momentum,
        "one_minus_dampening": 1.0 - dampening,
        "nesterov": nesterov,
        "first_step": step == 1,
    }


def adam_scalars(step, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, decoupled_weight_decay=False):
    beta1, beta2 = betas
    return {
        **decays(lr, weight_decay, decoupled_weight_decay),
        "one_minus_beta1": 1.0 - beta1,
        "beta2": beta2,
        "one_minus_beta2": 1.0 - beta2,
        "step_size": lr / (1.0 - beta1**step),
        "inv_sqrt_bias_correction2": 1.0 / math.sqrt(1.0 - beta2**step),
        "eps": eps,
        "amsgrad": amsgrad,
    }


def decays(lr, weight_decay, decoupled):
    return {
        "weight_decay": 0.0 if decoupled else weight_decay,
        "decay": 1.0 - lr * weight_decay if decoupled else 1.0,
    }


def adamw_scalars(step, lr, weight_decay=1e-2, **others):
    return adam_scalars(step, lr, weight_decay=weight_decay, decoupled_weight_decay=True, **others)


def adagrad_scalars(step, lr, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10):
    return {"weight_decay": weight_decay, "step_size": lr / (1.0 + (step - 1) * lr_decay), "eps": eps}


def rmsprop_scalars(
    step, lr, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False, eps_inside_sqrt=False
):
    return {
        "weight_decay": weight_decay,
        "lr": lr,
        "alpha": alpha,
        "one_minus_alpha": 1.0 - alpha,
        "eps": eps,
        "momentum": momentum,
        "centered": centered,
        "eps_inside_sqrt": eps_inside_sqrt,
    }


def adadelta_scalars(step, lr, rho=0.9, eps=1e-6, weight_decay=0.0):
    return {"weight_decay": weight_decay, "lr": lr, "rho": rho, "one_minus_rho": 1.0 - rho, "eps": eps}


def adamax_scalars(step, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    beta1, beta2 = betas
    return {
        "weight_decay": weight_decay,
        "one_minus_beta1": 1.0 - beta1,
        "beta2": beta2,
        "step_size": lr / (1.0 - beta1**step),
        "eps": eps,
    }


def nadam_scalars(
    step,
    lr,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    momentum_decay=4e-3,
    decoupled_weight_decay=False,
    carried=(1.0,),
):
    beta1, beta2 = betas
    (mu_product,) = carried
    mu = beta1 * (1.0 - 0.5 * 0.96 ** (step * momentum_decay))
    mu_next = beta1 * (1.0 - 0.5 * 0.96 ** ((step + 1) * momentum_decay))
    return {
        **decays(lr, weight_decay, decoupled_weight_decay),
        "one_minus_beta1": 1.0 - beta1,
        "beta2": beta2,
        "one_minus_beta2": 1.0 - beta2,
        "grad_step": lr * (1.0 - mu) / (1.0 - mu_product * mu),
        "m_step": lr * mu_next / (1.0 - mu_product * mu * mu_next),
        "inv_bias_correction2": 1.0 / (1.0 - beta2**step),
        "eps": eps,
    }


def nadam_carry(step, lr, carried, betas=(0.9, 0.999), momentum_decay=4e-3, **others):
    (mu_product,) = carried
    return (mu_product * (betas[0] * (1.0 - 0.5 * 0.96 ** (step * momentum_decay))),)


def radam_scalars(step, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled_weight_decay=False):
    beta1, beta2 = betas
    bias_correction2 = 1.0 - beta2**step
    rho_inf = 2.0 / (1.0 - beta2) - 1.0
    rho = rho_inf - 2.0 * step * beta2**step / bias_correction2
    step_size = lr / (1.0 - beta1**step)
    if rho > 5.0:
        rectification = math.sqrt((rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho))
        step_size = step_size * rectification * math.sqrt(bias_correction2)
    return {
        **decays(lr, weight_decay, decoupled_weight_decay),
        "one_minus_beta1": 1.0 - beta1,
        "beta2": beta2,
        "one_minus_beta2": 1.0 - beta2,
        "step_size": step_size,
        "eps": eps,
        "rectified": rho > 5.0,
    }


def rprop_scalars(step, lr, etas=(0.5, 1.2), step_sizes=(1e-6, 50.0)):
    return {"eta_minus": etas[0], "eta_plus": etas[1], "step_size_min": step_sizes[0], "step_size_max": step_sizes[1]}


def asgd_scalars(step, lr, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0.0):
    eta = lr / (1.0 + lambd * lr * (step - 1)) ** alpha
    mu = 1.0 / max(1.0, step - 1 - t0)
    return {"weight_decay": weight_decay, "decay": 1.0 - lambd * eta, "eta": eta, "mu": mu, "averaging": mu != 1.0}


def lion_scalars(step, lr, betas=(0.9, 0.99), weight_decay=0.0):
    beta1, beta2 = betas
    return {
        "decay": 1.0 - lr * weight_decay,
        "one_minus_beta1": 1.0 - beta1,
        "one_minus_beta2": 1.0 - beta2,
        "lr": lr,
    }


def ademamix_scalars(step, lr, betas=(0.9, 0.999, 0.9999), alpha=5.0, eps=1e-8, weight_decay=0.0, T_alpha_beta3=None):
    beta1, beta2, beta3 = betas
    if T_alpha_beta3 is not None and step < T_alpha_beta3:
        share = step / T_alpha_beta3
        alpha = alpha * share
        if beta1 < beta3:
            start = (1.0 - share) / math.log(beta1) if beta1 > 0.0 else 0.0
            beta3 = min(math.exp(1.0 / (start + share / math.log(beta3))), beta3)
    return {
        "decay": 1.0 - lr * weight_decay,
        "one_minus_beta1": 1.0 - beta1,
        "beta2": beta2,
        "one_minus_beta2": 1.0 - beta2,
        "one_minus_beta3": 1.0 - beta3,
        "step_size": lr / (1.0 - beta1**step),
        "slow_step_size": lr * alpha,
        "inv_sqrt_bias_correction2": 1.0 / math.sqrt(1.0 - beta2**step),
        "eps": eps,
    }


def schedulefree_adamw_scalars(
    step,
    lr,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    warmup_steps=0,
    r=0.0,
    weight_lr_power=2.0,
    carried=(0.0, 0.0),
):
    beta1, beta2 = betas
    settings = {"warmup_steps": warmup_steps, "r": r, "weight_lr_power": weight_lr_power}
    weight_sum, lr_max = schedulefree_adamw_carry(step, lr, carried, **settings)
    weight = step**r * lr_max**weight_lr_power
    average_weight = weight / weight_sum if weight_sum != 0.0 else 0.0
    lr = lr * min(1.0, step / max(warmup_steps, 1))
    return {
        "weight_decay": weight_decay,
        "beta2": beta2,
        "one_minus_beta2": 1.0 - beta2,
        "inv_bias_correction2": 1.0 / (1.0 - beta2**step),
        "eps": eps,
        "average_weight": average_weight,
        "y_step": lr * (beta1 * (1.0 - average_weight) - 1.0),
        "lr": lr,
    }


def schedulefree_adamw_carry(step, lr, carried, warmup_steps=0, r=0.0, weight_lr_power=2.0, **others):
    weight_sum, lr_max = carried
    lr_max = max(lr_max, lr * min(1.0, step / max(warmup_steps, 1)))
    return weight_sum + step**r * lr_max**weight_lr_power, lr_max


def adan_scalars(step, lr, betas=(0.98, 0.92, 0.99), eps=1e-8, weight_decay=0.0, decoupled_weight_decay=False):
    beta1, beta2, beta3 = betas
    return {
        "decay": 1.0 - lr * weight_decay if decoupled_weight_decay else 1.0,
        "shrink": 1.0 if decoupled_weight_decay else 1.0 / (1.0 + lr * weight_decay),
        "one_minus_beta1": 1.0 - beta1,
        "beta2": beta2,
        "one_minus_beta2": 1.0 - beta2,
        "beta3": beta3,
        "one_minus_beta3": 1.0 - beta3,
        "step_size": lr / (1.0 - beta1**step),
        "diff_step_size": lr * beta2 / (1.0 - beta2**step),
        "inv_sqrt_bias_correction3": 1.0 / math.sqrt(1.0 - beta3**step),
        "eps": eps,
        "first_step": step == 1,
    }


def lamb_scalars(step, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=1e-2):
    beta1, beta2 = betas
    return {
        "weight_decay": weight_decay,
        "one_minus_beta1": 1.0 - beta1,
        "beta2": beta2,
        "one_minus_beta2": 1.0 - beta2,
        "inv_bias_correction1": 1.0 / (1.0 - beta1**step),
        "inv_sqrt_bias_correction2": 1.0 / math.sqrt(1.0 - beta2**step),
        "eps": eps,
        "lr": lr,
    }


def lars_scalars(step, lr, momentum=0.9, trust_coefficient=1e-3, weight_decay=0.0, nesterov=False):
    return {
        "weight_decay": weight_decay,
        "momentum": momentum,
        "nesterov": nesterov,
        "lr": lr,
        "trust_coefficient": trust_coefficient,
    }


def adafactor_scalars(step, lr, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0):
    return {
        "decay": 1.0 - lr * weight_decay,
        "one_minus_beta2": float(step) ** beta2_decay,
        "eps1": 0.0 if eps[0] is None else eps[0],
        "eps2": eps[1],
        "rho": min(lr, 1.0 / math.sqrt(step)),
        "d": d,
    }


SCALARS: dict[str, Callable[..., dict[str, Any]]] = {
    "sgd": sgd_scalars,
    "adagrad": adagrad_scalars,
    "rmsprop": rmsprop_scalars,
    "adadelta": adadelta_scalars,
    "adam": adam_scalars,
    "adamw": adamw_scalars,
    "adamax": adamax_scalars,
    "nadam": nadam_scalars,
    "radam": radam_scalars,
    "rprop": rprop_scalars,
    "asgd": asgd_scalars,
    "lion": lion_scalars,
    "ademamix": ademamix_scalars,
    "schedulefree_adamw": schedulefree_adamw_scalars,
    "adan": adan_scalars,
    "lamb": lamb_scalars,
    "lars": lars_scalars,
    "adafactor": adafactor_scalars,
}
# Numbers that a tensor carries from update to update: names with first values, and how update `step` changes them.
CARRIED = {"nadam": {"mu_product": 1.0}, "schedulefree_adamw": {"weight_sum": 0.0, "lr_max": 0.0}}
CARRY = {"nadam": nadam_carry, "schedulefree_adamw": schedulefree_adamw_carry}

# Storage.


def compute_type(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    return np.float64 if dtype == np.float64 else np.float32


def decode(array: Array, compute: type[np.floating[Any]]) -> Array:
    """Stored elements in the compute type; float64 is rounded once where that is float32."""
    return array.astype(compute)


def encode(array: Array, dtype: np.dtype[Any], words: Array | None = None) -> Array:
    """Rounded to storage; float64 becomes a 16-bit type by way of float32."""
    if isinstance(dtype, CodedType):
        return dtype.encode(array, words)
    return array.astype(np.float32).astype(dtype) if dtype.itemsize == 2 else array.astype(dtype)


def state_type(param: Array, slot: str, state_dtype: str, min_8bit_size: int) -> Any:
    """How a state array is stored."""
    coded = coded_type(state_dtype, slot) if param.size >= min_8bit_size else None
    return coded or state_dtype_of(param.dtype, state_dtype)


def state_dtype_of(param: np.dtype[Any], state_dtype: str) -> np.dtype[Any]:
    return BFLOAT16 if state_dtype == "bfloat16" else np.dtype(compute_type(param))


def wide(array: Array, compute: type[np.floating[Any]] | None = None) -> Array:
    """float64 of the values that the elements have in the compute type, in C order."""
    return decode(array, compute or compute_type(array.dtype)).astype(np.float64).reshape(-1)


def reduce(arrays: Sequence[Array], kind: str) -> float:
    if kind == "max_abs":
        largest = [np.abs(wide(array)).max(initial=0.0) for array in arrays]
        return float(np.max([0.0, *largest]))
    term = {"sum": lambda x: x, "sum_abs": np.abs, "sum_squares": lambda x: x * x}[kind]
    total = 0.0
    for array in arrays:
        total = total + fixed_sum(term(wide(array)))
    return total


# A step.


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


def step_tensor(
    rule: str,
    param: Array,
    grad: Array,
    state: dict[str, Array],
    scalars: dict[str, Any],
    *,
    maximize: bool = False,
    clip: float = 1.0,
    grad_scale: float = 1.0,
    kept: Array | None = None,
    words: Callable[[int], Array] | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Parameter and state after one update of stored arrays; a slot that is not in `state` reads as zeros."""
    compute = compute_type(param.dtype)
    with np.errstate(all="ignore"):
        exact = EXACT.get(rule, set())
        rounded = {key: x if key in exact else bool(x) if key in FLAGS else compute(x) for key, x in scalars.items()}
        factor = compute((-1.0 if maximize else 1.0) * (clip / grad_scale))
        zeros = np.zeros(param.shape, compute)
        values = tuple(decode(state[slot], compute) if slot in state else zeros for slot in STATE[rule])
        new_param, new_values = RULES[rule](decode(param, compute), decode(grad, compute) * factor, values, **rounded)
        if kept is not None:
            new_values = tuple(
                x if slot in SHARED else np.where(kept, x, compute(0)) for slot, x in zip(STATE[rule], new_values)
            )
        new_state = {
            slot: encode(x, state[slot].dtype, words(k) if words and isinstance(state[slot].dtype, CodedType) else None)
            for k, (slot, x) in enumerate(zip(STATE[rule], new_values))
            if slot in state
        }
        return encode(new_param, param.dtype), new_state


def slots_of(rule: str, settings: dict[str, Any], param: Array) -> tuple[str, ...]:
    """State that exists with these hyperparameters."""
    if rule == "adafactor":
        return STATE[rule][:2] if param.ndim > 1 else STATE[rule][2:]
    missing = {
        "sgd": {"momentum"} if not settings.get("momentum") else set(),
        "adam": {"v_max"} if not settings.get("amsgrad") else set(),
        "adamw": {"v_max"} if not settings.get("amsgrad") else set(),
        "rmsprop": {
            slot for slot, flag in (("grad_avg", "centered"), ("momentum", "momentum")) if not settings.get(flag)
        },
    }.get(rule, set())
    return tuple(slot for slot in STATE[rule] if slot not in missing)


def state_shape(slot: str, param: Array) -> tuple[int, ...]:
    if slot == "row_var":
        return (*param.shape[:-1], 1)
    if slot == "col_var":
        return (*param.shape[:-2], 1, param.shape[-1])
    return param.shape


def initial(rule: str, slot: str, param: Array, settings: dict[str, Any]) -> Any:
    """What a state array holds before the first update."""
    if (rule, slot) == ("adagrad", "sum"):
        return np.float64(settings.get("initial_accumulator_value", 0.0))
    if (rule, slot) == ("rprop", "step_size"):
        return np.float64(settings["lr"])
    if (rule, slot) == ("schedulefree_adamw", "z"):
        return decode(param, compute_type(param.dtype))
    return np.float64(0.0)


class Reference:
    """A whole optimizer of one group: copies of the parameters, state, a step count for each tensor."""

    def __init__(self, rule: str, params: dict[str, Array], state_dtype: str = "float32", **settings: Any) -> None:
        self.rule = rule
        self.maximize = settings.pop("maximize", False)
        self.max_norm = settings.pop("max_norm", None)
        min_8bit_size = settings.pop("min_8bit_size", 4096)
        self.settings = settings
        self.params = {name: param.copy() for name, param in params.items()}
        self.state = {
            name: {
                slot: encode(
                    np.broadcast_to(initial(rule, slot, param, settings), state_shape(slot, param)),
                    state_type(param, slot, state_dtype, min_8bit_size),
                )
                for slot in slots_of(rule, settings, param)
            }
            for name, param in params.items()
        }
        self.steps = dict.fromkeys(params, 0)
        self.carried = dict.fromkeys(params, tuple(CARRIED.get(rule, {}).values()))

    def step(self, grads: dict[str, Array | None], grad_scale: float = 1.0, **changed: Any) -> float | None:
        """One update; `changed` are hyperparameters of this step alone (a schedule's lr)."""
        present = {name: grad for name, grad in grads.items() if grad is not None}
        norm, clip = None, 1.0
        if self.max_norm is not None:
            with np.errstate(all="ignore"):
                norm = grad_norm([self.params[name] for name in present], list(present.values()), grad_scale)
            clip = clip_factor(self.max_norm, norm)
        for name, grad in present.items():
            scalars = self.advance(name, changed)
            self.params[name], self.state[name] = step_tensor(
                self.rule,
                self.params[name],
                grad,
                self.state[name],
                scalars,
                maximize=self.maximize,
                clip=clip,
                grad_scale=grad_scale,
            )
        return norm

    def advance(self, name: str, changed: dict[str, Any]) -> dict[str, Any]:
        """Counts a step of the tensor; the scalars of that step."""
        self.steps[name] += 1
        settings, carried = {**self.settings, **changed}, {}
        if self.rule in CARRY:
            carried = {"carried": self.carried[name]}
            self.carried[name] = CARRY[self.rule](self.steps[name], **settings, **carried)
        return SCALARS[self.rule](self.steps[name], **settings, **carried)


# Philox4x32-10: rust/random.rs.


def philox4x32(counters: Array, key: tuple[int, int]) -> Array:
    """Four words for each row of four counter words."""
    x = counters.astype(np.uint64)
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for round_ in range(10):
        key0 = np.uint64((key[0] + round_ * 0x9E3779B9) & 0xFFFFFFFF)
        key1 = np.uint64((key[1] + round_ * 0xBB67AE85) & 0xFFFFFFFF)
        a, b = x[:, 0] * np.uint64(0xD2511F53), x[:, 2] * np.uint64(0xCD9E8D57)
        x = np.stack([(b >> shift) ^ x[:, 1] ^ key0, b & low, (a >> shift) ^ x[:, 3] ^ key1, a & low], axis=1)
    return x.astype(np.uint32)


def uniform(n: int, seed: int, step: int, stream: int, start: int = 0) -> Array:
    """Element e takes word e mod 4 of block e // 4: (word >> 8) · 2^-24."""
    blocks = range(start // 4, (start + n + 3) // 4)
    counters = np.array([[b & 0xFFFFFFFF, b >> 32, step, stream] for b in blocks], np.uint64).reshape(-1, 4)
    words = philox4x32(counters, (seed & 0xFFFFFFFF, seed >> 32)).reshape(-1)[start % 4 :][:n]
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
