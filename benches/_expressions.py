"""Optimizer steps in NumPy: in place, without temporaries, as one writes it who knows NumPy well."""

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def numpy_sgd(
    step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float, momentum: float
) -> None:
    """Momentum: b = μb + g; p -= lr·b."""
    (b,) = state
    if step == 1:
        np.copyto(b, grad)
    else:
        b *= momentum
        b += grad
    np.multiply(b, lr, out=s)
    param -= s


def numpy_adam(
    step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float, weight_decay: float = 0.0
) -> None:
    """Adam, with decoupled decay if there is any."""
    m, v = state
    m *= 0.9
    np.multiply(grad, 1 - 0.9, out=s)
    m += s
    v *= 0.999
    np.square(grad, out=s)
    s *= 1 - 0.999
    v += s
    np.sqrt(v, out=s)
    s *= 1 / math.sqrt(1 - 0.999**step)
    s += 1e-8
    np.divide(m, s, out=s)
    s *= lr / (1 - 0.9**step)
    if weight_decay:
        param *= 1 - lr * weight_decay
    param -= s


def numpy_adagrad(step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float) -> None:
    """Adagrad: sum += g²; p -= lr·g / (√sum + ε)."""
    (total,) = state
    np.square(grad, out=s)
    total += s
    _divided(param, grad, total, s, lr, 1e-10)


def numpy_rmsprop(step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float) -> None:
    """RMSprop: v = EMA(g²); p -= lr·g / (√v + ε)."""
    (v,) = state
    _average_square(v, grad, s, 0.99)
    _divided(param, grad, v, s, lr, 1e-8)


def numpy_adadelta(
    step: int,
    param: Array,
    grad: Array,
    state: list[Array],
    s: Array,
    *,
    lr: float,
    eps: float,
) -> None:
    """Adadelta: v = EMA(g²); δ = √(u + ε) / √(v + ε)·g; u = EMA(δ²); p -= lr·δ."""
    v, u, delta = state
    _average_square(v, grad, s, 0.9)
    np.add(v, eps, out=s)
    np.add(u, eps, out=delta)
    delta /= s
    np.sqrt(delta, out=delta)
    delta *= grad
    _average_square(u, delta, s, 0.9)
    delta *= lr
    param -= delta


def numpy_adamax(step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float) -> None:
    """Adamax: m = EMA(g); u = max(β2·u, |g| + ε); p -= lr/bc1·m / u."""
    m, u = state
    _average(m, grad, s, 0.9)
    u *= 0.999
    np.abs(grad, out=s)
    s += 1e-8
    np.maximum(u, s, out=u)
    np.divide(m, u, out=s)
    s *= lr / (1 - 0.9**step)
    param -= s


def numpy_nadam(step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float) -> None:
    """NAdam: Adam with a step along the gradient and one along the mean."""
    m, v, step_ = state
    mu = [0.9 * (1 - 0.5 * 0.96 ** (0.004 * t)) for t in range(1, step + 2)]
    product = math.prod(mu[:-1])
    _average(m, grad, s, 0.9)
    _average_square(v, grad, s, 0.999)
    np.multiply(m, lr * mu[-1] / (1 - product * mu[-1]), out=step_)
    np.multiply(grad, lr * (1 - mu[-2]) / (1 - product), out=s)
    step_ += s
    np.sqrt(v, out=s)
    s *= 1 / math.sqrt(1 - 0.999**step)
    s += 1e-8
    step_ /= s
    param -= step_


def numpy_radam(step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float) -> None:
    """RAdam: m = EMA(g); v = EMA(g²); p -= rate·m / (√v + ε), without the division in the first steps."""
    m, v = state
    _average(m, grad, s, 0.9)
    _average_square(v, grad, s, 0.999)
    correction = 1 - 0.999**step
    longest = 2 / (1 - 0.999) - 1
    length = longest - 2 * step * 0.999**step / correction
    rate = lr / (1 - 0.9**step)
    if length <= 5:
        np.multiply(m, rate, out=s)
        param -= s
        return
    ratio = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    _divided(param, m, v, s, rate * math.sqrt(ratio * correction), 1e-8)


def numpy_rprop(step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float) -> None:
    """Rprop: Δ *= 1.2 where g·prev > 0, 0.5 where it is < 0, and g counts as 0 there; p -= sign(g)·Δ."""
    previous, size = state
    if step == 1:
        size.fill(lr)
    np.multiply(grad, previous, out=s)
    turned = s < 0
    np.multiply(size, 1.2, out=size, where=s > 0)
    np.multiply(size, 0.5, out=size, where=turned)
    np.clip(size, 1e-6, 50, out=size)
    np.copyto(previous, grad)
    previous[turned] = 0
    np.sign(previous, out=s)
    s *= size
    param -= s


def numpy_asgd(step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float) -> None:
    """ASGD: p = p(1 - λd·η) - η·g; ax = p as long as nothing is averaged."""
    (ax,) = state
    eta = lr / (1 + 1e-4 * lr * (step - 1)) ** 0.75
    param *= 1 - 1e-4 * eta
    np.multiply(grad, eta, out=s)
    param -= s
    np.copyto(ax, param)


