"""What every optimizer can fold into its steps: keyword arguments and their checks."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from numbers import Real
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from stepsmith import _check
from stepsmith._backend import is_on_gpu, moved, namespace
from stepsmith.optim._codes import STATE_DTYPES, UNCODED

__all__ = ["Masks", "Options", "Shadow", "StepOptions", "mask_arrays", "mask_bits"]

Array = NDArray[Any]
Masks = Mapping[str, NDArray[np.bool_]]
Shadow = str | Mapping[str, Array]

_NORMS = {1.0: "sum_abs", 2.0: "sum_squares", inf: "max_abs"}


class StepOptions(TypedDict, total=False):
    """Keyword arguments that every optimizer takes.

    Inside a step each operation is rounded once to the compute type, in this order: mask the gradient, divide by
    ``grad_scale``, check, clip by value, by norm, by unit (AGC), the rule, mask, store, moving average, shadow copy,
    zero the gradient.
    """

    state_dtype: str
    """"float32" (the default; float64 for float64 parameters), "bfloat16", or for moments "int8" (`quant.Dynamic8`,
    blocks of 256) or "float8" (`quant.Float8`, e4m3fn or without a sign ue5m3, blocks of 256): about 1 byte an
    element. A second moment above zero never becomes zero in it, so that no step explodes, and NaN or infinity fills
    its block. ``opt.state[name]["m"]`` is a `quant.QuantizedArray` then."""
    min_8bit_size: int
    """Tensors with fewer elements keep state of the compute type under "int8" and "float8"; 4096 unless told."""
    state_rounding: str
    """How state becomes codes under "int8" and "float8": "nearest" (the default), or "stochastic": to one of the two
    values around it at random, unbiased, so that averages of many small changes are not lost."""
    on_nonfinite: str
    """What NaN or infinity in a gradient does: "raise" NonFiniteError (the default), "skip" the step, "propagate"."""
    clip_value: float | None
    """Clip each gradient element to [-clip_value, clip_value]; None (the default) does not."""
    max_norm: float | None
    """Clip the norm of all gradients to this: g *= min(1, max_norm / (norm + 1e-6)); inf only computes it; None (the
    default) does neither."""
    norm_type: float
    """Which norm: 1, 2 (the default) or inf."""
    agc: float | None
    """Adaptive gradient clipping (Brock et al. 2021): the gradient's norm over each unit (an index of the first axis;
    the whole tensor below two axes) is clipped to agc times the parameter's, which counts as at least 1e-3. A step
    needs some 40 bytes a unit for that."""
    masks: Masks | None
    """Name → boolean array of the parameter's shape, of NumPy or CuPy: where it is False the weight is pruned, and the
    parameter, its state and its average are exactly zero after each step; see `Optimizer.set_masks`. A tensor whose
    gradient is None is skipped with all its stages."""
    ema: float | None
    """Decay of a moving average of the parameters, in [0, 1): ``opt.state[name]["ema"]`` starts as a copy and becomes
    a + (1 - ema)(p - a); None (the default) keeps none."""
    master: bool
    """Keep a float32 copy of 16-bit parameters in ``opt.state[name]["master"]``: steps work on it, and the parameter is
    its rounded copy, written in the same pass. What is written into the parameter from outside does not reach it."""
    shadow: Shadow | None
    """Write a low-precision copy of float32 and float64 parameters in the same pass: "bfloat16" or "float16" for copies
    in ``opt.state[name]["shadow"]``, or name → array for arrays of your own."""
    rounding: str
    """How 16-bit parameters are rounded: "nearest" (the default), or "stochastic": up or down at random, unbiased."""
    seed: int
    """Key of the random numbers, 0 to 2⁶⁴ - 1."""
    zero_grads: bool
    """Set the gradients to zero when they have been used; they must be writable then."""
    state_dir: str | os.PathLike[str] | None
    """Keep the state in a file of this directory (new or empty), mapped into memory: it may be larger than memory.
    `Optimizer.state_dict` copies it into memory all the same."""


@dataclass(frozen=True)
class Options:
    """The same, checked and complete."""

    owner: str
    state_dtype: str = "float32"
    min_8bit_size: int = 4096
    state_rounding: str = "nearest"
    on_nonfinite: str = "raise"
    clip_value: float | None = None
    max_norm: float | None = None
    norm_type: float = 2.0
    agc: float | None = None
    masks: Masks | None = None
    ema: float | None = None
    master: bool = False
    shadow: Shadow | None = None
    rounding: str = "nearest"
    seed: int = 0
    zero_grads: bool = False
    state_dir: str | os.PathLike[str] | None = None

    @classmethod
    def of(cls, owner: str, given: Mapping[str, Any]) -> "Options":
        """From keyword arguments; a TypeError names one that nobody knows."""
        for name in given:
            if name not in StepOptions.__annotations__:
                raise TypeError(f"{owner}: got an unexpected keyword argument {name!r}")
        return cls(owner, **given)

    def __post_init__(self) -> None:
        owner = self.owner
        _check.one_of(owner, "state_dtype", self.state_dtype, ("float32", "bfloat16", *STATE_DTYPES))
        _check.integer(owner, "min_8bit_size", self.min_8bit_size, low=0)
        _check.one_of(owner, "state_rounding", self.state_rounding, ("nearest", "stochastic"))
        if self.state_rounding == "stochastic" and self.state_dtype not in STATE_DTYPES:
            rule = f"must be 'nearest' beside state_dtype={self.state_dtype!r}"
            raise ValueError(f"{owner}: state_rounding {rule}, got 'stochastic'")
        _check.one_of(owner, "on_nonfinite", self.on_nonfinite, ("raise", "skip", "propagate"))
        for name in ("clip_value", "agc"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _check.number(owner, name, getattr(self, name), low=0.0))
        if self.max_norm is not None and self.max_norm != inf:
            object.__setattr__(self, "max_norm", _check.number(owner, "max_norm", self.max_norm, low=0.0))
        if not isinstance(self.state_dir, str | os.PathLike | None):
            raise TypeError(f"{owner}: state_dir must be a path, got {self.state_dir!r}")
        if isinstance(self.norm_type, bool) or not isinstance(self.norm_type, Real):
            raise TypeError(f"{owner}: norm_type must be 1, 2 or inf, got {self.norm_type!r}")
        if self.norm_type not in _NORMS:
            raise ValueError(f"{owner}: norm_type must be 1, 2 or inf, got {self.norm_type!r}")
        if self.ema is not None:
            ema = _check.number(owner, "ema", self.ema, low=0.0, high=1.0, open_high=True)
            object.__setattr__(self, "ema", ema)
        _check.boolean(owner, "master", self.master)
        _check.one_of(owner, "rounding", self.rounding, ("nearest", "stochastic"))
        _check.integer(owner, "seed", self.seed, low=0, high=2**64 - 1)
        _check.boolean(owner, "zero_grads", self.zero_grads)
        if isinstance(self.shadow, str):
            _check.one_of(owner, "shadow", self.shadow, ("bfloat16", "float16"))
        elif not isinstance(self.shadow, Mapping | None):
            rule = "'bfloat16', 'float16' or a mapping from names to arrays"
            raise TypeError(f"{owner}: shadow must be {rule}, got {type(self.shadow).__name__}")
        if self.master and self.rounding == "stochastic":
            raise ValueError(f"{owner}: rounding must be 'nearest' beside master=True, got 'stochastic'")

    def of_clone(self, device: str) -> dict[str, Any]:
        """The arguments for an optimizer over other arrays on a device: what belongs to these ones is left out."""
        values = {name: getattr(self, name) for name in StepOptions.__annotations__}
        if isinstance(self.shadow, Mapping):
            zeros = {name: namespace(array).zeros_like(array) for name, array in self.shadow.items()}
            values["shadow"] = {name: moved(array, device) for name, array in zeros.items()}
        return {name: value for name, value in values.items() if name not in ("masks", "state_dir")}

    def check_slots(self, slots: Sequence[str]) -> None:
        """Codes are for moments, and there must be some."""
        if self.state_dtype in STATE_DTYPES and UNCODED.issuperset(slots):
            rule = "must be float32 or bfloat16 without moments"
            raise ValueError(
                f"{self.owner}: state_dtype {rule} (the state is {', '.join(slots)}), got {self.state_dtype!r}"
            )

    def check_params(self, params: Mapping[str, Array]) -> None:
        """Nothing is asked for that these parameters cannot have."""
        owner = self.owner
        if self.state_dir is not None and any(is_on_gpu(param) for param in params.values()):
            raise ValueError(f"{owner}: state_dir must be None for parameters on a GPU, got {str(self.state_dir)!r}")
        halves = [name for name, param in params.items() if param.dtype.itemsize == 2]
        wide = [name for name in params if name not in halves]
        for asked, what in ((self.master, "master"), (self.rounding == "stochastic", "rounding='stochastic'")):
            if asked and not halves:
                raise ValueError(f"{owner}: {what} must come with a bfloat16 or float16 parameter, got none")
        if self.shadow is not None and not wide:
            raise ValueError(f"{owner}: shadow must come with a float32 or float64 parameter, got none")
        if isinstance(self.shadow, Mapping):
            for name, array in self.shadow.items():
                self._check_shadow(params, name, array)

    def _check_shadow(self, params: Mapping[str, Array], name: str, array: Array) -> None:
        owner, known = self.owner, f"shadow[{name!r}]"
        if name not in params or params[name].dtype.itemsize == 2:
            raise ValueError(f"{owner}: {known} must belong to a float32 or float64 parameter, got another name")
        kind = "CuPy" if is_on_gpu(params[name]) else "NumPy"
        is_one = is_on_gpu(array) if kind == "CuPy" else isinstance(array, np.ndarray)
        if not is_one or array.dtype.name not in ("bfloat16", "float16"):
            got = getattr(array, "dtype", type(array).__name__)
            raise TypeError(f"{owner}: {known} must be a bfloat16 or float16 {kind} array, got {got}")
        if array.shape != params[name].shape:
            raise ValueError(f"{owner}: {known} must have shape {params[name].shape}, got {array.shape}")

    def settings(self, mapping: tuple[int, int] | None) -> dict[str, object]:
        """What a stepper wants to know; `mapping` is address and bytes of the state's mapped file."""
        return {
            "check_finite": self.on_nonfinite != "propagate",
            "skips": self.on_nonfinite == "skip",
            "clip_value": self.clip_value,
            "max_norm": self.max_norm,
            "norm": _NORMS[self.norm_type],
            "agc": self.agc,
            "ema_weight": 0.0 if self.ema is None else 1.0 - self.ema,
            "rounding_seed": self.seed if self.rounding == "stochastic" else None,
            "state_rounding_seed": self.seed if self.state_rounding == "stochastic" else None,
            "zero_grads": self.zero_grads,
            "mapping": mapping,
        }


