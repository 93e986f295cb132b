"""The NumPy oracle: what each kernel must equal bit for bit.

A rule here and its file in rust/optim/ say the same lines with the same names in the same order. Arrays are of
the compute type and so are the scalars: NumPy's float64 scalars would promote float32 arrays.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64), "bf16": BFLOAT16, "f16": np.dtype(np.float16)}
BLOCK = 4096
LANES = 128

Array = np.ndarray[Any, Any]

# Rules: rust/optim/sgd.rs and adam.rs.


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


RULES: dict[str, Callable[..., Any]] = {"sgd": sgd, "adam": adam, "adamw": adam}
STATE = {"sgd": ("momentum",), "adam": ("m", "v", "v_max"), "adamw": ("m", "v", "v_max")}
FLAGS = {"nesterov", "first_step", "amsgrad"}

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
        "weight_decay": 0.0 if decoupled_weight_decay else weight_decay,
        "decay": 1.0 - lr * weight_decay if decoupled_weight_decay else 1.0,
        "one_minus_beta1": 1.0 - beta1,
        "beta2": beta2,
        "one_minus_beta2": 1.0 - beta2,
        "step_size": lr / (1.0 - beta1**step),
        "inv_sqrt_bias_correction2": 1.0 / math.sqrt(1.0 - beta2**step),
        "eps": eps,
        "amsgrad": amsgrad,
    }


def adamw_scalars(step, lr, weight_decay=1e-2, **others):
    return adam_scalars(step, lr, weight_decay=weight_decay, decoupled_weight_decay=True, **others)


SCALARS: dict[str, Callable[..., dict[str, Any]]] = {"sgd": sgd_scalars, "adam": adam_scalars, "adamw": adamw_scalars}

# Storage.


def compute_type(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    return np.float64 if dtype == np.float64 else np.float32


def decode(array: Array, compute: type[np.floating[Any]]) -> Array:
    """Stored elements in the compute type; float64 is rounded once where that is float32."""
    return array.astype(compute)


def encode(array: Array, dtype: np.dtype[Any]) -> Array:
    """Rounded to storage; float64 becomes a 16-bit type by way of float32."""
    return array.astype(np.float32).astype(dtype) if dtype.itemsize == 2 else array.astype(dtype)


def state_dtype_of(param: np.dtype[Any], state_dtype: str) -> np.dtype[Any]:
    return BFLOAT16 if state_dtype == "bfloat16" else np.dtype(compute_type(param))


# Fixed-shape sums: rust/reduce.rs.


def fixed_sum(terms: Array) -> float:
    """Blocks of 4,096; lane i mod 128 in order from +0.0; lanes fold by halves; the blocks' results likewise."""
    terms = terms.astype(np.float64).reshape(-1)
    while True:
        blocks = -(-terms.size // BLOCK)
        padded = np.zeros(max(blocks, 1) * BLOCK)
        padded[: terms.size] = terms
        rows = padded.reshape(-1, BLOCK // LANES, LANES)
        lanes = np.zeros((len(rows), LANES))
        for row in range(BLOCK // LANES):
            lanes = lanes + rows[:, row]
        half = LANES // 2
        while half > 0:
            lanes = lanes[:, :half] + lanes[:, half:]
            half //= 2
        terms = lanes[:, 0]
        if terms.size == 1:
            return float(terms[0])


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
) -> tuple[Array, dict[str, Array]]:
    """Parameter and state after one update of stored arrays; a slot that is not in `state` reads as zeros."""
    compute = compute_type(param.dtype)
    with np.errstate(all="ignore"):
        rounded = {key: bool(x) if key in FLAGS else compute(x) for key, x in scalars.items()}
        factor = compute((-1.0 if maximize else 1.0) * (clip / grad_scale))
        zeros = np.zeros(param.shape, compute)
        values = tuple(decode(state[slot], compute) if slot in state else zeros for slot in STATE[rule])
        new_param, new_values = RULES[rule](decode(param, compute), decode(grad, compute) * factor, values, **rounded)
        new_state = {slot: encode(x, state[slot].dtype) for slot, x in zip(STATE[rule], new_values) if slot in state}
        return encode(new_param, param.dtype), new_state


def slots_of(rule: str, settings: dict[str, Any]) -> tuple[str, ...]:
    """State that exists with these hyperparameters."""
    if rule == "sgd":
        return STATE[rule] if settings.get("momentum") else ()
    return STATE[rule] if settings.get("amsgrad") else STATE[rule][:2]


class Reference:
    """A whole optimizer of one group: copies of the parameters, zero state, a step count for each tensor."""

    def __init__(self, rule: str, params: dict[str, Array], state_dtype: str = "float32", **settings: Any) -> None:
        self.rule = rule
        self.maximize = settings.pop("maximize", False)
        self.max_norm = settings.pop("max_norm", None)
        self.settings = settings
        self.params = {name: param.copy() for name, param in params.items()}
        self.state = {
            name: {
                slot: np.zeros(param.shape, state_dtype_of(param.dtype, state_dtype))
                for slot in slots_of(rule, settings)
            }
            for name, param in params.items()
        }
        self.steps = dict.fromkeys(params, 0)

    def step(self, grads: dict[str, Array | None], grad_scale: float = 1.0, **changed: Any) -> float | None:
        """One update; `changed` are hyperparameters of this step alone (a schedule's lr)."""
        present = {name: grad for name, grad in grads.items() if grad is not None}
        norm, clip = None, 1.0
        if self.max_norm is not None:
            with np.errstate(all="ignore"):
                norm = grad_norm([self.params[name] for name in present], list(present.values()), grad_scale)
            clip = clip_factor(self.max_norm, norm)
        for name, grad in present.items():
            self.steps[name] += 1
            scalars = SCALARS[self.rule](self.steps[name], **{**self.settings, **changed})
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
