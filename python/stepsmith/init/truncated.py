"""The truncated normal distribution, drawn exactly by rejection."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith.init._target import Array, Shape, check_rng, store, target

__all__ = ["truncated_normal"]

Propose = Callable[[int], Array]
"""How many → accepted ones of so many proposals."""


def truncated_normal(
    shape: Shape,
    rng: np.random.Generator,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    dtype: npt.DTypeLike | None = None,
    out: Array | None = None,
) -> Array:
    """Normal with that mean and standard deviation, given that it lies in [a, b].

    The bounds are values, not multiples of `std`; they hold in float64, before the one rounding. Proposals that are
    rejected make it exact wherever the bounds lie, far out in a tail too.

    Args:
        shape: Any.
        rng: Source of the draws.
        mean: Of the distribution before it is cut.
        std: Likewise, above 0.
        a: Lower bound.
        b: Upper bound, above `a`.
        dtype: See `uniform`.
        out: Likewise.

    Raises:
        TypeError, ValueError: An argument of another kind or out of range, by name.

    Follows: ``torch.nn.init.trunc_normal_``; Robert, "Simulation of truncated normal variables", 1995.

    Example:
        >>> draws = truncated_normal((100,), np.random.default_rng(0), std=0.02, a=-0.04, b=0.04)
        >>> bool(abs(draws).max() <= np.float32(0.04))
        True
    """
    owner = "truncated_normal"
    mean, std = _check.number(owner, "mean", mean), _check.number(owner, "std", std, low=0.0, open_low=True)
    a, b = _check.number(owner, "a", a), _check.number(owner, "b", b)
    if b <= a:
        raise ValueError(f"{owner}: b must be more than a={a}, got {b}")
    low, high, width = (a - mean) / std, (b - mean) / std, (b - a) / std
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{owner}: std must not be so small that a bound is infinitely many away, got {std}")
    check_rng(owner, rng)
    result = target(owner, shape, dtype, out)
    if high < -low:
        values = b - std * _beyond(rng, result.size, -high, width)
    else:
        values = a + std * _beyond(rng, result.size, low, width)
    return store(result, np.clip(values, a, b).reshape(result.shape))


def _beyond(rng: np.random.Generator, n: int, low: float, width: float) -> Array:
    """Standard normal draws x in [low, low + width], the half with the mode if there is one; returns x - low.

    The difference keeps its digits where x has none left, far out in the tail.
    """
    high = low + width
    if (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2 > 0.25:
        return _accepted(n, lambda count: _from_normal(rng, count, low, high))
    if low > 0 and width * _steepness(low) > 1:
        return _accepted(n, lambda count: _from_exponential(rng, count, low, width))
    return _accepted(n, lambda count: _from_uniform(rng, count, low, width))


def _accepted(n: int, propose: Propose) -> Array:
    draws, have = np.empty(n), 0
    while have < n:
        more = propose(n - have)
        draws[have : have + more.size] = more
        have += more.size
    return draws


def _from_normal(rng: np.random.Generator, count: int, low: float, high: float) -> Array:
    x = rng.standard_normal(count)
    return x[(x >= low) & (x <= high)] - low


def _from_uniform(rng: np.random.Generator, count: int, low: float, width: float) -> Array:
    """Kept with the density's share of its top, which is at x = low or at 0."""
    beyond = rng.uniform(0.0, width, count)
    below_top = (beyond + min(low, 0.0)) * (beyond + low + max(low, 0.0)) / 2
    return beyond[rng.random(count) <= np.exp(-below_top)]


def _from_exponential(rng: np.random.Generator, count: int, low: float, width: float) -> Array:
    """Kept with the density's share of the exponential's, which touches it where x is the steepness."""
    beyond = rng.exponential(1 / _steepness(low), count)
    # steepness - low, without the cancellation
    touch = 2 / (low + math.hypot(low, 2.0))
    return beyond[(rng.random(count) <= np.exp(-((beyond - touch) ** 2) / 2)) & (beyond <= width)]


def _steepness(low: float) -> float:
    """Rate of the exponential above `low` > 0 of which the fewest proposals are rejected."""
    return (low + math.hypot(low, 2.0)) / 2
