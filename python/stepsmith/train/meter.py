"""Means as sums and counts, so that parts of any size add up to the whole."""

from __future__ import annotations

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
        >>> meter.add("loss", 3.0, 2.0)
        >>> meter.add("loss", 1.0, 2.0)
        >>> meter.means()
        {'loss': 1.0}
    """

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, total: float, count: float) -> None:
        """Sum and count of a measurement."""
        sums, counts = self.sums, self.counts
        sums[name] = sums.get(name, 0.0) + total
        counts[name] = counts.get(name, 0.0) + count

    def means(self) -> dict[str, float]:
        """Sum over count; NaN where nothing counted."""
        counts = self.counts
        return {name: total / counts[name] if counts[name] else float("nan") for name, total in self.sums.items()}
