"""Progress of a fit: a live bar on a terminal, one plain line an epoch anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from stepsmith.train.history import format_number

__all__ = ["Progress", "ProgressMode", "open_progress"]

ProgressMode = bool | Literal["bar"]


class Progress(Protocol):
    """What a trainer reports to."""

    def advance(self, samples: int) -> None:
        """So many more samples are done."""

    def epoch(self, row: Mapping[str, float], epochs: int, seconds: float) -> None:
        """One more epoch of `epochs` is done."""

    def close(self) -> None:
        """The fit has ended."""


class _Silent:
    def advance(self, samples: int) -> None:
        """Say nothing."""

    def epoch(self, row: Mapping[str, float], epochs: int, seconds: float) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Nothing is open."""


class _Lines(_Silent):
    def epoch(self, row: Mapping[str, float], epochs: int, seconds: float) -> None:
        print(f"epoch {int(row['epoch'])}/{epochs}  {_summary(row)}  {seconds:.2f} s", file=sys.stderr, flush=True)


class _Bar:
    def __init__(self, total: int | None, done: int) -> None:
        # Imported here, because importing stepsmith should cost next to nothing.
        from tqdm import tqdm

        self._bar: Any = tqdm(total=total, initial=done, unit="sample", file=sys.stderr, dynamic_ncols=True)
        self.advance = self._bar.update

    def epoch(self, row: Mapping[str, float], epochs: int, seconds: float) -> None:
        self._bar.set_description(f"epoch {int(row['epoch'])}/{epochs}", refresh=False)
        self._bar.set_postfix_str(f"{_summary(row)}  {seconds:.2f} s", refresh=False)

    def close(self) -> None:
        self._bar.close()


def open_progress(mode: ProgressMode, total: int | None, done: int) -> Progress:
    """Choose the report.

    Args:
        mode: True for a bar on a terminal and lines elsewhere, "bar" for a bar on a terminal and nothing elsewhere,
            False for nothing.
        total: Samples of the whole run, all epochs; None if nobody knows.
        done: Samples that earlier fits did.

    Raises:
        ValueError: Another mode.
    """
    if mode not in (True, False, "bar"):
        raise ValueError(f"Trainer: progress must be True, False or 'bar', got {mode!r}")
    if mode and sys.stderr is not None and sys.stderr.isatty():
        return _Bar(total, done)
    return _Lines() if mode is True else _Silent()


def _summary(row: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {format_number(value)}" for name, value in row.items() if name not in ("epoch", "step"))
