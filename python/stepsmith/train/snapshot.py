"""Copies of a model's arrays, to go back to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stepsmith.train.model import Array, Model

__all__ = ["Snapshot", "arrays_of", "buffers_of"]


class Snapshot:
    """Keeps copies of arrays, in the same memory each time, and puts them back.

    Attributes:
        copies: Name to copy; empty before the first `keep`.

    Example:
        >>> arrays, snapshot = {"mean": np.zeros(2)}, Snapshot()
        >>> snapshot.keep(arrays)
        >>> arrays["mean"] += 1
        >>> snapshot.restore(arrays)
        >>> arrays["mean"].tolist()
        [0.0, 0.0]
    """

    def __init__(self) -> None:
        self.copies: dict[str, Array] = {}

    def keep(self, arrays: Mapping[str, Array]) -> None:
        """Copy the arrays, which are the same ones each time."""
        if not self.copies:
            self.copies = {name: np.empty_like(array) for name, array in arrays.items()}
        for name, copy in self.copies.items():
            np.copyto(copy, arrays[name])

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Write the copies back, if any were kept."""
        for name, copy in self.copies.items():
            np.copyto(arrays[name], copy)


def buffers_of(model: Model) -> Mapping[str, Array]:
    """What a model keeps beside its parameters; nothing for a model without `buffers()`."""
    buffers = getattr(model, "buffers", None)
    found: Mapping[str, Array] = {} if buffers is None else buffers()
    return found


def arrays_of(model: Model) -> dict[str, Array]:
    """All that training changes in a model."""
    return {**model.parameters(), **buffers_of(model)}
