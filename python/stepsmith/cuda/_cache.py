"""Compiled kernels on the disk, so that only the first program of a machine waits for the compiler."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

__all__ = ["cached", "folder"]


def folder() -> Path:
    """``STEPSMITH_CACHE_DIR``, else ``stepsmith`` in the user's cache folder."""
    named = os.environ.get("STEPSMITH_CACHE_DIR")
    if named:
        return Path(named)
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "stepsmith/cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stepsmith"


@cache
def _own() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="stepsmith-")


def _own_folder() -> Path:
    """Of this process alone, for a home that cannot be written; gone at its end."""
    return Path(_own().name)


def cached(name: str, key: Sequence[str], suffix: str, make: Callable[[], bytes]) -> Path:
    """A file with what `make` gives, made unless one with the same key is there.

    Two processes that make it at the same time write the same bytes, each to a file of its own, which takes its place
    whole. The name says what the file must hold, so a file that was cut short or changed is made anew.
    """
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:32]
    file = f"{name}-{digest}{suffix}"
    if _is_whole(folder() / file):
        return folder() / file
    content = make()
    try:
        return _write(folder() / file, content)
    except OSError:
        return _write(_own_folder() / file, content)


def _is_whole(path: Path) -> bool:
    try:
        return path.with_name(path.name + ".sha256").read_text() == hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return False


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, content)
    _replace(path.with_name(path.name + ".sha256"), hashlib.sha256(content).hexdigest().encode())
    return path


def _replace(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
