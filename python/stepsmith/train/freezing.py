"""What can be frozen: parameters, and layers with running statistics."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from stepsmith.nn import BatchNorm, Module
from stepsmith.train.model import Model

__all__ = ["matching", "statistics_of"]


def statistics_of(model: Model) -> dict[str, BatchNorm]:
    """The layers with running statistics by the names of their means, such as "1.running_mean"."""
    if not isinstance(model, Module):
        return {}
    layers = model.named_layers()
    return {f"{prefix}running_mean": item for prefix, item in layers if isinstance(item, BatchNorm) and item.state}


def matching(owner: str, patterns: Sequence[str], known: Iterable[str]) -> set[str]:
    """The known names that match any of these globs, each of which must match one.

    Example:
        >>> sorted(matching("freeze", ["0.*"], ["0.weight", "0.bias", "2.weight"]))
        ['0.bias', '0.weight']
    """
    names, found = list(known), set[str]()
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"Trainer.{owner}: pattern must be a string, got {pattern!r}")
        matches = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            raise ValueError(f"Trainer.{owner}: pattern must match one of {names}, got {pattern!r}")
        found.update(matches)
    return found
