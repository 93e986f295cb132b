"""The state of a run: what a trainer says of itself, and the checks before any of it is taken back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from stepsmith._backend import assign, host_copy
from stepsmith.train.clock import Clock
from stepsmith.train.model import Array, buffers_of

if TYPE_CHECKING:
    from stepsmith.train.callbacks import Callback
    from stepsmith.train.scaling import LossScale
    from stepsmith.train.trainer import Trainer

__all__ = ["dump", "load"]

VERSION = 1
_KEYS = (
    "version",
    "seed",
    "parameters",
    "buffers",
    "optimizer",
    "clock",
    "history",
    "frozen",
    "stopping",
    "loss_scale",
    "callbacks",
)


def dump(trainer: Trainer) -> dict[str, Any]:
    """The tree of `Trainer.state_dict`."""
    if not hasattr(trainer.optimizer, "state_dict"):
        raise TypeError(f"Trainer: optimizer must have state_dict(), got {type(trainer.optimizer).__name__}")
    return {
        "version": VERSION,
        "seed": trainer.seed,
        "parameters": _copies(trainer.model.parameters()),
        "buffers": _copies(buffers_of(trainer.model)),
        "optimizer": trainer.optimizer.state_dict(),
        "clock": trainer.clock.state_dict(),
        "history": trainer.history.state_dict(),
        "frozen": sorted(trainer.frozen),
        "stopping": trainer.stopping,
        "loss_scale": None if trainer.loss_scale is None else _typed(trainer.loss_scale),
        "callbacks": [_typed(item) for item in trainer.callbacks],
    }


def _typed(item: Callback | LossScale) -> dict[str, Any]:
    return {"type": type(item).__name__, "state": item.state_dict()}


def _copies(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """On the CPU, so that what is saved says nothing of a device."""
    return {name: host_copy(array) for name, array in arrays.items()}


def load(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Check everything, then take it back, all or nothing."""
    problems = _problems(trainer, state)
    if problems:
        raise ValueError("Trainer: state must be one of an equal trainer: " + "; ".join(problems))
    before = dump(trainer)
    try:
        _take(trainer, state)
    except BaseException:
        _take(trainer, before)
        raise
    # The coming fit goes on from it.
    trainer.resumed = True


def _take(trainer: Trainer, state: Mapping[str, Any]) -> None:
    optimizer: Any = trainer.optimizer
    # Before the optimizer, which makes low-precision copies of the parameters.
    for own, loaded in (
        (trainer.model.parameters(), state["parameters"]),
        (buffers_of(trainer.model), state["buffers"]),
    ):
        for name, array in own.items():
            assign(array, loaded[name])
    optimizer.load_state_dict(state["optimizer"])
    for callback, entry in zip(trainer.callbacks, state["callbacks"], strict=True):
        callback.load_state_dict(entry["state"])
    trainer.clock = Clock.of(state["clock"])
    trainer.history.load_state_dict(state["history"])
    trainer.set_frozen(set(state["frozen"]))
    trainer.stopping = state["stopping"]
    if trainer.loss_scale is not None:
        trainer.loss_scale.load_state_dict(state["loss_scale"]["state"])


def _problems(trainer: Trainer, state: Mapping[str, Any]) -> list[str]:
    """All that does not fit."""
    problems = _names("keys", _KEYS, state)
    if problems:
        return problems
    for key, want in (("version", VERSION), ("seed", trainer.seed)):
        if state[key] != want:
            problems.append(f"{key} must be {want}, got {state[key]!r}")
    for what, own in (("parameters", trainer.model.parameters()), ("buffers", buffers_of(trainer.model))):
        problems += _array_problems(what, own, state[what])
    kinds = [type(item).__name__ for item in trainer.callbacks]
    found = [entry["type"] for entry in state["callbacks"]]
    if kinds != found:
        problems.append(f"callbacks must be {kinds}, got {found}")
    scales = [None if trainer.loss_scale is None else type(trainer.loss_scale).__name__]
    scales.append(None if state["loss_scale"] is None else state["loss_scale"]["type"])
    if scales[0] != scales[1]:
        problems.append(f"loss_scale must be {scales[0]}, got {scales[1]}")
    return problems


def _names(what: str, want: Iterable[str], got: Mapping[str, Any]) -> list[str]:
    wanted = list(want)
    missing, unknown = [name for name in wanted if name not in got], [name for name in got if name not in wanted]
    return [f"{what}: missing {missing}, unknown {unknown}"] if missing or unknown else []


def _array_problems(what: str, own: Mapping[str, Array], got: Mapping[str, Array]) -> list[str]:
    problems = _names(what, own, got)
    for name in own.keys() & got.keys():
        if (own[name].shape, own[name].dtype) != (got[name].shape, got[name].dtype):
            want = f"{own[name].dtype} of shape {own[name].shape}"
            problems.append(f"{what}[{name!r}] must be {want}, got {got[name].dtype} of shape {got[name].shape}")
    return sorted(problems)
