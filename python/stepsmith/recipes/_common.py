"""What the recipes share: arguments, tables, and a picture of their curves."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from stepsmith import _plot
from stepsmith._table import Table

__all__ = ["Curve", "Table", "options", "plot"]

Curve = tuple[Sequence[float], Sequence[float]]


def options(
    name: str, summary: str, given: Sequence[str] | None, choices: Mapping[str, Sequence[str]] | None = None
) -> argparse.Namespace:
    """The arguments of a recipe: quick, output (a folder, which is made), seed, and a choice such as a model.

    Args:
        name: Of the recipe.
        summary: For --help.
        given: The arguments; None for those of the command line.
        choices: Further arguments, each with its values; the first is the default.
    """
    parser = argparse.ArgumentParser(prog=f"python -m stepsmith.recipes.{name}", description=summary)
    parser.add_argument("--quick", action="store_true", help="a second of training, to see that it runs")
    parser.add_argument("--output", type=Path, default=Path(), metavar="FOLDER", help="for files (default: this one)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default: 0)")
    for choice, values in (choices or {}).items():
        parser.add_argument(f"--{choice}", choices=values, default=values[0], help=f"default: {values[0]}")
    found = parser.parse_args(given)
    found.output.mkdir(parents=True, exist_ok=True)
    return found


def plot(path: Path, curves: Mapping[str, Curve], xlabel: str, ylabel: str, **scales: str) -> None:
    """Draw labelled curves, one of a single point as a dot, save the picture, and say where it is.

    `scales` are Matplotlib's ``xscale`` and ``yscale``.
    """
    figure = _plot.figure("recipes", 8, 5)
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel)
    for index, (label, (x, y)) in enumerate(curves.items()):
        axes.plot(x, y, "o" if len(x) == 1 else ("-", "--", ":")[index // 10 % 3], label=label)
    axes.set(**scales)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path)
    print(f"plot: {path}")
