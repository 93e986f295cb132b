"""The oracle's scalars of update `step` (from 1) in float64, from a group's hyperparameters.

They stand here again on purpose.
"""

import math
from collections.abc import Callable
from typing import Any

from reference_scalars_adam import (
    adam_scalars,
    adamax_scalars,
    adamw_scalars,
    adan_scalars,
    ademamix_scalars,
    nadam_carry,
    nadam_scalars,
    radam_scalars,
    schedulefree_adamw_carry,
    schedulefree_adamw_scalars,
)


def sgd_scalars(step, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    return {
        "lr": lr,
        "weight_decay": weight_decay,
        "momentum": momentum,
        "one_minus_dampening": 1.0 - dampening,
        "nesterov": nesterov,
        "first_step": step == 1,
    }


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
