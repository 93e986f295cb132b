"""Checkpoints on disk: folders that are there as a whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepsmith import quant
from stepsmith.train.clock import Clock
from stepsmith.train.tree import join, separate

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["DamagedError", "clean", "free_name", "read", "remove", "require_new", "resume", "save"]

_TEMPORARY = ".tmp-"
_NAME = re.compile(r"step-(\d+)-epoch-(\d+)(?:-(\d+))?")
_MANIFEST, _MODEL, _ARRAYS, _STATE = "manifest.json", "model.safetensors", "state.safetensors", "state.json"
_MODEL_KEYS = ("parameters", "buffers")


class DamagedError(ValueError):
    """A checkpoint whose files are not those that were written."""


def free_name(folder: Path, clock: Clock) -> str:
    """The name of a new checkpoint; names sort by step and epoch, a later one with equal numbers after."""
    path = _free(folder / _name_of(clock))
    return path.name


def _name_of(clock: Clock) -> str:
    return f"step-{clock.step:09d}-epoch-{clock.epoch:06d}"


def save(folder: str | os.PathLike[str], trainer: Trainer, name: str | None = None) -> str:
    """Write a checkpoint and return its path."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    final = path / (name or free_name(path, trainer.clock))
    temporary = _hidden(final)
    temporary.mkdir()
    try:
        _write(temporary, trainer)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(path)
    return str(final)


def _hidden(path: Path) -> Path:
    """A name of its own that nobody takes for a checkpoint's."""
    return path.with_name(f"{_TEMPORARY}{path.name}-{uuid.uuid4().hex}")


def _write(folder: Path, trainer: Trainer) -> None:
    state = trainer.state_dict()
    model = {name: array for key in _MODEL_KEYS for name, array in state[key].items()}
    document, arrays = separate({key: value for key, value in state.items() if key not in _MODEL_KEYS})
    document |= {key: list(state[key]) for key in _MODEL_KEYS}
    quant.save(folder / _MODEL, model)
    quant.save(folder / _ARRAYS, arrays)
    _write_json(folder / _STATE, document)
    files = {name: _measure(folder / name) for name in (_MODEL, _ARRAYS, _STATE)}
    content = {"version": 1, "step": trainer.clock.step, "epoch": trainer.clock.epoch, "files": files}
    _write_json(folder / _MANIFEST, {**content, "sha256": _hash_of(content)})
    _sync(folder)


def _write_json(path: Path, content: Any) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, allow_nan=False, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _measure(path: Path) -> dict[str, Any]:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _hash_of(content: Any) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sync(folder: Path) -> None:
    """Make a folder's entries last."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state in a checkpoint, after every file was compared with the manifest.

    Raises:
        DamagedError: One that is not as it was written.
    """
    folder = Path(path)
    try:
        _verify(folder)
        document = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        model, arrays = quant.load(folder / _MODEL), quant.load(folder / _ARRAYS)
        state: dict[str, Any] = join({key: value for key, value in document.items() if key not in _MODEL_KEYS}, arrays)
        state |= {key: {name: model[name] for name in document[key]} for key in _MODEL_KEYS}
    except DamagedError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"checkpoint {folder} must be as it was written, got {error!r}") from error
    return state


def _verify(folder: Path) -> None:
    manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    claimed = manifest.pop("sha256")
    if claimed != _hash_of(manifest):
        raise DamagedError(f"checkpoint {folder} must be as it was written, got a changed {_MANIFEST}")
    for name, facts in manifest["files"].items():
        if _measure(folder / name) != facts:
            raise DamagedError(f"checkpoint {folder} must be as it was written, got a changed {name}")


def resume(folder: str | os.PathLike[str], trainer: Trainer) -> None:
    """Load the newest good checkpoint; see `Trainer.resume`."""
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"Trainer.resume: folder must exist, got {os.fspath(folder)!r}")
    if (path / _MANIFEST).exists() or _order(path.name) < _NEVER:
        trainer.load_state_dict(read(path))
        return
    damaged = None
    for candidate in _newest_first(path):
        try:
            state = read(candidate)
        except DamagedError as error:
            damaged = error
            warnings.warn(f"Trainer.resume: {error}; taking the one before", stacklevel=3)
        else:
            trainer.load_state_dict(state)
            return
    if damaged is not None:
        raise ValueError(f"Trainer.resume: folder must hold a good checkpoint, got {os.fspath(folder)!r}") from damaged
    # Its log files may have rows already, which are not to stay.
    trainer.resumed = True
    warnings.warn(f"Trainer.resume: no checkpoint in {os.fspath(folder)!r}: starting from the beginning", stacklevel=3)


def _newest_first(folder: Path) -> Iterator[Path]:
    found = [entry for entry in folder.iterdir() if _order(entry.name) < _NEVER]
    return iter(sorted(found, key=lambda entry: _order(entry.name), reverse=True))


def remove(path: Path) -> None:
    """Take a checkpoint away: first out of sight, then its files, so that nobody takes it for a damaged one."""
    hidden = _hidden(path)
    with contextlib.suppress(FileNotFoundError):
        path.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def require_new(folder: Path) -> None:
    """Raise `FileExistsError` if another run's checkpoints are there."""
    found = [] if not folder.is_dir() else list(_newest_first(folder))
    if found:
        way = "resume that run, choose another folder, or say overwrite=True"
        raise FileExistsError(f"Checkpoint: folder must be of a new run, got {found[0].name!r} in it: {way}")


def clean(folder: Path, names: Sequence[str], clock: Clock) -> None:
    """Remove what was half-written or half-removed, and what a run does not know.

    Older checkpoints than the clock's are those that it had no time to remove, or another run's that may go; newer ones
    are damaged or abandoned, and are kept under another name.
    """
    if not folder.is_dir():
        return
    for entry in list(folder.iterdir()):
        if entry.name.startswith(_TEMPORARY):
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name not in names and _order(entry.name) < _NEVER:
            if clock.step and _order(entry.name) > (clock.step, clock.epoch, math.inf):
                entry.rename(_free(entry.with_name(f"abandoned-{entry.name}")))
            else:
                remove(entry)


def _free(path: Path) -> Path:
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(1))
    return next(candidate for candidate in itertools.chain([path], numbered) if not candidate.exists())


_NEVER = (math.inf,)


def _order(name: str) -> tuple[float, ...]:
    """Step, epoch and number that a name says; after all of them for what is no checkpoint."""
    match = _NAME.fullmatch(name)
    return _NEVER if match is None else tuple(int(part or 0) for part in match.groups())
