"""Sums over all elements that share a weight: rows cut into pieces, then piece after piece."""

from typing import Any, NamedTuple

import numpy as np

from stepsmith.cuda._call import numbers
from stepsmith.cuda._launch import THREADS, launch
from stepsmith.cuda._rows import launch_teams

__all__ = ["COLUMN_THREADS", "Runs", "sum_places"]

PLACES = np.dtype(
    [(name, np.uint64) for name in ("rows", "len", "groups", "run", "turn", "pieces")] + [("of_places", np.int32)],
    align=True,
)
"""``struct Places`` of kernels/norm_places.cuh."""

COLUMN_THREADS = 64
"""Of a block that goes down columns: there are few, which many small blocks share better."""


class Runs(NamedTuple):
    """Where elements have their places: rows go over `groups` of places in turn, each with `run` elements of a row."""

    rows: int
    length: int
    groups: int
    run: int
    turn: int

    @property
    def pieces(self) -> int:
        """Parts of `turn` rows."""
        return -(-self.rows // self.turn)

    @property
    def places(self) -> int:
        """How many there are."""
        return self.groups * (self.length // self.run)


def sum_places(runs: Runs, dy: Any, x: Any, statistics: tuple[Any, Any], of_places: bool) -> list[Any]:
    """Σ dy·x̂ and Σ dy of each place, of at least one element; mean and rstd belong to places or to rows."""
    pieces, places = runs.pieces, runs.places
    sums, totals = numbers(2, pieces, places), numbers(2, places)
    args = (np.array((*runs, pieces, of_places), PLACES), dy, x, *statistics, sums)
    kind = "f64" if x["item"] == 8 else "f32"
    if runs.run == 1:
        items = pieces * runs.groups * -(-runs.length // 4)
        launch("norm_places", f"norm_columns_{kind}", -(-items // COLUMN_THREADS), args, COLUMN_THREADS)
    else:
        launch_teams("norm_places", f"norm_runs_{kind}", pieces * places, runs.run, args)
    launch("norm_places", "add_pieces", -(-2 * places // THREADS), (sums, np.uint64(pieces), np.uint64(places), totals))
    return [totals[0], totals[1]]
