"""What a model is made of: layers, shapes, parameters, bytes and floating-point operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stepsmith import _check
from stepsmith._backend import is_on_gpu, moved
from stepsmith._table import Table
from stepsmith.nn.buffer import Array

if TYPE_CHECKING:
    from stepsmith.nn.base import Module

__all__ = ["LayerRow", "Summary", "summarize"]

# One has no batch statistics.
_SAMPLES = 2


@dataclass
class LayerRow:
    """A layer of a summary.

    Attributes:
        name: Of its place in the model, as in its parameters' names.
        type: Its class.
        output_shape: Of a sample; None if the pass did not reach it.
        parameters: Their elements.
        nbytes: Bytes of the parameters.
        buffer_nbytes: Bytes of what else belongs to it, such as running statistics.
        flops: Multiplications and additions of the products of a sample.
    """

    name: str
    type: str
    output_shape: tuple[int, ...] | None = None
    parameters: int = 0
    nbytes: int = 0
    buffer_nbytes: int = 0
    flops: int = 0


@dataclass
class Summary:
    """A row for each layer, and totals; `str` makes a table of it.

    Attributes:
        rows: In depth-first order.
        total: The sums over the rows.
        trainable: Elements of the parameters that have a gradient.
    """

    rows: list[LayerRow] = field(default_factory=list)
    trainable: int = 0

    @property
    def total(self) -> LayerRow:
        """The sums over the rows."""
        names = "parameters", "nbytes", "buffer_nbytes", "flops"
        return LayerRow("total", "", **{name: sum(getattr(row, name) for row in self.rows) for name in names})

    def __str__(self) -> str:
        """The table, the totals, and how many parameters train."""
        table = Table(("layer", "type", "output", "parameters", "bytes", "buffers", "FLOPs"), "<<<>>>>")
        for row in [*self.rows, self.total]:
            shape = "" if row.output_shape is None else str(row.output_shape)
            numbers = row.parameters, row.nbytes, row.buffer_nbytes, row.flops
            table.add(row.name, row.type, shape, *(f"{number:,}" for number in numbers))
        return f"{table}\ntrainable: {self.trainable:,} of {self.total.parameters:,} parameters"


def summarize(model: Module, inputs: Sequence[int] | Array, dtype: npt.DTypeLike = np.float32) -> Summary:
    """See `Module.summary`."""
    x = _example(inputs, dtype, model.device)
    model.gradients()
    params, layers = model.parameters(), list(model.named_layers())
    rows = [_row(prefix, layer, params) for prefix, layer in layers]
    with _watched([(layer, _watcher(row, layer, len(x))) for row, (_, layer) in zip(rows, layers, strict=True)]):
        model(x)
    return Summary(rows, sum(params[name].size for name in model.gradients()))


def _example(inputs: Any, dtype: npt.DTypeLike, device: str) -> Array:
    """A batch: the given one, or zeros on the device."""
    if isinstance(inputs, np.ndarray) or is_on_gpu(inputs):
        if inputs.ndim == 0 or len(inputs) == 0:
            raise ValueError(f"summary: inputs must be a batch of samples, got an array of shape {inputs.shape}")
        batch: Array = inputs
        return batch
    if not isinstance(inputs, tuple | list):
        raise TypeError(f"summary: inputs must be a sample's shape or an array, got {inputs!r}")
    shape = [_check.integer("summary", f"inputs[{axis}]", length, low=1) for axis, length in enumerate(inputs)]
    return moved(np.zeros((_SAMPLES, *shape), dtype), device)


def _row(prefix: str, layer: Module, params: dict[str, Array]) -> LayerRow:
    own = [params[prefix + name] for name in layer.params]
    row = LayerRow(prefix.removesuffix("."), type(layer).__name__)
    row.parameters, row.nbytes = sum(param.size for param in own), sum(param.nbytes for param in own)
    row.buffer_nbytes = sum(array.nbytes for array in layer.state.values())
    return row


def _watcher(row: LayerRow, layer: Module, samples: int) -> Callable[..., Array]:
    """The layer's forward pass, noted down."""
    forward = layer.forward

    def watched(x: Array, training: bool = False) -> Array:
        y = forward(x, training)
        row.output_shape = y.shape[1:]
        row.flops += layer.flops(x.shape, y.shape) // samples
        return y

    return watched


@contextmanager
def _watched(layers: list[tuple[Module, Callable[..., Array]]]) -> Iterator[None]:
    """The layers with other forward passes, and as they were afterwards."""
    before = [(layer, layer.__dict__.get("forward")) for layer, _ in layers]
    try:
        for layer, watcher in layers:
            layer.__dict__["forward"] = watcher
        yield
    finally:
        for layer, own in before:
            layer.__dict__.pop("forward", None)
            if own is not None:
                layer.__dict__["forward"] = own
