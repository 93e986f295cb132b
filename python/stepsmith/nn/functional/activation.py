"""Activations of arrays, with the bias that comes before them, forward and backward."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith import _check, _core
from stepsmith._backend import core_of, namespace
from stepsmith._outputs import (
    apart,
    check_weight,
    check_written,
    compute_dtype,
    kept,
    like,
    meets,
    of_forward,
    of_places,
    output,
    outputs,
    require_floats,
    unwritten,
)

__all__ = ["Activation", "ActivationSaved", "activate", "activate_backward"]

Array = NDArray[Any]
Shape = tuple[int, int, int]

_DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "softplus": {"beta": 1.0, "threshold": 20.0},
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "leaky_relu": {"negative_slope": 0.01},
    "elu": {"alpha": 1.0},
}
NO_SUMS = np.empty(0)


@dataclass(frozen=True, slots=True)
class Activation:
    """A kind of activation and the numbers that the core computes it with."""

    kind: str
    numbers: tuple[float, ...]

    @classmethod
    def of(cls, owner: str, kind: str, scalars: Mapping[str, float]) -> "Activation":
        """The activation of that name, with defaults for scalars that are not given."""
        if not scalars and kind in _PLAIN:
            return _PLAIN[kind]
        _check.one_of(owner, "kind", kind, _core.ACTIVATIONS)
        values = dict(_DEFAULTS.get(kind, {}))
        for name, value in scalars.items():
            if name not in values:
                known = ", ".join(values) or "none"
                raise TypeError(f"{owner}: {kind} takes the scalars {known}, got {name}")
            values[name] = _check.number(owner, name, value)
        if kind == "softplus":
            values["inv_beta"] = 1.0 / _check.number(owner, "beta", values["beta"], low=0.0, open_low=True)
        if kind == "hardtanh" and values["min_val"] > values["max_val"]:
            raise ValueError(f"{owner}: min_val must be at most max_val, {values['max_val']}, got {values['min_val']}")
        return cls(kind, tuple(values[name] for name in _core.ACTIVATIONS[kind]))


_PLAIN: dict[str, Activation] = {}
_PLAIN |= {kind: Activation.of("activate", kind, {}) for kind in _core.ACTIVATIONS}


@dataclass(slots=True)
class ActivationSaved:
    """What `activate` leaves for its backward pass.

    Attributes:
        x: the input, not a copy; None if the output took its memory.
        bias: of the forward pass, not a copy, or None.
        activation: kind and numbers.
        shape: samples, channels, elements of a channel in a sample.
    """

    x: Array | None
    bias: Array | None
    activation: Activation
    shape: Shape


def activate(
    x: Array, kind: str, bias: Array | None = None, *, axis: int = -1, out: Array | None = None, **scalars: float
) -> tuple[Array, ActivationSaved]:
    """An activation of each element, after a bias for each channel: y = f(x + bias), in one pass over memory.

    | kind | f(x) |
    |---|---|
    | gelu | x·Φ(x), Φ(x) = (1 + erf(x/√2))/2 |
    | gelu_tanh | x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2 |
    | silu | x·σ(x) |
    | sigmoid | σ(x) = 1/(1 + e^-x) |
    | tanh | tanh(x) |
    | softplus | log(1 + e^(beta·x))/beta, x where beta·x is above threshold (1, 20) |
    | hardtanh | x between min_val and max_val (-1, 1) |
    | softsign | x/(1 + abs(x)) |
    | relu | x above 0, else 0 |
    | leaky_relu | x above 0, else negative_slope·x (0.01) |
    | elu | x above 0, else alpha·(e^x - 1) (1) |

    float32, bfloat16 and float16 are computed in float32: x + bias is rounded to it once. exp, tanh and erf are
    within 2 units of the last place, and the result has the same bits at any CPU level and thread count, and on a GPU.

    Args:
        x: any shape and layout; float32, float64, bfloat16 or float16.
        kind: a name of the table.
        bias: (x.shape[axis],) of the compute type.
        axis: that of the channels, which the bias belongs to.
        out: takes y; may be x itself, then `saved` is of no use to the backward pass.
        **scalars: those of the kind, with the defaults in brackets.

    Returns:
        y of the shape and dtype of x, and what `activate_backward` needs: references to x and bias.

    Raises:
        TypeError: another kind of array or dtype, a scalar that the kind does not have.
        ValueError: an unknown kind, shapes that do not fit, min_val above max_val, beta not above 0.

    Follows: ``torch.nn.functional``; NaN stays NaN.

    Example:
        >>> y, saved = activate(np.array([[-2.0, 3.0]]), "relu", np.array([1.0, 1.0]))
        >>> y.tolist()
        [[0.0, 4.0]]
    """
    owner = "activate"
    activation, x = Activation.of(owner, kind, scalars), require_floats(owner, "x", x)
    shape: Shape = (1, 1, x.size)
    if bias is not None:
        axis = _check.integer(owner, "axis", axis, low=-x.ndim, high=x.ndim - 1) % max(x.ndim, 1)
        bias = check_weight(owner, "bias", bias, x.shape[axis : axis + 1], compute_dtype(x), x)
        shape = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
    y = output(owner, "out", out, x.shape, x.dtype, x)
    bias = unwritten(bias, (out,))
    read = apart((x, bias, None, None), (out,))
    assert read[0] is not None
    arrays = read[0], read[1], None
    core_of(x).activate(owner, activation.kind, activation.numbers, y, arrays, NO_SUMS, shape)
    return y, ActivationSaved(None if meets(x, out) else x, bias, activation, shape)


def activate_backward(
    dy: Array, saved: ActivationSaved, *, out: tuple[Array | None, Array | None] | None = None
) -> tuple[Array, Array | None]:
    """Gradients of `activate`: dx = dy·f'(x + bias), and dbias = Σ dx over each channel, in one pass over memory.

    At a kink stands PyTorch's value (0 at 0 for relu). The sums are float64 and their shape is fixed by that of x.

    Args:
        dy: shape and dtype of x.
        saved: of the forward pass; x and bias must be as they were.
        out: arrays for the two gradients, or None for a new one; that of dx may be dy or x itself.

    Returns:
        dx of the dtype of x, dbias of the compute type or None without a bias.

    Raises:
        TypeError: another kind of array or dtype.
        ValueError: shapes that do not fit, or a forward pass that wrote over x.

    Example:
        >>> y, saved = activate(np.array([[-2.0, 3.0]]), "relu", np.array([1.0, 1.0]))
        >>> dx, dbias = activate_backward(np.array([[5.0, 7.0]]), saved)
        >>> dx.tolist(), dbias.tolist()
        ([[0.0, 7.0]], [0.0, 7.0])
    """
    owner = "activate_backward"
    x = kept(owner, of_forward(owner, saved, ActivationSaved).x)
    bias = saved.bias
    dy = like(owner, "dy", dy, x)
    given = outputs(owner, out, 2)
    dx = output(owner, "out[0]", given[0], x.shape, x.dtype, x)
    dbias = of_places(owner, "out[1]", given[1], bias)
    if out is not None:
        check_written(owner, {"out[0]": given[0], "out[1]": given[1]})
    sums = NO_SUMS if bias is None else namespace(x).zeros(bias.size)
    read = apart((x, bias, dy, None), (given[0],))
    assert read[0] is not None
    activation, arrays = saved.activation, (read[0], read[1], read[2])
    core_of(x).activate(owner, activation.kind, activation.numbers, dx, arrays, sums, saved.shape)
    if dbias is not None:
        dbias[...] = sums
    return dx, dbias
