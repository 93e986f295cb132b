"""Kernel sources: files of one folder, put one after another in place of includes."""

import re
from functools import cache
from pathlib import Path

__all__ = ["FOLDER", "programs", "source", "text_of"]

FOLDER = Path(__file__).parent / "kernels"

_NEEDS = "// needs:"
_KERNELS = re.compile(r"^[A-Z_]+\(", re.MULTILINE)
"""The macros that a line begins with make kernels."""


@cache
def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _needs(text: str) -> list[str]:
    lines = (line.removeprefix(_NEEDS).split() for line in text.splitlines() if line.startswith(_NEEDS))
    return [name for names in lines for name in names]


def _in_order(name: str, seen: list[str]) -> list[str]:
    """The file after all that it needs, each once."""
    for other in _needs(_text(name)):
        if other not in seen:
            _in_order(other, seen)
    if name not in seen:
        seen.append(name)
    return seen


@cache
def source(program: str) -> str:
    """The whole text of a program."""
    return text_of((f"{program}.cuh",))


def text_of(names: tuple[str, ...]) -> str:
    """Files after all that they need, each once; messages of a compiler name the file and line that a reader finds."""
    seen: list[str] = []
    for name in names:
        _in_order(name, seen)
    return "".join(f'#line 1 "{name}"\n{_text(name)}' for name in seen)


def programs() -> list[str]:
    """Every file that has kernels, by name."""
    return sorted(path.stem for path in FOLDER.glob("*.cuh") if _KERNELS.search(_text(path.name)))
