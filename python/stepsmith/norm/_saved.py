"""What a forward pass leaves for its backward pass."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stepsmith._outputs import kept

__all__ = ["Rows", "Saved"]

Array = NDArray[Any]


class Rows(NamedTuple):
    """How elements in C order form rows that are normalized, each on its own.

    Attributes:
        number: of rows.
        length: elements of a row.
        groups: rows a sample, 0 where a weight belongs to an element's place in the row.
        run: elements of a channel in a row, 0 likewise.
        divisor: what a row is divided by: deviation, root_mean_square or length.
    """

    number: int
    length: int
    groups: int = 0
    run: int = 0
    divisor: str = "deviation"


@dataclass(slots=True)
class Saved:
    """Statistics of a forward pass and references to its inputs.

    Attributes:
        x: the array that was normalized, not a copy; None if an output took its memory.
        weight: of the forward pass, a copy only if an output took its memory, or None.
        mean: float64, one a row, 0 where nothing is centred.
        rstd: float64, 1 by what each row was divided by.
        has_weight: was there a weight? (A bias alone goes with a weight of ones.)
        has_bias: was there a bias?
        rows: how elements form rows.
        axis: of the caller's arrays, which became the first one.
    """

    x: Array | None
    weight: Array | None
    mean: NDArray[np.float64]
    rstd: NDArray[np.float64]
    has_weight: bool
    has_bias: bool
    rows: Rows
    axis: int = 0

    def source(self, owner: str) -> Array:
        """The array that was normalized."""
        return kept(owner, self.x)
