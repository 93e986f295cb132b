"""The oracle's rules of Adam's family: rust/optim/*.rs."""

import numpy as np

from reference_storage import larger


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
