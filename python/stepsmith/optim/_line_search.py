"""A line search for the strong Wolfe conditions: bracket, then zoom, each trial by cubic interpolation."""

from collections.abc import Callable
from math import isfinite, sqrt
from typing import NamedTuple

from stepsmith.optim._vectors import Vector

__all__ = ["Point", "strong_wolfe"]

C1 = 1e-4
"""Sufficient decrease: f(t) ≤ f(0) + c1·t·f'(0)."""
C2 = 0.9
"""Curvature: |f'(t)| ≤ c2·|f'(0)|."""
MOST = 25
"""Evaluations of one search."""


class Point(NamedTuple):
    """A step length, and the function along the line there."""

    t: float
    loss: float
    """Infinite where the loss or a gradient is not finite."""
    slope: float
    grad: Vector


def strong_wolfe(evaluate: Callable[[float], Point], start: Point, t: float, narrowest: float) -> tuple[Point, int]:
    """A point that meets both conditions, else the lowest that was found (`start` if none is lower), and evaluations.

    A trial that is not finite counts as too long a step. The zoom ends when its bracket is `narrowest` wide.

    Follows: Nocedal and Wright, Numerical Optimization, 2006, algorithms 3.5 and 3.6.
    """

    def too_high(point: Point) -> bool:
        return not point.loss <= start.loss + C1 * point.t * start.slope

    def is_flat(point: Point) -> bool:
        return abs(point.slope) <= -C2 * start.slope

    previous, point, count = start, evaluate(t), 1
    while True:
        if too_high(point) or (previous is not start and point.loss >= previous.loss):
            low, high = previous, point
            break
        if is_flat(point) or (count == MOST and point.slope < 0.0):
            return point, count
        if point.slope >= 0.0:
            low, high = point, previous
            break
        nearest, farthest = point.t + 0.01 * (point.t - previous.t), 10.0 * point.t
        t = min(max(_cubic(previous, point, farthest), nearest), farthest)
        previous, point, count = point, evaluate(t), count + 1
    while count < MOST and abs(high.t - low.t) > narrowest:
        point, count = evaluate(_between(low, high)), count + 1
        if too_high(point) or point.loss >= low.loss:
            high = point
            continue
        if is_flat(point):
            return point, count
        if point.slope * (high.t - low.t) >= 0.0:
            high = low
        low = point
    return low, count


def _between(a: Point, b: Point) -> float:
    """The cubic's minimum, kept a tenth of the bracket away from its ends; the middle where an end is not finite."""
    left, right = min(a.t, b.t), max(a.t, b.t)
    margin = 0.1 * (right - left)
    return min(max(_cubic(a, b, 0.5 * (left + right)), left + margin), right - margin)


def _cubic(a: Point, b: Point, otherwise: float) -> float:
    """Where the cubic through two points with these slopes has its minimum; `otherwise` if it has none."""
    chord = a.slope + b.slope - 3.0 * (a.loss - b.loss) / (a.t - b.t)
    square = chord * chord - a.slope * b.slope
    if not (isfinite(square) and square >= 0.0):
        return otherwise
    root = sqrt(square) if b.t > a.t else -sqrt(square)
    bottom = b.slope - a.slope + 2.0 * root
    t = b.t - (b.t - a.t) * (b.slope + root - chord) / bottom if bottom else otherwise
    return t if isfinite(t) else otherwise
