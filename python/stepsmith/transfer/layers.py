"""Layers of a trained model: another head, and rates by depth."""

from __future__ import annotations

from typing import Any

from stepsmith import _check
from stepsmith.nn import Module, Sequential
from stepsmith.nn.buffer import Array
from stepsmith.optim import decay_groups
from stepsmith.schedules import Constant, Product, Schedule
from stepsmith.train.averages import deep_copy

__all__ = ["layerwise_groups", "replace_head"]


def replace_head(model: Sequential, *layers: Module, drop: int = 1, seed: int | None = None) -> Sequential:
    """A model with copies of the trained layers and others in place of the last; the old one stays as it is.

    Args:
        model: Whose last modules go.
        layers: What comes instead.
        drop: How many modules go, at least 0.
        seed: What the new layers are drawn from, where no `rng` has drawn them; None for that of `model` plus 1, so
            that the new head does not start where the old one did. It goes to the device of `model`.

    Raises:
        TypeError: Not a `Sequential`, or something that is no Module.
        ValueError: More modules to drop than there are, or a negative seed.

    Example:
        >>> model = ss.nn.Sequential(ss.nn.Linear(4, 8), ss.nn.Tanh(), ss.nn.Linear(8, 3))
        >>> other = replace_head(model, ss.nn.Dropout(0.2), ss.nn.Linear(8, 5))
        >>> bool((other.parameters()["0.weight"] == model.parameters()["0.weight"]).all())
        True
        >>> other.parameters()["3.weight"].shape
        (5, 8)
    """
    modules = _sequential("replace_head", model).modules
    drop = _check.integer("replace_head", "drop", drop, low=0, high=len(modules))
    # Its layers are drawn, by the seed of `model`, and stay so in another tree.
    twin = deep_copy(model)
    assert isinstance(twin, Sequential)
    kept = twin.modules[: len(modules) - drop]
    made = Sequential(*kept, *layers, seed=model.seed + 1 if seed is None else seed)
    return made if model.device == "cpu" else made.to(model.device)


def layerwise_groups(
    model: Sequential, lr: float | Schedule, decay: float = 0.9, *, no_decay: bool = False
) -> list[dict[str, Any]]:
    """Groups of parameters for an optimizer, with the rate lr·decay^depth; depth 0 is the last module that has some.

    Each module of the `Sequential` is a level, so put a block of layers into a `Sequential` of its own to give them
    one rate.

    Args:
        model: Whose parameters they are.
        lr: Rate of the top, at least 0, or a schedule, which is multiplied.
        decay: In (0, 1].
        no_decay: Whether biases and gains, parameters of fewer than two axes, go without weight decay, as
            `optim.decay_groups` divides them.

    Returns:
        Groups from the top down; the rate in the history is that of the top.

    Raises:
        TypeError: Arguments of another kind.
        ValueError: Numbers out of range, or a model without parameters.

    Follows: Howard and Ruder 2018 (discriminative fine-tuning, decay = 1/2.6); Clark et al. 2020, ELECTRA.

    Example:
        >>> model = ss.nn.Sequential(ss.nn.Linear(4, 8), ss.nn.Tanh(), ss.nn.Linear(8, 3))
        >>> groups = layerwise_groups(model, 0.5, decay=0.5)
        >>> [(list(group["params"]), group["lr"]) for group in groups]
        [(['2.weight', '2.bias'], 0.5), (['0.weight', '0.bias'], 0.25)]
        >>> optimizer = ss.optim.AdamW(groups)
    """
    owner = "layerwise_groups"
    decay = _check.number(owner, "decay", decay, low=0.0, high=1.0, open_low=True)
    _check.boolean(owner, "no_decay", no_decay)
    if not isinstance(lr, Schedule):
        _check.number(owner, "lr", lr, low=0.0)
    levels = _levels(_sequential(owner, model))
    if not levels:
        raise ValueError(f"{owner}: model must have parameters, got none")
    return [
        {**group, "lr": _scaled(lr, decay**depth)}
        for depth, params in enumerate(reversed(levels))
        for group in (decay_groups(params) if no_decay else [{"params": params}])
    ]


def _sequential(owner: str, model: object) -> Sequential:
    if not isinstance(model, Sequential):
        raise TypeError(f"{owner}: model must be a Sequential, got {type(model).__name__}")
    return model


def _levels(model: Sequential) -> list[dict[str, Array]]:
    """The parameters of each module that has some, by their names in the model."""
    levels: dict[str, dict[str, Array]] = {}
    for name, param in model.parameters().items():
        levels.setdefault(name.partition(".")[0], {})[name] = param
    return list(levels.values())


def _scaled(lr: float | Schedule, factor: float) -> float | Schedule:
    if not isinstance(lr, Schedule):
        return lr * factor
    return lr if factor == 1.0 else Product([lr, Constant(factor, factor=1.0)])
