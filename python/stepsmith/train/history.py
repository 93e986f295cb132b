"""What a training run has seen, one row an epoch."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from stepsmith import _plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["History"]


class History(Sequence[dict[str, float]]):
    """A list of rows, numbers by column name; "epoch" and "step" count from 1.

    ``history[0]`` is the first row, ``history["loss"]`` a column.

    Attributes:
        rows: One dict an epoch. Nothing in them depends on the clock on the wall, so equal runs have equal rows.
        seconds: How long each epoch took, validation included.

    Example:
        >>> history = History()
        >>> history.append({"epoch": 1, "loss": 0.5}, seconds=0.1)
        >>> history["loss"], history.columns
        ([0.5], ['epoch', 'loss'])
        >>> print(history)
        epoch   loss
            1 0.5000
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.seconds: list[float] = []

    def append(self, row: Mapping[str, float], seconds: float = 0.0) -> None:
        """Add an epoch."""
        self.rows.append(dict(row))
        self.seconds.append(seconds)

    @property
    def columns(self) -> list[str]:
        """Names in the order in which they first appeared."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    @overload
    def __getitem__(self, column: int) -> dict[str, float]: ...
    @overload
    def __getitem__(self, column: slice) -> list[dict[str, float]]: ...
    @overload
    def __getitem__(self, column: str) -> list[float]: ...
    def __getitem__(self, column: int | slice | str) -> Any:
        """A row, some rows, or a column: NaN where an epoch has no such number, `KeyError` where none has."""
        if not isinstance(column, str):
            return self.rows[column]
        if column not in self.columns:
            raise KeyError(f"History: column must be one of {self.columns}, got {column!r}")
        return [row.get(column, float("nan")) for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        """The table, one line an epoch."""
        columns = self.columns
        cells = [columns, *([format_number(row.get(name, float("nan"))) for name in columns] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = (" ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the learning curves: losses and penalties left, other metrics (where there are any) right.

        Args:
            path: Where to save it, in the format of its suffix; None only returns the figure.

        Raises:
            ImportError: matplotlib is missing.
            ValueError: No epoch was recorded.

        Example:
            >>> history = History()
            >>> history.append({"epoch": 1, "loss": 0.5})
            >>> len(history.plot().axes)
            1
        """
        figure = _plot.figure("History.plot", 10, 4)
        if not self.rows:
            raise ValueError("History: plot needs at least one epoch, got none")
        groups = [group for group in self._curves() if group]
        for index, columns in enumerate(groups):
            axes = figure.add_subplot(1, len(groups), index + 1, xlabel="epoch")
            for column in columns:
                # One point makes no line.
                axes.plot(self["epoch"], self[column], "" if len(self) > 1 else ".", label=column)
            axes.grid(alpha=0.3)
            axes.legend()
        if path is not None:
            figure.savefig(path)
        return figure

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table: a line of names, then one an epoch; what an epoch has not is left empty.

        Args:
            path: Of the file, which is replaced.

        Raises:
            OSError: It cannot be written.
        """
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)

    def state_dict(self) -> dict[str, Any]:
        """Copies of rows and seconds."""
        return {"rows": [dict(row) for row in self.rows], "seconds": list(self.seconds)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self.rows[:], self.seconds[:] = [dict(row) for row in state["rows"]], state["seconds"]

    def _curves(self) -> tuple[list[str], list[str]]:
        metrics = [name for name in self.columns if name not in ("epoch", "step", "lr", "loss_scale")]
        losses = [name for name in metrics if name.endswith(("loss", "penalty"))]
        return losses, [name for name in metrics if name not in losses]


def format_number(value: float) -> str:
    """A count as it is, a measurement with four decimals or, where those say nothing, in scientific form."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if value == 0 or 1e-2 <= abs(value) < 1e4 else f"{value:.2e}"
