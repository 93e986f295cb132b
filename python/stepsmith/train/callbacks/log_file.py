"""Log files that a resumed run goes on with, byte for byte."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

__all__ = ["LogFile", "json_line", "plain"]


class LogFile:
    """A text file that grows by whole lines, and is cut back to the length that a resumed run knows.

    Nothing waits in memory: what `write` took is the operating system's when it returns.

    Args:
        owner: Who writes it, for messages.
        path: Of the file; its folder is made.
        overwrite: Whether another run's file may go.

    Attributes:
        path: Of the file.
        offset: Bytes in it that count.
    """

    def __init__(self, owner: str, path: str | os.PathLike[str], overwrite: bool) -> None:
        self.owner, self.path, self.overwrite = owner, Path(path), overwrite
        self.offset = 0
        self._is_own = False
        self._file: BinaryIO | None = None

    def check(self, resumed: bool) -> None:
        """Raise `FileExistsError` if another run's rows would be lost."""
        if resumed or self._is_own or self.overwrite or not self.path.exists() or self.path.stat().st_size == 0:
            return
        way = "resume that run, choose another path, or say overwrite=True"
        raise FileExistsError(f"{self.owner}: path must be of a new file, got {str(self.path)!r}, which exists: {way}")

    def open(self, resumed: bool) -> None:
        """Empty the file, or cut it back to its offset in a resumed run and when it is opened again."""
        self.check(resumed)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        goes_on = resumed or self._is_own
        self._file = self.path.open("r+b" if goes_on and self.path.exists() else "w+b", buffering=0)
        self._is_own = True
        self.offset = self._known(self._file, self.offset) if goes_on else 0
        self._file.truncate(self.offset)
        self._file.seek(self.offset)

    def _known(self, file: BinaryIO, offset: int) -> int:
        """The offset, or the end of the last whole line if the file has become shorter."""
        size = file.seek(0, os.SEEK_END)
        if size >= offset:
            return offset
        lost = f"must still have the {offset} bytes that the run wrote, got {size}: their rows are lost"
        warnings.warn(f"{self.owner}: {str(self.path)!r} {lost}", stacklevel=2)
        return self.path.read_bytes().rfind(b"\n") + 1

    def first_line(self) -> str:
        """The first line, if there is one."""
        with self.path.open(encoding="utf-8", newline="") as file:
            return file.readline()

    def write(self, text: str) -> None:
        """Add lines."""
        assert self._file is not None
        data = memoryview(text.encode())
        rest = data
        while rest:
            rest = rest[self._file.write(rest) :]
        self.offset += len(data)

    def close(self) -> None:
        """Close it, if it is open."""
        if self._file is not None:
            self._file.close()
            self._file = None


def plain(value: Any) -> Any:
    """NumPy's scalars as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def json_line(row: Mapping[str, Any]) -> str:
    r"""A row as a line of JSON that every parser takes.

    What is NaN or infinite stands as null, and what it was under "nonfinite".

    Example:
        >>> json_line({"loss": 0.5, "val_loss": math.inf})
        '{"loss": 0.5, "val_loss": null, "nonfinite": {"val_loss": "inf"}}\n'
    """
    values = {name: plain(value) for name, value in row.items()}
    wrong = {name: str(x) for name, x in values.items() if isinstance(x, float) and not math.isfinite(x)}
    document = {**values, **dict.fromkeys(wrong), **({"nonfinite": wrong} if wrong else {})}
    return json.dumps(document, allow_nan=False) + "\n"
