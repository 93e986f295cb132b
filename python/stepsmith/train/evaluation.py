"""Evaluation and prediction: passes over data that train nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stepsmith import _check
from stepsmith._backend import host_copy, is_on_gpu, namespace
from stepsmith.nn import Module
from stepsmith.train.clock import Clock
from stepsmith.train.freezing import statistics_of
from stepsmith.train.loader import Loader
from stepsmith.train.meter import Meter
from stepsmith.train.model import Array, Batch, Model, View, brought, device_of_model
from stepsmith.train.sources import Arrays, Source, Stream, check_arrays, open_source

__all__ = ["evaluate", "evaluate_source", "evaluation_source", "outputs", "predict", "update_statistics"]


def evaluate(view: View, data: Any, batch_size: int) -> dict[str, float]:
    """Means over all samples of what the view reports."""
    return evaluate_source(view, evaluation_source("data", data, view), batch_size)


def evaluation_source(argument: str, data: Any, view: View) -> Source:
    """Data to evaluate on, which can be read again and suit the model."""
    source = open_source(argument, data)
    if isinstance(source, Stream) and source.is_plain:
        raise TypeError(f"Trainer: {argument} must be something that can be read again, got a plain iterator")
    check_source(source, view)
    return source


def check_source(source: Source, view: View) -> None:
    """Raise unless the model and its loss take these arrays; other data show what they are when they are drawn."""
    if isinstance(source, Arrays):
        view.check(source.arrays)


def evaluate_source(view: View, source: Source, batch_size: int = 1024) -> dict[str, float]:
    """The same of a source that was checked."""
    meter = Meter()
    for batch in _batches(source, batch_size, view.device()):
        for name, (total, count) in view.sums(batch).items():
            meter.add(name, total, count)
    return meter.means()


def _batches(source: Source, batch_size: int, device: str) -> Iterator[Batch]:
    size = _check.integer("Trainer", "batch_size", batch_size, low=1)
    loader = Loader(source, size, shuffle=False, device=device)
    return (micro.batch for micro in loader.epoch(Clock()))


def predict(view: View, inputs: Array, batch_size: int, kind: str) -> Array:
    """Outputs for all rows, in a fresh array."""
    _check.integer("Trainer", "batch_size", batch_size, low=1)
    if view.predict is None:
        raise TypeError(f"Trainer: predict needs a model that has it, got {kind}")
    if not isinstance(inputs, np.ndarray) and not is_on_gpu(inputs):
        raise TypeError(f"Trainer: inputs must be a NumPy array, got {type(inputs).__name__}")
    check_arrays("inputs", (inputs,))
    return outputs(view.predict, inputs, batch_size, view.device())


def outputs(function: Callable[[Array], Array], inputs: Array, batch_size: int, device: str) -> Array:
    """What a function on a device gives for all rows, batch by batch, where the rows are; at least one row."""
    starts = range(0, len(inputs), batch_size)
    parts = (function(brought(inputs[start : start + batch_size], device)) for start in starts)
    # Copies, because a model hands out the same array each time.
    made = [part.copy() if is_on_gpu(inputs) else _on_host(part) for part in parts]
    found: Array = namespace(inputs).concatenate(made)
    return found


def _on_host(output: Any) -> Array:
    return host_copy(output) if is_on_gpu(output) else np.array(output)


def update_statistics(model: Model, data: Any, batch_size: int = 1024) -> None:
    """Measure running statistics anew, if not frozen: plain means over the batches of one pass in training mode.

    For a model whose weights were averaged, or loaded without statistics; as ``torch.optim.swa_utils.update_bn``.

    Args:
        model: An `nn.Module`.
        data: Inputs in a tuple, or data as `Trainer.fit` takes them.
        batch_size: Of the pass, at least 1; a last batch of one row has no statistics and is an error.

    Raises:
        TypeError, ValueError: Arguments of the wrong kind, or out of range.

    Example:
        >>> model = ss.nn.Sequential(ss.nn.BatchNorm(1))
        >>> update_statistics(model, (np.array([[1.0], [3.0]], np.float32),))
        >>> model.buffers()["0.running_mean"].tolist()
        [2.0]
    """
    if not isinstance(model, Module):
        raise TypeError(f"Trainer: data must be None for a model that is no nn.Module, got {type(model).__name__}")
    layers = [layer for layer in statistics_of(model).values() if not layer.frozen]
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None
        for batch in _batches(open_source("data", data), batch_size, device_of_model(model)):
            model(batch[0], True)
    finally:
        for layer, momentum in zip(layers, momenta):
            layer.momentum = momentum
