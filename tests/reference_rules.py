"""The oracle's rules: what each kernel must equal bit for bit.

A rule here and its file in rust/optim/ say the same lines with the same names in the same order. Arrays are of
the compute type and so are the scalars: NumPy's float64 scalars would promote float32 arrays.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from reference_adam import adam, adamax, adan, ademamix, nadam, radam, schedulefree_adamw
from reference_layerwise import adafactor, lamb, lars
from reference_storage import larger, sign


def sgd(param, grad, state, *, lr, weight_decay, momentum, one_minus_dampening, nesterov, first_step):
    (buffer,) = state
    if weight_decay != 0:
        grad = grad + param * weight_decay
    if momentum == 0:
        return param - grad * lr, (buffer,)
    buffer = grad if first_step else buffer * momentum + grad * one_minus_dampening
    direction = grad + buffer * momentum if nesterov else buffer
    return param - direction * lr, (buffer,)


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
SHARED = {"row_var", "col_var"}
"""Means over rows and columns belong to no single element, so that no mask zeroes them."""

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
