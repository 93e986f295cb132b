"""The oracle of a whole optimizer: rules of reference_rules.py over stored arrays, scalars of reference_scalars.py."""

from collections.abc import Callable
from typing import Any

import numpy as np

from reference_codes import CodedType, coded_type
from reference_reduce import clip_factor, grad_norm
from reference_rules import EXACT, FLAGS, RULES, SHARED, STATE
from reference_scalars import CARRIED, CARRY, SCALARS
from reference_storage import BFLOAT16, Array, compute_type, decode, encode


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


def state_type(param: Array, slot: str, state_dtype: str, min_8bit_size: int) -> Any:
    """How a state array is stored."""
    coded = coded_type(state_dtype, slot) if param.size >= min_8bit_size else None
    return coded or state_dtype_of(param.dtype, state_dtype)


def state_dtype_of(param: np.dtype[Any], state_dtype: str) -> np.dtype[Any]:
    return BFLOAT16 if state_dtype == "bfloat16" else np.dtype(compute_type(param))


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
