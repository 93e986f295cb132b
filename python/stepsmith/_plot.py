"""Figures without a window: matplotlib, imported when the first one is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure"]


def figure(owner: str, width: float, height: float) -> Figure:
    """An empty figure of that size in inches; without matplotlib an ImportError that names the owner and the extra."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f"{owner} needs matplotlib: pip install 'stepsmith[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained")
