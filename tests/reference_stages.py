"""The oracle of what is folded around a rule: masks, clipping, averages, copies, random rounding, zeroed gradients.

One function a stage, in the order of a step. As in reference_rules.py each operation is NumPy's own in the compute
type, so each is rounded once; factors are computed in float64.
"""

import math
from typing import Any

import ml_dtypes
import numpy as np

from reference import Reference, step_tensor
from reference_random import random_words
from reference_storage import DTYPES, Array, compute_type, decode, encode
from reference_sums import BLOCK, LANES, fixed_sum

LEAST_PARAM_NORM = 1e-3
ROUNDING_STREAM = 2**24
SHADOWS = {"bfloat16": DTYPES["bf16"], "float16": DTYPES["f16"]}

Arrays = dict[str, Array]


def masked(x: Array, kept: Array | None) -> Array:
    """+0.0 where the mask is False, whatever stood there."""
    return x if kept is None else np.where(kept, x, x.dtype.type(0))


def clamped(x: Array, limit: np.floating[Any]) -> Array:
    """NaN stays NaN."""
    x = np.where(x > limit, limit, x)
    return np.where(x < -limit, -limit, x)


def norm_of(arrays: list[Array], norm_type: float) -> float:
    """Of all arrays as one vector."""
    flat = [x.astype(np.float64).reshape(-1) for x in arrays]
    if norm_type == math.inf:
        return float(np.max([0.0, *(np.abs(x).max(initial=0.0) for x in flat)]))
    total = 0.0
    for x in flat:
        total = total + fixed_sum(np.abs(x) if norm_type == 1 else x * x)
    return total if norm_type == 1 else math.sqrt(total)


def units_of(x: Array) -> Array:
    """A row for each unit."""
    return x.reshape(x.shape[0], -1) if x.ndim > 1 and x.size else x.reshape(1, -1)


