"""The oracle's scalars of Adam's family."""

import math


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
