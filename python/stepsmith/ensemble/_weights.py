"""Weights of members."""

from __future__ import annotations

from collections.abc import Sequence

from stepsmith import _check

__all__ = ["shares"]


def shares(owner: str, weights: Sequence[float] | None, count: int) -> list[float]:
    """One finite weight of at least 0 for each member, not all 0; ones for None."""
    if weights is None:
        return [1.0] * count
    found = [_check.number(owner, f"weights[{i}]", weight, low=0.0) for i, weight in enumerate(weights)]
    if len(found) != count or not sum(found):
        raise ValueError(f"{owner}: weights must be {count} numbers that are not all 0, got {found}")
    return found
