"""Copies of a model's arrays, to go back to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepsmith._backend import assign, device_of, namespace
from stepsmith.train.model import Array, Model, buffers_of

__all__ = ["Snapshot", "arrays_of", "weights_of"]


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
        """Copy the arrays, which are the same ones each time, or have moved to another device together."""
        if not self._fits(arrays):
            self.copies = {name: namespace(array).empty_like(array) for name, array in arrays.items()}
        for name, copy in self.copies.items():
            namespace(copy).copyto(copy, arrays[name])

    def _fits(self, arrays: Mapping[str, Array]) -> bool:
        """Whether the copies are on the arrays' device."""
        name = next(iter(self.copies), None)
        return name is not None and device_of(self.copies[name]) == device_of(arrays[name])

    def equals(self, arrays: Mapping[str, Array]) -> bool:
        """Whether the arrays still have the bits of the copies."""
        return all(arrays[name].tobytes() == copy.tobytes() for name, copy in self.copies.items())

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Write the copies back, if any were kept."""
        for name, copy in self.copies.items():
            assign(arrays[name], copy)


def arrays_of(model: Model) -> dict[str, Array]:
    """All that training changes in a model."""
    return {**model.parameters(), **buffers_of(model)}


_OF_WEIGHTS = "ema", "master", "z"
"""State that is made of the parameters: it belongs to a set of weights, as moments do not."""


def weights_of(model: Model, optimizer: Any) -> dict[str, Array]:
    """All arrays of the model, and what its optimizer keeps of the parameters."""
    state = getattr(optimizer, "state", {})
    kept = {f"{slot} of {name}": row[slot] for name, row in state.items() for slot in _OF_WEIGHTS if slot in row}
    return {**arrays_of(model), **kept}
