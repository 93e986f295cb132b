"""Data of a config: how they are split and scaled, wherever they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import numpy as np

from stepsmith import _check
from stepsmith.config.problems import ConfigError
from stepsmith.nn.buffer import Array
from stepsmith.train.sources import Arrays, split

__all__ = ["Data", "Normalization", "Part", "Raw", "Source", "Task", "held_out"]

Part = tuple[Array, Array]
Task = Literal["classification", "regression"]
Normalization = Literal["none", "standardize", "minmax"]


class Data(NamedTuple):
    """What a run trains, validates and tests on."""

    train: Part
    validation: Part | None
    test: Part | None
    classes: list[str] | None
    """Names of the labels 0, 1, ...; None for a regression."""
    shift: Array
    scale: Array
    """An input is (what the source has - shift) / scale."""

    @property
    def outputs(self) -> int:
        """Numbers that a model gives for a sample."""
        return int(self.train[1].shape[1]) if self.classes is None else len(self.classes)

    def digest(self) -> str:
        """SHA-256 of all arrays."""
        found = sha256()
        for part in (self.train, self.validation, self.test):
            for array in part or ():
                found.update(f"{array.dtype} {array.shape}".encode())
                found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()


class Raw(NamedTuple):
    """What a source has, before anything is split off or scaled."""

    train: Part
    test: Part | None
    task: Task = "classification"


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """What all sources share.

    Args:
        validation: Part of the training rows that is held out at random, in [0, 1); 0 for none.
        normalization: "standardize" (mean 0 and deviation 1), "minmax" (to [0, 1]) or "none", of each input by the
            rows that are trained on.
        shape: Of a sample, such as [1, 8, 8] for `nn.Conv2d`; as the source has it if left out.
        seed: Of the splits.
    """

    validation: float = 0.2
    normalization: Normalization = "none"
    shape: Sequence[int] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        owner = type(self).__name__
        _check.number(owner, "validation", self.validation, low=0.0, high=1.0, open_high=True)
        _check.integer(owner, "seed", self.seed, low=0, high=2**64 - 1)
        for length in self.shape or ():
            _check.integer(owner, "shape", length, low=1)

    @abstractmethod
    def read(self) -> Raw:
        """The arrays."""

    def load(self, dtype: np.dtype[Any]) -> Data:
        """Read, split and scale.

        Args:
            dtype: Of inputs, and of the targets of a regression.

        Raises:
            OSError, ValueError: Files that cannot be read, or that hold something else.
        """
        raw = self.read()
        train, test, classes = _targets(raw, dtype)
        train, validation = held_out(train, self.validation, self.seed)
        shift, scale = _scaling(train[0], self.normalization)
        parts = [self._part(part, shift, scale, dtype) for part in (train, validation, test)]
        assert parts[0] is not None
        return Data(parts[0], parts[1], parts[2], classes, shift, scale)

    def _part(self, part: Part | None, shift: Array, scale: Array, dtype: np.dtype[Any]) -> Part | None:
        if part is None:
            return None
        inputs = part[0]
        if self._has_numbers():
            inputs = np.ascontiguousarray((inputs - shift) / scale if self.normalization != "none" else inputs, dtype)
        if self.shape is not None:
            inputs = inputs.reshape(len(inputs), *self.shape)
        return inputs, part[1]

    def _has_numbers(self) -> bool:
        return True


def _targets(raw: Raw, dtype: np.dtype[Any]) -> tuple[Part, Part | None, list[str] | None]:
    """Labels from 0 on with their names, or numbers in columns."""
    if raw.task == "regression":
        return _columns(raw.train, dtype), None if raw.test is None else _columns(raw.test, dtype), None
    names = np.unique(np.concatenate([part[1] for part in (raw.train, raw.test) if part is not None]))
    train, test = (
        None if part is None else (part[0], np.searchsorted(names, part[1]).astype(np.int64))
        for part in (raw.train, raw.test)
    )
    assert train is not None
    _require_labels(names)
    if len(names) < 2:
        raise ConfigError(f"data: a classification must have two classes at least, got {names.tolist()}")
    return train, test, [str(name) for name in names]


def _require_labels(names: Array) -> None:
    """Raise for numbers of which one has a fraction or is none, as scikit-learn's classifiers do."""
    try:
        numbers = names.astype(np.float64)
    except ValueError:
        return
    odd = names[np.isnan(numbers) | (numbers != np.trunc(numbers))]
    if odd.size:
        raise ConfigError(f"data.task must be regression for targets that are no whole numbers, got {odd[0]}")


def _columns(part: Part, dtype: np.dtype[Any]) -> Part:
    targets = part[1].astype(dtype)
    return part[0], targets.reshape(len(targets), -1)


def held_out(part: Part, share: float, seed: int) -> tuple[Part, Part | None]:
    """What is left, and the part that is held out."""
    if share == 0:
        return part, None
    left, held = split(Arrays(part), share, seed)
    return (part[0][left.rows], part[1][left.rows]), (part[0][held.rows], part[1][held.rows])


def _scaling(inputs: Array, normalization: Normalization) -> Part:
    wide = inputs.astype(np.float64, copy=False)
    if normalization == "none":
        return np.zeros(1), np.ones(1)
    if normalization == "standardize":
        shift, scale = wide.mean(axis=0), wide.std(axis=0)
    else:
        shift, scale = wide.min(axis=0), np.ptp(wide, axis=0)
    # What is always the same becomes 0.
    return shift, np.where(scale == 0, 1.0, scale)
