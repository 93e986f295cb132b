"""Means as sums and counts, so that parts of any size add up to the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Meter"]


@dataclass
class Meter:
    """Adds up measurements by name.

    Attributes:
        sums: Of each.
        counts: What its mean divides by: samples, or the sum of their weights.

    Example:
        >>> meter = Meter()
        >>> meter.add({"loss": (3.0, 2.0)})
        >>> meter.add({"loss": (1.0, 2.0)})
        >>> meter.means()
        {'loss': 1.0}
    """

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)

    def add(self, parts: Mapping[str, tuple[float, float]]) -> None:
        """Sum and count of each measurement."""
        for name, (total, count) in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + total
            self.counts[name] = self.counts.get(name, 0.0) + count

    def means(self) -> dict[str, float]:
        """Sum over count; NaN where nothing counted."""
        counts = self.counts
        return {name: total / counts[name] if counts[name] else float("nan") for name, total in self.sums.items()}
