"""The command `stepsmith`. A subcommand is one function with the decorator `command`."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Sequence
from inspect import cleandoc
from typing import Any, NamedTuple

__all__ = ["main"]

Handler = Callable[[argparse.Namespace], int]
Option = tuple[tuple[str, ...], dict[str, Any]]


class Command(NamedTuple):
    """A subcommand."""

    handler: Handler
    options: tuple[Option, ...]
    failure: int
    """Exit code after an error."""


COMMANDS: dict[str, Command] = {}

# Distribution and module of what the extras install.
OPTIONAL = {
    "scikit-learn": "sklearn",
    "matplotlib": "matplotlib",
    "torch": "torch",
    "gguf": "gguf",
}


def option(*flags: str, **settings: Any) -> Option:
    """An argument of a subcommand, as for ``ArgumentParser.add_argument``."""
    return flags, settings


def command(*options: Option, failure: int = 1) -> Callable[[Handler], Handler]:
    """Make a function a subcommand: its name is the command's, its docstring the help, its result the exit code."""

    def register(handler: Handler) -> Handler:
        COMMANDS[handler.__name__] = Command(handler, options, failure)
        return handler

    return register


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    That is 0 if all was done, 2 for wrong usage, and after an error, which is one line on stderr, 1, or 2 where the
    command works on files that the user names.
    """
    parsed = _parser().parse_args(arguments)
    command = COMMANDS[parsed.command]
    try:
        return command.handler(parsed)
    except (ImportError, OSError, ValueError) as error:
        owner = f"{parsed.command}: "
        print(f"stepsmith {owner}{_sentence(error).removeprefix(owner)}", file=sys.stderr)
        return command.failure
    except KeyboardInterrupt:
        return 130


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stepsmith", description="Optimizer steps for arrays you already have.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (handler, options, _) in COMMANDS.items():
        summary = cleandoc(handler.__doc__ or "")
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


@command(
    option("config", metavar="CONFIG.toml", nargs="?"),
    option("--output", metavar="FOLDER", help="of the run (default: CONFIG-run beside the config)"),
    option("--set", action="append", default=[], metavar="KEY=VALUE", help="as optimizer.lr=0.01; may be repeated"),
    option("--resume", action="store_true", help="go on with a run that was interrupted, to the same bits"),
    option("--force", action="store_true", help="replace a run that exists"),
    option("--example", action="store_true", help="print a config to begin with"),
    failure=2,
)
def train(arguments: argparse.Namespace) -> int:
    """Train a model that a TOML file describes.

    All keys are checked before anything is trained or written. The run's folder has the config as it was used, the
    history, learning curves, checkpoints, the model and a report.
    """
    from stepsmith.config import command

    return command.run(arguments)


@command(
    option("input", metavar="IN.safetensors"),
    option("output", metavar="OUT.safetensors"),
    option("--scheme", required=True, metavar="NAME", help="such as nf4; a wrong one lists what there is"),
    option("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the scheme; may be repeated"),
    option("--include", action="append", default=[], metavar="GLOB", help="only these names, whatever their axes"),
    option("--exclude", action="append", default=[], metavar="GLOB", help="not these names"),
    option("--min-size", type=int, default=0, metavar="N", help="only tensors of at least N elements"),
    option("--nan", choices=("raise", "zero"), default="raise", help="what NaN becomes: an error (default) or zero"),
    option("--force", action="store_true", help="replace an output that exists"),
    failure=2,
)
def quantize(arguments: argparse.Namespace) -> int:
    """Quantize the tensors of a safetensors file.

    Only float tensors of two or more axes are quantized, unless --include names others. All else is kept as it is, and
    so is what the scheme cannot hold or would not make smaller. A table shows bytes and error of each tensor.
    """
    from stepsmith.quant import _command

    _command.quantize(arguments)
    return 0


@command(option("file", metavar="FILE"), failure=2)
def inspect(arguments: argparse.Namespace) -> int:
    """Show what a .safetensors or .gguf file holds, and check the hashes that `stepsmith quantize` put into it."""
    from stepsmith.quant import _inspect

    _inspect.show(arguments.file)
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
