"""Models of a config: layers in a row, sizes found by a pass of two samples, and presets."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from stepsmith import nn
from stepsmith.config.builder import MISSING, Builder
from stepsmith.config.catalogs import CATALOGS, Catalog
from stepsmith.config.parameters import Parameter
from stepsmith.config.problems import ConfigError, placed
from stepsmith.nn.buffer import Array

__all__ = ["Precision", "build_model"]

Tables = list[dict[str, Any]]

# Axis of a batch whose length is an argument that is left out.
_AXES = {"in_features": -1, "in_channels": 1, "channels": 1, "normalized_shape": -1, "length": 1, "features": -1}
_OTHER_AXES = {("BatchNorm", "features"): 1, ("Embedding", "features"): None}


class _Layers(Builder):
    """Builds layers one after another, each for the output of the one before.

    Args:
        x: The input of the first one.
        dtype: Of the parameters.
        outputs: What the last one gives if it does not say.
    """

    def __init__(self, x: Array, dtype: np.dtype[Any], outputs: int | None = None) -> None:
        self.x, self.dtype, self.outputs = x, dtype, outputs
        self.is_last = False

    def sequence(self, path: str, tables: Sequence[Any]) -> list[nn.Module]:
        layers = []
        for index, table in enumerate(tables):
            self.is_last = index == len(tables) - 1
            layers.append(self.layer(f"{path}[{index}]", table))
        return layers

    def layer(self, path: str, table: Any) -> nn.Module:
        if not isinstance(table, dict):
            raise ConfigError(f"{path} must be a table of a layer, got {table!r}")
        inner = _Layers(self.x, self.dtype)
        inner.is_last, inner.outputs = self.is_last, self.outputs
        layer: nn.Module = inner.build(path, table, CATALOGS["layer"], fixed={"dtype": self.dtype})
        with placed(path):
            # A copy, because a pass draws the parameters, and these are the whole model's to draw.
            self.x = np.array(copy.deepcopy(layer)(self.x))
        return layer

    def nested(self, what: str, path: str, table: Any) -> Any:
        """A layer for the same input, or what any builder knows."""
        return self.layer(path, table) if what == "layer" else super().nested(what, path, table)

    def missing(self, function: Callable[..., Any], name: str, parameter: Parameter) -> Any:
        if name == "out_features" and self.is_last and self.outputs is not None:
            return self.outputs
        axis = _OTHER_AXES.get((function.__name__, name), _AXES.get(name))
        if axis is None or not parameter.is_required or not -self.x.ndim <= axis < self.x.ndim:
            return MISSING
        return self.x.shape[axis]


def mlp(
    hidden: Sequence[int] = (128,), activation: str = "ReLU", batch_norm: bool = False, dropout: float = 0.0
) -> Tables:
    """Linear layers.

    Args:
        hidden: Outputs of each but the last.
        activation: Name of the layer after each of them.
        batch_norm: Whether a `BatchNorm` stands before it.
        dropout: p of the `Dropout` after it; 0 for none.
    """
    return [{"type": "Flatten"}, *_dense(hidden, activation, batch_norm, dropout), {"type": "Linear"}]


def cnn(
    channels: Sequence[int] = (16, 32),
    kernel_size: int = 3,
    hidden: Sequence[int] = (64,),
    activation: str = "ReLU",
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> Tables:
    """Convolutions that keep the planes' size, each followed by a pool that halves it, then linear layers.

    Args:
        channels: Outputs of each convolution.
        kernel_size: Of each, odd.
        hidden: Outputs of each linear layer but the last.
        activation: Name of the layer after each of both.
        batch_norm: Whether a `BatchNorm` stands before it.
        dropout: p of the `Dropout` after each linear layer but the last; 0 for none.
    """
    if kernel_size % 2 == 0:
        raise ValueError(f"cnn: kernel_size must be odd, got {kernel_size}")
    tables: Tables = []
    for count in channels:
        padded = {"kernel_size": kernel_size, "padding": kernel_size // 2}
        tables += [{"type": "Conv2d", "out_channels": count, **padded}]
        tables += [*_after(activation, batch_norm), {"type": "MaxPool2d", "kernel_size": 2}]
    return [*tables, {"type": "Flatten"}, *_dense(hidden, activation, batch_norm, dropout), {"type": "Linear"}]


def _dense(hidden: Sequence[int], activation: str, batch_norm: bool, dropout: float) -> Tables:
    tables: Tables = []
    for count in hidden:
        tables += [{"type": "Linear", "out_features": count}, *_after(activation, batch_norm)]
        tables += [{"type": "Dropout", "p": dropout}] if dropout else []
    return tables


def _after(activation: str, batch_norm: bool) -> Tables:
    return [*([{"type": "BatchNorm"}] if batch_norm else []), {"type": activation}]


_PRESETS: Catalog = {"mlp": mlp, "cnn": cnn}
Precision = Literal["float32", "float64", "bfloat16", "float16"]


def build_model(table: Mapping[str, Any], batch: Array, outputs: int, precision: Precision, seed: int) -> nn.Module:
    """The model that a table describes.

    Args:
        table: "type" is a preset; without it "layers" is a list of tables of layers.
        batch: Two samples' inputs.
        outputs: What the last layer gives, if it does not say.
        precision: Of parameters and gradients; of 16 bits in a `nn.MixedPrecision`.
        seed: Of the parameters.

    Raises:
        ConfigError: Unknown keys, bad values, or layers that do not go together.
    """
    tables = _tables(table)
    dtype = np.dtype("float64" if precision == "float64" else "float32")
    model = nn.Sequential(*_Layers(batch, dtype, outputs).sequence("model.layers", tables), seed=seed)
    return nn.MixedPrecision(model, precision) if precision in ("bfloat16", "float16") else model


def _tables(table: Mapping[str, Any]) -> Sequence[Any]:
    """The layers' tables."""
    if "layers" not in table:
        if "type" not in table:
            raise ConfigError(f"model.layers must be given, or model.type: one of {', '.join(_PRESETS)}")
        tables: Tables = Builder().build("model", table, _PRESETS)
        return tables
    found = table["layers"]
    for name in table:
        if name != "layers":
            raise ConfigError(f"model.{name} must be left out beside model.layers")
    if not isinstance(found, list) or not found:
        raise ConfigError(f"model.layers must be a list of tables, got {found!r}")
    return found
