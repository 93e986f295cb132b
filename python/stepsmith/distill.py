"""Knowledge distillation: a teacher's outputs for all rows, for a student that learns them with `nn.Distillation`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from stepsmith import _check, quant
from stepsmith._backend import device_of, moved, require_array
from stepsmith.nn import Module
from stepsmith.quant._archive import Archive
from stepsmith.train.evaluation import outputs
from stepsmith.train.model import Array, device_of_model
from stepsmith.train.snapshot import arrays_of
from stepsmith.train.trainer import Trainer

__all__ = ["teacher_logits"]

Teacher = Trainer | Module | Callable[[Array], Array]

_KEY, _LOGITS = "stepsmith.teacher", "logits"
_PROBES = 16


def teacher_logits(
    teacher: Teacher, X: Array, batch_size: int = 1024, cache: str | os.PathLike[str] | None = None
) -> Array:
    """The teacher's outputs for all rows: the last array of the data that a student trains on.

    The student's data are (X, labels, logits), its loss `nn.Distillation(temperature, alpha)` of Hinton et al. 2015,
    alpha·T²·KL(softmax(teacher/T) ‖ softmax(student/T)) + (1 - alpha)·cross entropy. With alpha = 1 the labels are not
    read: any integers stand for those that there are not, such as ``np.full(len(X), -1)``; an evaluation's accuracy is
    against them.

    Args:
        teacher: A trainer, an `nn.Module`, which runs as outside training, or a function from rows to outputs.
        X: Rows along axis 0, at least one, of NumPy or CuPy; a memory-mapped array is fine.
        batch_size: Rows at once, at least 1.
        cache: A .safetensors file to keep the outputs in, written whole or not at all; its folder is made. What lies
            there is taken if it was made of these rows by this teacher: same bits of rows, parameters and buffers, and
            of the outputs for the first rows, which also tell functions apart. Else it is computed again and replaced.

    Returns:
        Outputs (rows, ...) in the teacher's dtype, where X is: a fresh array, or read-only pages of the file.

    Raises:
        TypeError: Another kind of teacher, or of rows.
        ValueError: No rows, a teacher that gives another number of them, or a cache that is some other file.
        OSError: A file that cannot be read or written.

    Example:
        >>> X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)
        >>> teacher = ss.nn.Sequential(ss.nn.Linear(2, 3), seed=1)
        >>> data = X, np.array([0, 1, 2, 0]), teacher_logits(teacher, X)
        >>> student = ss.nn.Sequential(ss.nn.Linear(2, 3))
        >>> optimizer = ss.optim.Adam(student.parameters(), lr=0.1)
        >>> trainer = ss.Trainer(student, ss.nn.Distillation(temperature=2.0, alpha=0.9), optimizer=optimizer)
        >>> trainer.fit(data, epochs=2, progress=False).columns
        ['epoch', 'step', 'loss', 'lr']
    """
    _check_rows(teacher, X)
    size = _check.integer("teacher_logits", "batch_size", batch_size, low=1)
    if cache is None:
        return _computed(teacher, X, size)
    key = _fingerprint(teacher, X, size)
    if os.path.exists(cache):
        kept = _kept(cache, key)
        if kept is not None:
            return moved(kept, device_of(X))
    # Before the outputs are computed, which takes long.
    Path(cache).parent.mkdir(parents=True, exist_ok=True)
    quant.save(cache, {_LOGITS: moved(_computed(teacher, X, size), "cpu")}, {_KEY: key})
    found = _kept(cache, key)
    assert found is not None
    return moved(found, device_of(X))


def _check_rows(teacher: Teacher, X: Array) -> None:
    if not (isinstance(teacher, Trainer) or callable(teacher)):
        raise TypeError(
            f"teacher_logits: teacher must be a Trainer, a Module or a function, got {type(teacher).__name__}"
        )
    if require_array("teacher_logits", "X", X).ndim == 0 or len(X) == 0:
        raise ValueError(f"teacher_logits: X must have rows, got shape {X.shape}")


def _computed(teacher: Teacher, X: Array, batch_size: int) -> Array:
    """Outputs for all rows, in a fresh array."""
    if isinstance(teacher, Trainer):
        found = teacher.predict(X, batch_size)
    else:
        found = outputs(teacher, X, batch_size, device_of_model(teacher))
    if found.ndim == 0 or len(found) != len(X):
        raise ValueError(f"teacher_logits: teacher must give {len(X)} rows, got shape {found.shape}")
    return found


def _fingerprint(teacher: Teacher, X: Array, batch_size: int) -> str:
    """A hash of what the outputs depend on: a teacher's arrays, the rows, and outputs for the first ones."""
    model: Any = teacher.model if isinstance(teacher, Trainer) else teacher
    own = arrays_of(model) if hasattr(model, "parameters") else {}
    probe = _computed(teacher, X[:_PROBES], batch_size)
    digest = sha256()
    for name, array in [*sorted(own.items()), ("", X), ("", probe)]:
        digest.update(repr((name, array.dtype.name, array.shape)).encode())
        for piece in _pieces(array, batch_size):
            digest.update(np.asarray(moved(piece, "cpu"), order="C").reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _pieces(array: Array, rows: int) -> Iterator[Array]:
    """Parts in C order, so that no whole copy of a memory-mapped array is made."""
    if array.ndim == 0:
        yield array
        return
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def _kept(cache: str | os.PathLike[str], key: str) -> Array | None:
    """Pages of the file, if they are of that key."""
    with Archive("teacher_logits", cache, mapped=True) as archive:
        if _KEY not in archive.metadata:
            path = os.fspath(cache)
            raise ValueError(f"teacher_logits: cache must be a file that teacher_logits wrote, got {path!r}")
        found = archive.read(_LOGITS) if archive.metadata[_KEY] == key else None
    assert found is None or isinstance(found, np.ndarray)
    return found
