"""Weights by name: from a file or a mapping into a model that exists."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepsmith import _check, quant
from stepsmith._backend import assign, require_array
from stepsmith._table import Table
from stepsmith.quant import QuantizedArray
from stepsmith.train.model import Array, Model
from stepsmith.train.snapshot import arrays_of
from stepsmith.transfer.names import Mapper, renamed

__all__ = ["Report", "load_weights"]

Stored = Array | QuantizedArray
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """What `load_weights` did; as text it is a table.

    Attributes:
        matched: Names in the model that were loaded.
        missing: Those that the source has not, and that stay as they are.
        unexpected: Names in the source, as they are there, that lead nowhere.
        mismatched: Name in the model to its shape and the source's; it stays as it is.
        cast: Name in the model to the dtype or scheme in the source and the model's dtype, for those that were
            converted.

    Example:
        >>> print(Report(("0.weight",), ("0.bias",), (), {}, {"0.weight": ("float64", "float32")}))
        name      what     model    source
        0.weight  loaded   float32  float64
        0.bias    missing
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: dict[str, tuple[Shape, Shape]]
    cast: dict[str, tuple[str, str]]

    def __str__(self) -> str:
        table = Table(["name", "what", "model", "source"], "<<<<")
        for name in self.matched:
            source, own = self.cast.get(name, ("", ""))
            table.add(name, "loaded", own, source)
        for name, (own_shape, shape) in self.mismatched.items():
            table.add(name, "mismatched", str(own_shape), str(shape))
        for name in self.missing:
            table.add(name, "missing", "", "")
        for name in self.unexpected:
            table.add(name, "unexpected", "", "")
        return str(table)

    def problems(self) -> list[str]:
        """What a strict load refuses."""
        named = (("missing", self.missing), ("unexpected", self.unexpected))
        lists = [f"{what} {', '.join(names)}" for what, names in named if names]
        return lists + [f"{name} {own} in the model and {got} here" for name, (own, got) in self.mismatched.items()]


def load_weights(
    model: Model,
    source: str | os.PathLike[str] | Mapping[str, Stored],
    mapping: Mapper | None = None,
    strict: bool = False,
) -> Report:
    """Write tensors into a model's parameters and buffers of their names; all is checked before any is written.

    Shapes must be equal. Quantized tensors are decoded, and numbers of another dtype are converted to the model's; the
    report lists these. Load before the optimizer is made: one with float32 masters or averages copies the parameters.

    Args:
        model: An `nn.Module`, or anything with `parameters()`.
        source: A .safetensors file, read by `quant.load`, or name → array or `QuantizedArray`.
        mapping: What the source's tensors are called here: a mapping or a list of (glob, replacement), of which the
            first that matches decides, and what each * stood for takes the replacement's * in order; or a function
            from old to new name. Names that no glob matches stay.
        strict: Whether names and shapes must all be the model's.

    Returns:
        What was loaded and what was not.

    Raises:
        TypeError: Arguments of another kind, or numbers that cannot become the model's, such as complex ones.
        ValueError: Nothing that could be loaded, two tensors of one new name, or with `strict` any difference: all are
            listed.
        OSError: A file that cannot be read.

    Follows: ``torch.nn.Module.load_state_dict``, which refuses other shapes and converts dtypes in silence.

    Example:
        >>> model = ss.nn.Sequential(ss.nn.Linear(2, 1, bias=False))
        >>> report = load_weights(model, {"fc.weight": np.array([[3.0, 4.0]])}, {"fc.*": "0.*"})
        >>> report.matched, report.cast, model.parameters()["0.weight"].tolist()
        (('0.weight',), {'0.weight': ('float64', 'float32')}, [[3.0, 4.0]])
    """
    _check.boolean("load_weights", "strict", strict)
    own, given = _arrays_of(model), _tensors(source)
    names = renamed(given, mapping)
    found = {new: given[old] for old, new in names.items() if new in own}
    unexpected = tuple(old for old, new in names.items() if new not in own)
    report = _compared(own, found, unexpected)
    if not report.matched or (strict and report.problems()):
        rule = "names and shapes must be the model's" if strict else "a tensor must fit the model"
        raise ValueError(f"load_weights: {rule}, got {'; '.join(report.problems()) or 'none'}")
    ready = {name: _converted(name, found[name], own[name].dtype) for name in report.matched}
    for name, array in ready.items():
        assign(own[name], array)
    return report


def _arrays_of(model: Model) -> dict[str, Array]:
    if not hasattr(model, "parameters"):
        raise TypeError(f"load_weights: model must have parameters(), got {type(model).__name__}")
    return arrays_of(model)


def _tensors(source: object) -> Mapping[str, Stored]:
    if isinstance(source, str | os.PathLike):
        return quant.load(source)
    if not isinstance(source, Mapping):
        raise TypeError(f"load_weights: source must be a path or a mapping, got {type(source).__name__}")
    for name, array in source.items():
        if not isinstance(array, QuantizedArray):
            require_array("load_weights", f"source[{name!r}]", array)
    return source


def _compared(own: Mapping[str, Array], found: Mapping[str, Stored], unexpected: tuple[str, ...]) -> Report:
    shapes = {name: (own[name].shape, found[name].shape) for name in own if name in found}
    matched = tuple(name for name, (want, got) in shapes.items() if want == got)
    kinds = {name: (_kind(found[name]), own[name].dtype.name) for name in matched}
    return Report(
        matched,
        tuple(name for name in own if name not in found),
        unexpected,
        {name: pair for name, pair in shapes.items() if pair[0] != pair[1]},
        {name: pair for name, pair in kinds.items() if pair[0] != pair[1]},
    )


def _kind(stored: Stored) -> str:
    return stored.scheme.name if isinstance(stored, QuantizedArray) else stored.dtype.name


def _converted(name: str, stored: Stored, dtype: np.dtype[Any]) -> Array:
    if isinstance(stored, QuantizedArray):
        return stored.dequantize(dtype=dtype)
    if not np.can_cast(stored.dtype, dtype, "same_kind"):
        raise TypeError(f"load_weights: {name} must be numbers that can become {dtype}, got {stored.dtype}")
    return stored.astype(dtype, copy=False)
