"""What an estimator trains: the network, its optimizer and its trainer, built from plain values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stepsmith import _check, init, nn, optim
from stepsmith.schedules import Schedule
from stepsmith.train import Callback, EarlyStopping, Trainer

__all__ = ["Plan", "hidden_sizes", "optimizer_options"]

# With the initializers that keep their signals' size.
_HE = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}
_XAVIER = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "softsign": nn.Softsign, "hardtanh": nn.Hardtanh}
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {**_HE, **_XAVIER}

# A network has vectors too, which Muon refuses.
_OPTIMIZERS = sorted(optim.REGISTRY.keys() - {optim.Muon.name})

# A full step of L-BFGS is too long at a network's first updates.
_DEFAULTS: dict[str, dict[str, Any]] = {optim.LBFGS.name: {"line_search_fn": "strong_wolfe"}}


@dataclass(frozen=True)
class Plan:
    """Everything that a trainer is built from, so that one that was pickled as arrays and numbers can be built again.

    Attributes:
        owner: Class of the estimator, for messages.
        sizes: Lengths of the inputs, the hidden layers and the outputs.
        activation: Name of the hidden layers' activation.
        dropout: Chance that a hidden unit is dropped.
        batch_norm: Whether hidden layers are normalized over the batch.
        loss: Name in `nn.LOSSES`.
        optimizer: Name in `optim.REGISTRY`.
        options: Its arguments.
        patience: Of early stopping; None for none.
        dtype: Of the parameters.
        seed: Of parameters, order and dropout.
    """

    owner: str
    sizes: tuple[int, ...]
    activation: str
    dropout: float
    batch_norm: bool
    loss: str
    optimizer: str
    options: Mapping[str, Any]
    patience: int | None
    dtype: str
    seed: int

    def __post_init__(self) -> None:
        _check.one_of(self.owner, "activation", self.activation, sorted(_ACTIVATIONS))
        _check.number(self.owner, "dropout", self.dropout, low=0.0, high=1.0, open_high=True)
        _check.boolean(self.owner, "batch_norm", self.batch_norm)
        _check.one_of(self.owner, "dtype", self.dtype, ["float32", "float64"])

    def trainer(self) -> Trainer:
        """A fresh one."""
        model = nn.Sequential(*self._layers(), seed=self.seed)
        optimizer: Any = optim.REGISTRY[self.optimizer](model.parameters(), **self.options)
        return Trainer(model, self.loss, optimizer=optimizer, seed=self.seed, callbacks=self.callbacks())

    def callbacks(self) -> tuple[Callback, ...]:
        """Fresh ones."""
        return () if self.patience is None else (EarlyStopping(self.patience),)

    def _layers(self) -> Iterator[nn.Module]:
        activation = _ACTIVATIONS[self.activation]
        initializer = init.kaiming_uniform if self.activation in _HE else init.xavier_uniform
        for before, size in zip(self.sizes, self.sizes[1:-1]):
            yield nn.Linear(before, size, init=initializer, dtype=self.dtype)
            if self.batch_norm:
                yield nn.BatchNorm(size, dtype=self.dtype)
            yield activation()
            if self.dropout:
                yield nn.Dropout(self.dropout)
        yield nn.Linear(self.sizes[-2], self.sizes[-1], dtype=self.dtype)


def hidden_sizes(owner: str, given: object) -> tuple[int, ...]:
    """The argument `hidden_layer_sizes`, an integer or several."""
    several = given if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    return tuple(_check.integer(owner, "hidden_layer_sizes", size, low=1) for size in several)


def optimizer_options(
    owner: str, name: object, lr: float | Schedule | None, weight_decay: float | None, more: Mapping[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """Name and arguments of the optimizer; None leaves it its own default.

    Raises:
        TypeError, ValueError: An unknown optimizer, or an argument that it has not.
    """
    found = _check.one_of(owner, "optimizer", name, _OPTIMIZERS)
    if not isinstance(more, Mapping | None):
        raise TypeError(f"{owner}: optimizer_params must be a mapping or None, got {more!r}")
    given = {key: value for key, value in (("lr", lr), ("weight_decay", weight_decay)) if value is not None}
    known = inspect.signature(optim.REGISTRY[found]).parameters
    if weight_decay is not None and "weight_decay" not in known:
        raise ValueError(f"{owner}: weight_decay must be None for {found}, got {weight_decay!r}")
    return found, {**_DEFAULTS.get(found, {}), **given, **(more or {})}
