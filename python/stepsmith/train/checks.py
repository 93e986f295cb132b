"""Checks of a trainer's arguments, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stepsmith import _check
from stepsmith.nn.regularization import Regularizer
from stepsmith.train.callbacks.base import Callback

if TYPE_CHECKING:
    from stepsmith.train.run import FitOptions

__all__ = ["callbacks_of", "check_augment", "check_fit", "check_optimizer", "metrics_of", "regularizers_of"]

_HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


def check_optimizer(optimizer: object) -> None:
    """Raise unless it is an object with parameters and a step."""
    is_one = isinstance(getattr(optimizer, "params", None), Mapping) and callable(getattr(optimizer, "step", None))
    if isinstance(optimizer, type) or not is_one:
        rule = "must be constructed over model.parameters(), as optim.Adam(model.parameters())"
        raise TypeError(f"Trainer: optimizer {rule}, got {optimizer!r}")


def _sequence(name: str, value: object) -> Sequence[Any]:
    if not isinstance(value, Sequence):
        raise TypeError(f"Trainer: {name} must be a sequence such as a list, got {value!r}")
    return value


def callbacks_of(given: object) -> tuple[Callback, ...]:
    """The callbacks in the order of their calls."""
    found = _sequence("callbacks", given)
    for index, callback in enumerate(found):
        _check_callback(f"callbacks[{index}]", callback)
        if any(callback is other for other in found[:index]):
            raise ValueError(f"Trainer: callbacks must be different objects, got {callback!r} twice")
    return tuple(sorted(found, key=lambda callback: callback.comes_last))


def _check_callback(name: str, callback: object) -> None:
    if not isinstance(callback, Callback):
        rule = "must be a Callback object, or functions in a FunctionCallback"
        raise TypeError(f"Trainer: {name} {rule}, got {callback!r}")
    kind = type(callback)
    unknown = [hook for hook in dir(kind) if hook.startswith("on_") and hook not in _HOOKS]
    methods = [hook for hook in unknown if callable(getattr(kind, hook))]
    if methods:
        rule = f"must have no other methods on_* than {', '.join(_HOOKS)}"
        raise ValueError(f"Trainer: {name} {rule}, got {', '.join(methods)} of {kind.__name__}")


def metrics_of(given: object) -> dict[str, Callable[..., Any]]:
    """The metrics by name."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"Trainer: metrics must be a mapping from names to functions, got {given!r}")
    for name, metric in given.items():
        if not isinstance(name, str):
            raise TypeError(f"Trainer: names of metrics must be strings, got {name!r}")
        if name == "loss":
            raise ValueError(f"Trainer: names of metrics must be others than that of the loss, got {name!r}")
        if not callable(metric):
            raise TypeError(f"Trainer: metrics[{name!r}] must be a function, got {metric!r}")
    return dict(given)


def regularizers_of(given: object, optimizer: object) -> tuple[Regularizer, ...]:
    """The regularizers; those that act after a step need its learning rates, which other makers' optimizers keep."""
    found = _sequence("regularizers", given)
    has_rates = hasattr(optimizer, "groups") or getattr(optimizer, "takes_closure", False)
    for index, item in enumerate(found):
        if not isinstance(item, Regularizer):
            raise TypeError(f"Trainer: regularizers[{index}] must be a Regularizer, got {item!r}")
        if item.acts_after and not has_rates:
            rule = f"must act before the step of {type(optimizer).__name__}, which tells no learning rates"
            raise ValueError(f"Trainer: regularizers[{index}] {rule}, got {type(item).__name__} that acts after it")
    return tuple(found)


def check_augment(augment: object) -> None:
    """Raise unless it is None or a function."""
    if augment is not None and not callable(augment):
        raise TypeError(f"Trainer: augment must be a function of (batch, rng), got {augment!r}")


def check_fit(options: FitOptions, validation: object, optimizer: object) -> None:
    """Raise if the arguments of a fit do not go with the optimizer, or a fraction is no number."""
    if isinstance(validation, float):
        _check.number("Trainer", "validation", validation)
    if not getattr(optimizer, "takes_closure", False):
        return
    kind = type(optimizer).__name__
    if options.accumulate != 1:
        raise ValueError(f"Trainer: accumulate must be 1 for {kind}, which sees all data, got {options.accumulate}")
    if options.steps_per_epoch is not None:
        rule = f"must be None for {kind}, whose step is an epoch"
        raise ValueError(f"Trainer: steps_per_epoch {rule}, got {options.steps_per_epoch}")
