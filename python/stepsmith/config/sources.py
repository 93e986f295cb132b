"""Where the data of a config come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np

from stepsmith import _check, datasets
from stepsmith.config.data import Normalization, Part, Raw, Source, Task, held_out
from stepsmith.config.tables import read_csv
from stepsmith.nn.buffer import Array

__all__ = ["SOURCES"]


@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """`stepsmith.datasets.digits`: 64 pixels, 10 classes."""

    def read(self) -> Raw:
        """The arrays."""
        return Raw(*datasets.digits())


@dataclass(frozen=True, kw_only=True)
class MNIST5k(Source):
    """`stepsmith.datasets.mnist5k`: 784 pixels, 10 classes."""

    def read(self) -> Raw:
        """The arrays."""
        return Raw(*datasets.mnist5k())


@dataclass(frozen=True, kw_only=True)
class _File(Source):
    """What files share.

    Args:
        path: Of the file; a relative one starts where the config is.
        task: "classification" or "regression".
        test: Part of the rows that is held out at random and used when the training is done, in [0, 1); 0 for none.
    """

    path: str
    task: Task = "classification"
    test: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.number(type(self).__name__, "test", self.test, low=0.0, high=1.0, open_high=True)

    def _split(self, part: Part) -> Raw:
        return Raw(*held_out(part, self.test, self.seed), self.task)


@dataclass(frozen=True, kw_only=True)
class CSV(_File):
    """A table of text: numbers, and one column with the target.

    Args:
        target: The column, by name or by number from 0, negative ones from the end.
        header: Whether the first line has the columns' names.
        delimiter: Between cells.
    """

    normalization: Normalization = "standardize"
    target: str | int = -1
    header: bool = True
    delimiter: str = ","

    def read(self) -> Raw:
        """The arrays."""
        table = read_csv(self.path, self.delimiter, self.header)
        column = table.column(self.target)
        targets = table.texts(column) if self.task == "classification" else table.numbers([column])
        return self._split((table.numbers([i for i in range(len(table.names)) if i != column]), targets))


@dataclass(frozen=True, kw_only=True)
class NPZ(_File):
    """Arrays of a NumPy archive.

    Args:
        inputs: Name of the array (samples, ...).
        targets: Name of that of labels (samples,) or of numbers (samples,) or (samples, outputs).
        test_inputs: Name of the inputs of the test part, if the archive has one; `test` means nothing then.
        test_targets: Name of its targets.
        tokens: Whether inputs stay integers, for `nn.Embedding`.
    """

    inputs: str = "X"
    targets: str = "y"
    test_inputs: str | None = None
    test_targets: str | None = None
    tokens: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.test_inputs is None) != (self.test_targets is None):
            raise ValueError("NPZ: test_inputs and test_targets must be given together")
        if self.tokens and self.normalization != "none":
            raise ValueError(f"NPZ: normalization must be none beside tokens, got {self.normalization!r}")

    def read(self) -> Raw:
        """The arrays."""
        try:
            archive: Any = np.load(self.path, allow_pickle=False)
        except (BadZipFile, EOFError, ValueError):
            archive = None
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("NPZ: path must be of a NumPy archive, got another file")
        with archive:
            train = self._pair(archive, self.inputs, self.targets)
            if self.test_inputs is None or self.test_targets is None:
                return self._split(train)
            return Raw(train, self._pair(archive, self.test_inputs, self.test_targets), self.task)

    def _pair(self, archive: Any, inputs: str, targets: str) -> Part:
        pair = self._array(archive, "inputs", inputs), self._array(archive, "targets", targets)
        if len(pair[0]) != len(pair[1]):
            raise ValueError(f"NPZ: inputs must have the length of targets, got {len(pair[0])} and {len(pair[1])}")
        return pair

    def _array(self, archive: Any, argument: str, name: str) -> Array:
        if name not in archive:
            raise ValueError(f"NPZ: {argument} must be one of {', '.join(archive.files)}, got {name!r}")
        array: Array = archive[name]
        if array.ndim == 0 or len(array) == 0:
            raise ValueError(f"NPZ: {argument} must have samples, got {name!r} of shape {array.shape}")
        return array

    def _has_numbers(self) -> bool:
        return not self.tokens


SOURCES: dict[str, type[Source]] = {"digits": Digits, "mnist5k": MNIST5k, "csv": CSV, "npz": NPZ}
