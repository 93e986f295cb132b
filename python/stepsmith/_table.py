"""Tables as plain text."""

from collections.abc import Sequence

__all__ = ["Table", "count"]


class Table:
    """Rows of cells under a header.

    Args:
        header: names of the columns.
        align: "<" or ">" for each column.
    """

    def __init__(self, header: Sequence[str], align: str) -> None:
        self._rows: list[Sequence[str]] = [header]
        self._align = align

    def add(self, *cells: str) -> None:
        """One more row."""
        self._rows.append(cells)

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(*self._rows)]
        lines = ("  ".join(map(format, row, self._formats(widths))).rstrip() for row in self._rows)
        return "\n".join(lines)

    def _formats(self, widths: list[int]) -> list[str]:
        return [f"{way}{width}" for way, width in zip(self._align, widths)]


def count(number: int, noun: str) -> str:
    """Such as "1 tensor", "1,000 tensors"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