def mask_bits(owner: str, params: Mapping[str, Array], masks: Masks | None) -> list[bytes | None]:
    """For each parameter its mask as bits in C order, the least significant of a byte first."""
    if not isinstance(masks, Mapping | None):
        raise TypeError(f"{owner}: masks must be a mapping from names to arrays, got {type(masks).__name__}")
    given = dict(masks or {})
    unknown = [name for name in given if name not in params]
    if unknown:
        raise ValueError(f"{owner}: masks must have names of params, got {unknown}")
    given = {name: np.asarray(mask) if isinstance(mask, np.bool_) else mask for name, mask in given.items()}
    for name, mask in given.items():
        if not (isinstance(mask, np.ndarray) or is_on_gpu(mask)) or mask.dtype != np.bool_:
            got = getattr(mask, "dtype", type(mask).__name__)
            raise TypeError(f"{owner}: masks[{name!r}] must be a boolean NumPy array, got {got}")
        if mask.shape != params[name].shape:
            raise ValueError(f"{owner}: masks[{name!r}] must have shape {params[name].shape}, got {mask.shape}")
    flat = {name: moved(mask, "cpu").reshape(-1) for name, mask in given.items()}
    packed = {name: np.packbits(mask, bitorder="little").tobytes() for name, mask in flat.items()}
    return [packed.get(name) for name in params]


def mask_arrays(params: Mapping[str, Array], bits: Sequence[bytes | None]) -> dict[str, NDArray[np.bool_]]:
    """The masks as boolean arrays of NumPy again, those that there are."""
    masks = {}
    for (name, param), own in zip(params.items(), bits):
        if own is not None:
            flat = np.unpackbits(np.frombuffer(own, np.uint8), count=param.size, bitorder="little")
            masks[name] = flat.view(np.bool_).reshape(param.shape)
    return masks