def unit_norms(x: Array) -> Array:
    squares = units_of(x).astype(np.float64) ** 2
    count, unit = squares.shape
    if unit > BLOCK:
        return np.array([math.sqrt(fixed_sum(row)) for row in squares])
    lanes, rows = np.zeros((count, LANES)), -(-unit // LANES)
    padded = np.zeros((count, rows * LANES))
    padded[:, :unit] = squares
    for row in range(rows):
        lanes = lanes + padded[:, row * LANES : (row + 1) * LANES]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return np.sqrt(lanes[:, 0])


def unit_factors(grad: Array, param: Array, agc: float, scale: float) -> Array:
    """For each unit a float64 factor, `scale` being what the norm is yet to be multiplied by."""
    norms, param_norms = unit_norms(grad) * scale, unit_norms(param)
    limits = agc * np.where(param_norms > LEAST_PARAM_NORM, param_norms, LEAST_PARAM_NORM)
    return np.where(norms > limits, limits / norms, 1.0)


def times_units(grad: Array, factors: Array) -> Array:
    rounded = factors.astype(grad.dtype)
    return (units_of(grad) * rounded[:, None]).reshape(grad.shape)


def neighbours(x: Array, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """The largest stored magnitude that is not above |x|, and the next one; x finite."""
    nearest = np.abs(x).astype(dtype)
    bits = nearest.view(np.uint16)
    below = np.where(nearest.astype(np.float64) > np.abs(x), bits - np.uint16(1), bits)
    return below.view(dtype), (below + np.uint16(1)).view(dtype)


def rounded_randomly(x: Array, dtype: np.dtype[Any], words: Array) -> Array:
    """Up where a random integer of as many bits as are cut off carries; float16's denormals: where u < fraction."""
    words = words.reshape(x.shape)
    finite = np.isfinite(x)
    magnitude = np.abs(np.where(finite, x, np.float32(0)))
    info = ml_dtypes.finfo(dtype)
    top = 2.0 ** int(info.maxexp)
    inside = np.where(magnitude < top, magnitude, np.float32(0))
    low, high = neighbours(inside, dtype)
    wide_low, wide_high = low.astype(np.float64), high.astype(np.float64)
    wide_high = np.where(np.isinf(wide_high), top, wide_high)
    fraction = (inside.astype(np.float64) - wide_low) / (wide_high - wide_low)
    cut = 23 - int(info.nmant)
    carries = fraction * 2.0**cut + (words >> np.uint32(32 - cut)) >= 2.0**cut
    if dtype == np.float16:
        uniform = (words >> np.uint32(8)).astype(np.float64) * 2.0**-24
        carries = np.where(inside < 2.0**-14, uniform < fraction, carries)
    result = np.where(carries, high.view(np.uint16), low.view(np.uint16))
    result = np.where(magnitude < top, result, np.array(np.inf, dtype).view(np.uint16))
    result = np.where(np.signbit(x), result | np.uint16(0x8000), result).view(dtype)
    return np.where(finite, result, x.astype(dtype))


class Staged(Reference):
    """`Reference` with everything that can be folded into a step."""

    def __init__(
        self,
        rule: str,
        params: Arrays,
        state_dtype: str = "float32",
        *,
        clip_value: float | None = None,
        norm_type: float = 2.0,
        agc: float | None = None,
        masks: Arrays | None = None,
        ema: float | None = None,
        master: bool = False,
        shadow: str | Arrays | None = None,
        rounding: str = "nearest",
        state_rounding: str = "nearest",
        seed: int = 0,
        zero_grads: bool = False,
        on_nonfinite: str = "raise",
        **settings: Any,
    ) -> None:
        super().__init__(rule, params, state_dtype, **settings)
        self.clip_value, self.norm_type, self.agc, self.ema = clip_value, norm_type, agc, ema
        self.state_rounding, self.place = state_rounding, {name: i for i, name in enumerate(params)}
        self.masks, self.rounding, self.seed, self.zero_grads = masks or {}, rounding, seed, zero_grads
        self.checks, self.updates = on_nonfinite != "propagate", 0
        self.stream = {name: ROUNDING_STREAM + i for i, name in enumerate(params)}
        self.copies: dict[str, Arrays] = {name: {} for name in params}
        with np.errstate(all="ignore"):
            for name, param in params.items():
                self._make_copies(name, param, master, shadow)

    def _make_copies(self, name: str, param: Array, master: bool, shadow: str | Arrays | None) -> None:
        wide, half = decode(param, compute_type(param.dtype)), param.dtype.itemsize == 2
        if master and half:
            self.copies[name]["master"] = wide
        if self.ema is not None:
            self.copies[name]["ema"] = masked(wide.copy(), self.masks.get(name))
        if isinstance(shadow, str) and not half:
            self.copies[name]["shadow"] = encode(param, SHADOWS[shadow])
        elif isinstance(shadow, dict) and name in shadow:
            self.copies[name]["shadow"] = encode(param, shadow[name].dtype)

    def worked_on(self, name: str) -> Array:
        """The master copy, or the parameter."""
        return self.copies[name].get("master", self.params[name])

    def step(self, grads: dict[str, Array | None], grad_scale: float = 1.0, **changed: Any) -> float | None:
        """One update; a FloatingPointError if the check refuses the gradients, with nothing changed."""
        with np.errstate(all="ignore"):
            return self._step(grads, grad_scale, changed)

    def _step(self, grads: dict[str, Array | None], grad_scale: float, changed: dict[str, Any]) -> float | None:
        inverse, clips = 1.0 / grad_scale, self.clip_value is not None
        compute = {name: compute_type(self.worked_on(name).dtype) for name in grads}
        raw = {
            name: masked(decode(grad, compute[name]), self.masks.get(name))
            for name, grad in grads.items()
            if grad is not None
        }
        finite = all(np.isfinite(grad * compute[name](inverse)).all() for name, grad in raw.items())
        seen = raw
        if clips:
            seen = {
                name: clamped(grad * compute[name](inverse), compute[name](self.clip_value))
                for name, grad in raw.items()
            }
        norm, clip = None, 1.0
        if self.max_norm is not None:
            norm = norm_of(list(seen.values()), self.norm_type) / (1.0 if clips else abs(grad_scale))
            finite = finite and math.isfinite(norm)
            factor = self.max_norm / (norm + 1e-6)
            clip = 1.0 if factor > 1.0 else factor
        if self.checks and not finite:
            raise FloatingPointError(f"not finite, or the norm {norm}")
        for name, grad in seen.items():
            factor = compute[name](clip if clips else clip / grad_scale)
            prepared = grad * factor
            if self.agc is not None:
                scale = clip if clips else clip / abs(grad_scale)
                param = decode(self.worked_on(name), compute[name])
                prepared = times_units(prepared, unit_factors(grad, param, self.agc, scale))
            self._update(name, prepared, changed)
            if self.zero_grads:
                grads[name][...] = 0
        self.updates += 1
        return norm

    def _update(self, name: str, grad: Array, changed: dict[str, Any]) -> None:
        scalars = self.advance(name, changed)
        kept, copies = self.masks.get(name), self.copies[name]
        wide = decode(self.worked_on(name), grad.dtype.type)
        # In the compute type the parameter comes back as it was computed.
        state = self.state[name]
        new, self.state[name] = step_tensor(
            self.rule, wide, grad, state, scalars, maximize=self.maximize, kept=kept, words=self._state_words(name)
        )
        new = masked(new, kept)
        if "master" in copies:
            copies["master"] = new
        self.params[name] = self._stored(name, new)
        stored = new if "master" in copies else decode(self.params[name], grad.dtype.type)
        if "ema" in copies:
            ema, weight = copies["ema"], grad.dtype.type(1.0 - self.ema)
            copies["ema"] = masked(ema + (stored - ema) * weight, kept)
        if "shadow" in copies:
            copies["shadow"] = encode(stored, copies["shadow"].dtype)

    def _state_words(self, name: str) -> Any:
        """State array k has the purpose 2 + 16·k."""
        if self.state_rounding == "nearest":
            return None
        n, tensor = self.params[name].size, self.place[name]
        return lambda k: random_words(n, self.seed, self.updates, (2 + 16 * k) * 2**24 + tensor)

    def _stored(self, name: str, new: Array) -> Array:
        dtype = self.params[name].dtype
        if self.rounding == "nearest" or dtype.itemsize != 2:
            return encode(new, dtype)
        return rounded_randomly(new, dtype, random_words(new.size, self.seed, self.updates, self.stream[name]))
