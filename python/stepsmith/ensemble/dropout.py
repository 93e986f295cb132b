"""Uncertainty from dropout."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from stepsmith import _check
from stepsmith._backend import device_of, moved, namespace, require_array
from stepsmith.nn import Dropout, Module
from stepsmith.nn.functional.softmax import softmax
from stepsmith.train.model import Array, brought
from stepsmith.train.trainer import Trainer

__all__ = ["Sampled", "mc_dropout"]


class Sampled(NamedTuple):
    """Mean and spread over samples, float64, where the rows were."""

    mean: Array
    """(rows, ...): of the probabilities, or of the outputs."""
    std: Array
    """Likewise: the samples' own deviation, divided by their number."""
    entropy: Array | None
    """(rows,): of the mean, -Σ p·log p in nats; None where it is of outputs."""


def mc_dropout(
    model: Module | Trainer,
    X: Array,
    samples: int = 20,
    seed: int = 0,
    batch_size: int = 1024,
    *,
    probabilities: bool = True,
) -> Sampled:
    """Predict several times under dropout: each mask is a model drawn from those that the weights stand for.

    Only `Dropout` layers are as in training. Parameters, running statistics and the counter stay as they are, and
    masks depend on (seed, number of the sample, row) alone, whatever `batch_size` is.

    Args:
        model: A module, or a trainer of one, with a `Dropout` layer.
        X: Rows along axis 0, at least one.
        samples: How often, at least 1.
        seed: In [0, 2^64).
        batch_size: Rows at once, at least 1.
        probabilities: Whether outputs are logits (rows, classes), whose softmax is taken; False for a regression.

    Raises:
        TypeError: Arguments of another kind.
        ValueError: Numbers out of range, no rows, or no layer that drops.

    Follows: Gal and Ghahramani 2016, Dropout as a Bayesian Approximation.

    Example:
        >>> model = ss.nn.Sequential(ss.nn.Linear(2, 16), ss.nn.Dropout(0.5), ss.nn.Linear(16, 3))
        >>> mean, std, entropy = mc_dropout(model, np.ones((4, 2), np.float32))
        >>> mean.shape, bool((std > 0).all()), bool((entropy < np.log(3)).all())
        ((4, 3), True, True)
    """
    owner = "mc_dropout"
    module = model.model if isinstance(model, Trainer) else model
    if not isinstance(module, Module):
        raise TypeError(f"{owner}: model must be a Module or a Trainer of one, got {type(module).__name__}")
    if require_array(owner, "X", X).ndim == 0 or len(X) == 0:
        raise ValueError(f"{owner}: X must have rows, got shape {X.shape}")
    count = _check.integer(owner, "samples", samples, low=1, high=2**32 - 1)
    seed = _check.integer(owner, "seed", seed, low=0, high=2**64 - 1)
    size = _check.integer(owner, "batch_size", batch_size, low=1)
    _check.boolean(owner, "probabilities", probabilities)
    with _dropping(module, seed):
        parts = [_part(module, X, start, size, count, probabilities) for start in range(0, len(X), size)]
    means, stds = (namespace(X).concatenate(values) for values in zip(*parts))
    return Sampled(means, stds, _entropy(means) if probabilities else None)


@contextmanager
def _dropping(module: Module, seed: int) -> Iterator[None]:
    """Dropout layers drop outside training too; then they and the counter are as before."""
    layers = [layer for _, layer in module.named_layers() if isinstance(layer, Dropout) and layer.p > 0.0]
    if not layers:
        raise ValueError("mc_dropout: model must have a Dropout layer with p above 0, got none")
    # So that layers share the counter and know their streams.
    module.prepare()
    counter, before = module.counter, copy.copy(module.counter)
    counter.seed = seed
    try:
        for layer in layers:
            layer.always = True
        yield
    finally:
        for layer in layers:
            layer.always = False
        counter.seed, counter.step, counter.sample = before.seed, before.step, before.sample


def _part(module: Module, X: Array, start: int, size: int, count: int, probabilities: bool) -> tuple[Array, Array]:
    """Mean and deviation of some rows."""
    counter, drawn, x = module.counter, [], brought(X[start : start + size], module.device)
    for step in range(1, count + 1):
        counter.step, counter.sample = step, start
        y = module(x)
        drawn.append((softmax(y, axis=1)[0] if probabilities else y).astype(np.float64))
    values = moved(namespace(x).stack(drawn), device_of(X))
    return values.mean(axis=0), values.std(axis=0)


def _entropy(p: Array) -> Array:
    xp = namespace(p)
    # Where p is 0 its logarithm counts as 0.
    logs = xp.log(xp.where(p > 0.0, p, 1.0))
    entropy: Array = -xp.add.reduce(p * logs, axis=1)
    return entropy