def numpy_lion(step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float) -> None:
    """Lion: p -= lr·sign(β1·m + (1 - β1)g); m = EMA(g)."""
    (m,) = state
    np.subtract(grad, m, out=s)
    s *= 1 - 0.9
    s += m
    np.sign(s, out=s)
    s *= lr
    param -= s
    _average(m, grad, s, 0.99)


def numpy_ademamix(step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float) -> None:
    """AdEMAMix: Adam with α = 5 times a slow mean added to the mean."""
    m, v, slow, sum_ = state
    _average(m, grad, s, 0.9)
    _average_square(v, grad, s, 0.999)
    _average(slow, grad, s, 0.9999)
    np.multiply(m, 1 / (1 - 0.9**step), out=sum_)
    np.multiply(slow, 5.0, out=s)
    sum_ += s
    _divided(param, sum_, v, s, lr, 1e-8, 1 / math.sqrt(1 - 0.999**step))


def numpy_schedulefree_adamw(step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float) -> None:
    """Schedule-free AdamW: n = g / (√(v/bc2) + ε); y += (z - y)/t + lr(β1(1 - 1/t) - 1)n; z -= lr·n."""
    z, v, normalized = state
    if step == 1:
        np.copyto(z, param)
    _average_square(v, grad, s, 0.999)
    np.sqrt(v, out=s)
    s *= 1 / math.sqrt(1 - 0.999**step)
    s += 1e-8
    np.divide(grad, s, out=normalized)
    np.subtract(z, param, out=s)
    s *= 1 / step
    param += s
    np.multiply(normalized, lr * (0.9 * (1 - 1 / step) - 1), out=s)
    param += s
    normalized *= lr
    z -= normalized


def numpy_adan(step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float) -> None:
    """Adan: m = EMA(g); w = EMA(d); n = EMA((g + β2·d)²); p -= lr·(m/bc1 + β2·w/bc2) / (√n/√bc3 + ε)."""
    m, w, n, previous, diff = state
    np.subtract(grad, grad if step == 1 else previous, out=diff)
    _average(m, grad, s, 0.98)
    _average(w, diff, s, 0.92)
    diff *= 0.92
    diff += grad
    _average_square(n, diff, s, 0.99)
    np.multiply(m, 1 / (1 - 0.98**step), out=diff)
    np.multiply(w, 0.92 / (1 - 0.92**step), out=s)
    diff += s
    _divided(param, diff, n, s, lr, 1e-8, 1 / math.sqrt(1 - 0.99**step))
    np.copyto(previous, grad)


def numpy_lamb(
    step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float, weight_decay: float
) -> None:
    """LAMB: u = Adam's direction + λp; p -= lr·(‖p‖ / ‖u‖)·u."""
    m, v, update = state
    _average(m, grad, s, 0.9)
    _average_square(v, grad, s, 0.999)
    np.sqrt(v, out=s)
    s *= 1 / math.sqrt(1 - 0.999**step)
    s += 1e-6
    np.divide(m, s, out=update)
    update *= 1 / (1 - 0.9**step)
    np.multiply(param, weight_decay, out=s)
    update += s
    update *= lr * (_norm(param) / _norm(update))
    param -= update


def numpy_lars(
    step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float, trust_coefficient: float
) -> None:
    """LARS: b = μb + lr·trust·(‖p‖ / ‖g‖)·g; p -= b."""
    (b,) = state
    b *= 0.9
    np.multiply(grad, lr * trust_coefficient * (_norm(param) / _norm(grad)), out=s)
    b += s
    param -= b


def numpy_adafactor(step: int, param: Array, grad: Array, state: list[Array], s: Array, *, lr: float) -> None:
    """Adafactor of a vector: v = EMA(g²); U = g / √v; p -= max(ε2, RMS(p))·ρ·U / max(1, RMS(U))."""
    (v,) = state
    _average_square(v, grad, s, 1 - step**-0.8)
    np.maximum(v, np.finfo(v.dtype).eps ** 2, out=s)
    np.sqrt(s, out=s)
    np.divide(grad, s, out=s)
    root = math.sqrt(param.size)
    size, length = _norm(param) / root, _norm(s) / root
    s *= max(1e-3, size) * min(lr, 1 / math.sqrt(step)) / max(1.0, length)
    param -= s


def _norm(x: Array) -> float:
    """In float64: a sum of 64 Mi squares in float32 is off by more than a step may be."""
    return math.sqrt(np.einsum("i,i->", x, x, dtype=np.float64))


def _average(m: Array, x: Array, s: Array, beta: float) -> None:
    m *= beta
    np.multiply(x, 1 - beta, out=s)
    m += s


def _average_square(v: Array, x: Array, s: Array, beta: float) -> None:
    v *= beta
    np.square(x, out=s)
    s *= 1 - beta
    v += s


def _divided(param: Array, x: Array, v: Array, s: Array, rate: float, eps: float, inverse: float = 1.0) -> None:
    """The step p -= rate·x / (√v·inverse + eps)."""
    np.sqrt(v, out=s)
    if inverse != 1.0:
        s *= inverse
    s += eps
    np.divide(x, s, out=s)
    s *= rate
    param -= s
