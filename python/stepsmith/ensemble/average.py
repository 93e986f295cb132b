"""One model from the weights of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stepsmith._backend import assign, device_of, moved, namespace
from stepsmith._outputs import require_floats
from stepsmith.ensemble._weights import shares
from stepsmith.train.model import Array, Model

__all__ = ["average_weights"]

Params = Mapping[str, Array] | Model


def average_weights(
    models: Sequence[Params], weights: Sequence[float] | None = None, out: Params | None = None
) -> dict[str, Array]:
    """Σ w·p / Σ w of parameters with the same names, as in a model soup; summed in float64 in the models' order.

    Running statistics are no parameters: `train.update_statistics` measures those of `BatchNorm` layers anew.

    Args:
        models: With `parameters()`, or mappings name → array of floats.
        weights: One for each, at least 0; None for equal ones.
        out: A model or mapping to write into, which may be one of `models`; None makes new arrays.

    Returns:
        Name → average, of the first one's dtypes; with `out`, its arrays.

    Raises:
        TypeError: Arguments of another kind, or arrays that are no floats.
        ValueError: No models, names or shapes that differ, or weights that do not fit; nothing was written.

    Follows: Wortsman et al. 2022, Model soups.

    Example:
        >>> average_weights([{"w": np.array([1.0, 2.0])}, {"w": np.array([3.0, 6.0])}], weights=[1, 3])
        {'w': array([2.5, 5. ])}
    """
    sets = [_params(f"models[{i}]", model) for i, model in enumerate(models)]
    if not sets:
        raise ValueError("average_weights: models must not be empty, got none")
    wanted = shares("average_weights", weights, len(sets))
    for i, params in enumerate(sets[1:], 1):
        _check_like(f"models[{i}]", sets[0], params)
    target = _like(sets[0]) if out is None else _params("out", out)
    _check_like("out", sets[0], target)
    for name, array in target.items():
        assign(array, _mean([params[name] for params in sets], wanted))
    return target


def _like(params: Mapping[str, Array]) -> dict[str, Array]:
    return {name: namespace(array).empty_like(array) for name, array in params.items()}


def _mean(arrays: Sequence[Array], weights: Sequence[float]) -> Array:
    total: Array = namespace(arrays[0]).zeros(arrays[0].shape, np.float64)
    device = device_of(arrays[0])
    for array, weight in zip(arrays, weights):
        total += weight * moved(array, device).astype(np.float64)
    total /= sum(weights)
    return total


def _params(name: str, model: Any) -> dict[str, Array]:
    if not isinstance(model, Mapping) and not hasattr(model, "parameters"):
        rule = "must be a mapping or have parameters()"
        raise TypeError(f"average_weights: {name} {rule}, got {type(model).__name__}")
    params = dict(model if isinstance(model, Mapping) else model.parameters())
    for key, array in params.items():
        require_floats("average_weights", f"{name}[{key!r}]", array)
    return params


def _check_like(name: str, first: Mapping[str, Array], params: Mapping[str, Array]) -> None:
    missing, extra = [key for key in first if key not in params], [key for key in params if key not in first]
    if missing or extra:
        raise ValueError(f"average_weights: {name} must have the first one's names, missing {missing}, extra {extra}")
    for key, array in first.items():
        if params[key].shape != array.shape:
            rule = f"must have shape {array.shape}"
            raise ValueError(f"average_weights: {name}[{key!r}] {rule}, got {params[key].shape}")
