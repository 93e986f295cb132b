"""The command `stepsmith`. A subcommand is one function with the decorator `command`."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["main"]

Handler = Callable[[argparse.Namespace], int]
Option = tuple[tuple[str, ...], dict[str, Any]]

COMMANDS: dict[str, tuple[Handler, tuple[Option, ...]]] = {}

# Distribution and module of what the extras install.
OPTIONAL = {
    "scikit-learn": "sklearn",
    "matplotlib": "matplotlib",
    "torch": "torch",
}


def option(*flags: str, **settings: Any) -> Option:
    """An argument of a subcommand, as for ``ArgumentParser.add_argument``."""
    return flags, settings


def command(*options: Option) -> Callable[[Handler], Handler]:
    """Make a function a subcommand: its name is the command's, its docstring the help, its result the exit code."""

    def register(handler: Handler) -> Handler:
        COMMANDS[handler.__name__] = handler, options
        return handler

    return register


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed with one line on stderr, 2 wrong usage."""
    parsed = _parser().parse_args(arguments)
    try:
        return COMMANDS[parsed.command][0](parsed)
    except (ImportError, OSError, ValueError) as error:
        print(f"stepsmith {parsed.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stepsmith", description="Optimizer steps for arrays you already have.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (handler, options) in COMMANDS.items():
        summary = (handler.__doc__ or "").strip()
        sub = commands.add_parser(name, help=summary.splitlines()[0], description=summary)
        for flags, settings in options:
            sub.add_argument(*flags, **settings)
    return parser


@command(
    option("--epochs", type=int, default=40, help="epochs of training (default: %(default)s)"),
    option("--seed", type=int, default=0, help="seed of the run that is shown (default: %(default)s)"),
    option("--output", default="demo.png", help="where the learning curves go (default: %(default)s)"),
    option("--no-compare", action="store_true", help="skip the timing beside scikit-learn"),
)
def demo(arguments: argparse.Namespace) -> int:
    """Train a small network on scikit-learn's handwritten digits."""
    from stepsmith.demo import run

    run(arguments.epochs, arguments.seed, arguments.output, compare=not arguments.no_compare)
    return 0


@command()
def info(_arguments: argparse.Namespace) -> int:
    """Print version, CPU level, threads, and which optional packages are here."""
    for name, value in _facts().items():
        print(f"{name:<14} {value}")
    return 0


def _facts() -> dict[str, str]:
    import numpy

    from stepsmith import _core

    core: dict[str, Any] = dict(_core.info())
    found = [f"{name} {importlib.metadata.version(name)}" for name in OPTIONAL if _installed(name)]
    return {
        "stepsmith": str(core["version"]),
        "python": sys.version.split()[0],
        "CPU level": f"{core['isa']} (available: {', '.join(core['isa_available'])})",
        "threads": f"{core['threads']} (running in the pool: {core['pool_threads']})",
        "numpy": numpy.__version__,
        "BLAS": _blas(),
        "optional": ", ".join(found) or "none",
    }


def _installed(name: str) -> bool:
    """Whether a distribution is installed with its module; nothing is imported to find out."""
    if importlib.util.find_spec(OPTIONAL[name]) is None:
        return False
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _blas() -> str:
    import numpy  # noqa: F401 - threadpoolctl sees what is loaded
    from threadpoolctl import threadpool_info

    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return ", ".join(f"{b['internal_api']} {b['version']}, {b['num_threads']} threads" for b in libraries) or "unknown"
