"""Tables of text."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stepsmith.config.problems import similar
from stepsmith.nn.buffer import Array

__all__ = ["TextTable", "read_csv"]


class TextTable(NamedTuple):
    """Rows of cells below names."""

    names: list[str]
    rows: list[list[str]]
    lines: list[int]
    """Number of each row's line in the file."""

    def column(self, wanted: str | int) -> int:
        """Number of a column.

        Raises:
            ValueError: None of that name or number, or several of that name.
        """
        width = len(self.names)
        if isinstance(wanted, str):
            if wanted not in self.names:
                known = f"must be one of {', '.join(self.names)}, got {wanted!r}"
                raise ValueError(f"CSV: target {known}{similar(wanted, self.names)}")
            if self.names.count(wanted) > 1:
                raise ValueError(f"CSV: target must be the name of one column or a number, got {wanted!r} of several")
            return self.names.index(wanted)
        if not -width <= wanted < width:
            raise ValueError(f"CSV: target must be one of {width} columns, got {wanted}")
        return wanted % width

    def texts(self, column: int) -> Array:
        """A column's cells: numbers if all are integers, so that their order is that of numbers.

        Raises:
            ValueError: An empty cell.
        """
        cells = [row[column] for row in self.rows]
        if "" in cells:
            place = f"in column {self.names[column]!r} of line {self.lines[cells.index('')]}"
            raise ValueError(f"CSV: path must have labels {place}, got ''")
        try:
            return np.array([int(cell) for cell in cells], np.int64)
        except (ValueError, OverflowError):
            return np.array(cells)

    def numbers(self, columns: Sequence[int]) -> Array:
        """Columns as float64 (rows, columns).

        Raises:
            ValueError: A cell that is no finite number.
        """
        found = np.empty((len(self.rows), len(columns)))
        for i, row in enumerate(self.rows):
            for j, column in enumerate(columns):
                found[i, j] = self._number(row[column], i, column)
        return found

    def _number(self, cell: str, row: int, column: int) -> float:
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            place = f"in column {self.names[column]!r} of line {self.lines[row]}"
            raise ValueError(f"CSV: path must have finite numbers {place}, got {cell!r}")
        return value


def read_csv(path: str, delimiter: str, header: bool) -> TextTable:
    """A file's rows; columns without names are called "0", "1", ...

    Raises:
        OSError: It cannot be read.
        ValueError: No rows, one column, or rows of different lengths.
    """
    if len(delimiter) != 1:
        raise ValueError(f"CSV: delimiter must be one character, got {delimiter!r}")
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            found = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
        except csv.Error as error:
            raise ValueError(f"CSV: path must be a table of text, got {error} in line {reader.line_num}") from None
    width = len(found[0][1]) if found else 0
    names = found.pop(0)[1] if header and found else [str(i) for i in range(width)]
    if not found or width < 2:
        raise ValueError(f"CSV: path must have rows of two columns at least, got {len(found)} of {width}")
    for line, row in found:
        if len(row) != width:
            raise ValueError(f"CSV: path must have {width} cells in each line, got {len(row)} in line {line}")
    return TextTable(names, [row for _, row in found], [line for line, _ in found])
