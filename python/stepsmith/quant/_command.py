"""``stepsmith quantize``: a file of tensors to a smaller one, one tensor after another."""

import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from fnmatch import fnmatchcase
from math import prod
from typing import Any, NamedTuple

from numpy.typing import NDArray

from stepsmith._outputs import FLOATS
from stepsmith._table import Table, count
from stepsmith.quant._archive import Archive, Entry, described
from stepsmith.quant._figures import QuantizationError
from stepsmith.quant._files import save
from stepsmith.quant._scheme import Scheme, scheme
from stepsmith.quant.array import QuantizedArray
from stepsmith.quant.array import quantize as quantized

__all__ = ["parse_settings", "quantize"]

Array = NDArray[Any]

WORDS = {"true": True, "false": False, "none": None}
FLOAT_NAMES = [dtype.name for dtype in FLOATS]


class Row(NamedTuple):
    """What became of a tensor."""

    name: str
    before: Entry
    after: int
    error: QuantizationError | None
    """None for a tensor that was kept."""
    what: str


class Choice(NamedTuple):
    """Which tensors are quantized, and how."""

    scheme: Scheme
    include: Sequence[str]
    exclude: Sequence[str]
    min_size: int

    def why_kept(self, name: str, entry: Entry) -> str | None:
        """None for a tensor that is to be quantized."""
        size = prod(entry.shape)
        if entry.is_quantized or entry.kind not in FLOAT_NAMES:
            return entry.kind
        if _matches(name, self.exclude) or (self.include and not _matches(name, self.include)):
            return "not chosen"
        if len(entry.shape) < 2 and not self.include:
            return "1 axis" if len(entry.shape) == 1 else "no axes"
        if size < self.min_size:
            return count(size, "element")
        try:
            specs = self.scheme.parts(entry.shape).values()
        except ValueError as error:
            return str(error)
        nbytes = sum(prod(spec.shape) * spec.dtype.itemsize for spec in specs)
        return None if nbytes < entry.nbytes else "not smaller"


def quantize(arguments: Namespace) -> None:
    """Run the command; errors are OSError and ValueError."""
    choice, size = _choice(arguments), os.path.getsize(arguments.input)
    _check_output(arguments.output, arguments.force)
    with Archive("quantize", arguments.input, mapped=True) as archive:
        _check_globs(list(archive), [*choice.include, *choice.exclude])
        tensors, rows = _work(archive, choice, arguments.nan)
        save(arguments.output, tensors, archive.metadata)
    print(_table(rows))
    print(_summary(rows, choice.scheme))
    after = os.path.getsize(arguments.output)
    print(f"{arguments.input}: {size:,} bytes\n{arguments.output}: {after:,} bytes, {after / size:.1%}")


def _choice(arguments: Namespace) -> Choice:
    try:
        chosen = scheme(arguments.scheme, **parse_settings(arguments.set))
    except TypeError as error:
        raise ValueError(error) from None
    return Choice(chosen, arguments.include, arguments.exclude, arguments.min_size)


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Settings of ``NAME=VALUE``; a value is true, false, none, a number, or a text."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise ValueError(f"--set must be NAME=VALUE, got {pair!r}")
        if name in settings:
            raise ValueError(f"--set must name a setting once, got {name} twice")
        settings[name] = WORDS[text.lower()] if text.lower() in WORDS else _number_or_text(text)
    return settings


def _number_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _check_output(path: str, force: bool) -> None:
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise ValueError(f"the output must be a file, got the folder {path}")
    if not os.path.isdir(folder):
        raise ValueError(f"the output must be in a folder that exists, got {path}")
    if os.path.exists(path) and not force:
        raise ValueError(f"the output {path} exists; --force replaces it")


def _check_globs(names: Sequence[str], globs: Sequence[str]) -> None:
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise ValueError(
                f"--include and --exclude must match a tensor, got {glob!r}; `stepsmith inspect` lists them"
            )


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _work(archive: Archive, choice: Choice, nan: str) -> tuple[dict[str, QuantizedArray | Array], list[Row]]:
    # Imported here, because importing stepsmith should cost next to nothing.
    from tqdm import tqdm

    tensors: dict[str, QuantizedArray | Array] = {}
    rows = []
    entries = {name: archive.entry(name) for name in archive}
    total = sum(entry.nbytes for entry in entries.values())
    # No bar where nobody looks: disable=None asks whether it is a terminal.
    with tqdm(
        total=total, unit="B", unit_scale=True, file=sys.stderr, disable=None, leave=False, dynamic_ncols=True
    ) as bar:
        for name, entry in entries.items():
            bar.set_postfix_str(name, refresh=False)
            tensors[name], row = _one(archive, name, entry, choice, nan)
            rows.append(row)
            bar.update(entry.nbytes)
    return tensors, rows


def _one(archive: Archive, name: str, entry: Entry, choice: Choice, nan: str) -> tuple[QuantizedArray | Array, Row]:
    value, why = archive.read(name), choice.why_kept(name, entry)
    if why is not None or isinstance(value, QuantizedArray):
        return value, Row(name, entry, value.nbytes, None, f"kept: {why}")
    try:
        q = quantized(value, choice.scheme, nan=nan)
    except ValueError as error:
        raise ValueError(f"'{name}': {error}") from None
    return q, Row(name, entry, q.nbytes, q.error(value), "quantized")


def _table(rows: Sequence[Row]) -> Table:
    table = Table(("tensor", "shape", "dtype", "bytes", "after", "SQNR dB", "max error", ""), "<<<>>>><")
    for name, before, after, error, what in rows:
        figures = ("", "") if error is None else (f"{error.sqnr:.2f}", f"{error.max:.3g}")
        table.add(name, shape_text(before.shape), before.kind, f"{before.nbytes:,}", f"{after:,}", *figures, what)
    bytes_before, bytes_after = sum(row.before.nbytes for row in rows), sum(row.after for row in rows)
    table.add("total", "", "", f"{bytes_before:,}", f"{bytes_after:,}", "", "", "")
    return table


def _summary(rows: Sequence[Row], chosen: Scheme) -> str:
    errors = {row.name: row.error.sqnr for row in rows if row.error is not None}
    lines = [
        f"{described(chosen)}: {len(errors)} of {count(len(rows), 'tensor')} quantized, {len(rows) - len(errors)} kept"
    ]
    if errors:
        worst = min(errors, key=errors.__getitem__)
        lines.append(f"lowest SQNR: {errors[worst]:.2f} dB, {worst}")
    return "\n".join(lines)


def shape_text(shape: tuple[int, ...]) -> str:
    """Such as "64x128"; "()" for a number."""
    return "x".join(map(str, shape)) or "()"
