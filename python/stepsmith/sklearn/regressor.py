"""The regressor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.preprocessing import StandardScaler

from stepsmith import _check
from stepsmith.nn import Huber, MeanAbsoluteError, MeanSquaredError, SmoothL1
from stepsmith.nn.buffer import Array
from stepsmith.schedules import Schedule
from stepsmith.sklearn.base import Perceptron

__all__ = ["StepsmithRegressor"]

_LOSSES = sorted(loss.name for loss in (Huber, MeanAbsoluteError, MeanSquaredError, SmoothL1))


class StepsmithRegressor(RegressorMixin, Perceptron):  # type: ignore[misc]
    """A multilayer perceptron for one target or several: linear layers, squared error.

    Computation, threads and `random_state` are as of `StepsmithClassifier`.

    Args:
        hidden_layer_sizes: Units of each hidden layer; ``()`` makes linear regression.
        activation: "relu", "tanh", "gelu" or another of `stepsmith.nn`, by its PyTorch name.
        loss: "mse", "l1", "huber" or "smooth_l1", between outputs and standardized targets.
        dropout: Chance that a hidden unit is dropped in training, in [0, 1).
        batch_norm: Whether hidden layers are normalized over the batch, before their activation.
        optimizer: A name in `optim.REGISTRY` but "muon"; "lbfgs" sees all samples in each step, which is an epoch then.
        learning_rate: A number, or a schedule over the steps; None for the optimizer's own default.
        weight_decay: A number; None for the optimizer's own default.
        optimizer_params: Its further arguments, such as ``{"momentum": 0.9}``.
        batch_size: Samples a step.
        max_epochs: Passes over the data of a `fit`.
        early_stopping: Whether to hold a part of the data out, stop when its loss has not fallen for
            `patience` epochs, and go back to the best epoch.
        validation_fraction: That part, as scikit-learn's ``test_size``.
        patience: Epochs.
        standardize: Whether inputs and targets become (x - mean) / deviation, from the (weighted) training samples;
            predictions are scaled back. `partial_fit`
            takes each batch into them.
        dtype: "float32" or "float64".
        random_state: Of parameters, order, dropout and the validation part.
        warm_start: Whether `fit` goes on where the last one ended, with its network, optimizer and scaling.
        verbose: Whether to show progress.

    Attributes:
        target_scaler_: The fitted ``StandardScaler`` of the targets, or None.
        trainer_, scaler_, n_features_in_, feature_names_in_: See `Perceptron`.
        model_, history_: The network, and a row an epoch.

    Follows: ``sklearn.neural_network.MLPRegressor``.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> regressor = StepsmithRegressor(max_epochs=20, random_state=0).fit(X, y)
        >>> regressor.score(X, y) > 0.5, regressor.predict(X[:2]).shape
        (True, (2,))
    """

    _y_rules: ClassVar[Mapping[str, bool]] = {"y_numeric": True, "multi_output": True}

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        loss: str = "mse",
        dropout: float = 0.0,
        batch_norm: bool = False,
        optimizer: str = "adamw",
        learning_rate: float | Schedule | None = None,
        weight_decay: float | None = None,
        optimizer_params: Mapping[str, Any] | None = None,
        batch_size: int = 32,
        max_epochs: int = 100,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        standardize: bool = True,
        dtype: str = "float32",
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.optimizer_params = optimizer_params
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.standardize = standardize
        self.dtype = dtype
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.loss = loss

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """One epoch over these samples, going on where the last call ended; arguments as of `fit`."""
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: Any) -> Array:
        """Targets of the shape that `fit` saw, of the network's dtype."""
        outputs, scaler = self._raw(X), self.target_scaler_
        if scaler is not None:
            outputs = (outputs * scaler.scale_ + scaler.mean_).astype(outputs.dtype)
        return outputs if self._has_columns else outputs[:, 0]

    def _learn_target(self, y: Array, classes: Any) -> None:
        self._has_columns = y.ndim == 2
        self._columns = y.shape[1] if self._has_columns else 1

    def _encoded(self, y: Array) -> Array:
        target = np.asarray(y, np.float64).reshape(len(y), -1)
        if target.shape[1] != self._columns:
            raise ValueError(f"{type(self).__name__}: y must have {self._columns} columns, got {target.shape[1]}")
        return target

    def _start(self, data: list[Array]) -> None:
        self.target_scaler_ = StandardScaler() if self.standardize else None
        super()._start(data)

    def _update_scalers(self, data: list[Array]) -> None:
        super()._update_scalers(data)
        if self.target_scaler_ is not None:
            self.target_scaler_.partial_fit(data[1], sample_weight=data[2] if len(data) > 2 else None)

    def _scaled_target(self, target: Array) -> Array:
        scaler = self.target_scaler_
        scaled = target if scaler is None else (target - scaler.mean_) / scaler.scale_
        return np.ascontiguousarray(scaled, self._plan.dtype)

    def _outputs(self) -> int:
        return self._columns

    def _loss(self) -> str:
        return _check.one_of(type(self).__name__, "loss", self.loss, _LOSSES)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
