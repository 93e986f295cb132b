"""What classifier and regressor share: arguments, validation, standardization, training, pickling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from stepsmith import _check, nn
from stepsmith.nn.buffer import Array
from stepsmith.schedules import Schedule
from stepsmith.sklearn._plan import Plan, hidden_sizes, optimizer_options
from stepsmith.train import History, Trainer

__all__ = ["Perceptron"]

_FLOATS = [np.float64, np.float32]


class Perceptron(BaseEstimator, ABC):  # type: ignore[misc]
    """A multilayer perceptron; `StepsmithClassifier` and `StepsmithRegressor` say what its outputs are.

    Attributes:
        trainer_: The `Trainer`, with model, optimizer and clock.
        scaler_: The fitted ``StandardScaler`` of the inputs, or None.
        n_features_in_: Columns of the inputs.
        feature_names_in_: Their names, where they were strings.
    """

    _y_rules: ClassVar[Mapping[str, bool]] = {}

    hidden_layer_sizes: int | Sequence[int]
    activation: str
    dropout: float
    batch_norm: bool
    optimizer: str
    learning_rate: float | Schedule | None
    weight_decay: float | None
    optimizer_params: Mapping[str, Any] | None
    batch_size: int
    max_epochs: int
    early_stopping: bool
    validation_fraction: float
    patience: int
    standardize: bool
    dtype: str
    random_state: int | np.random.RandomState | None
    warm_start: bool
    verbose: bool

    # What a subclass says.

    @abstractmethod
    def _learn_target(self, y: Array, classes: Any) -> None:
        """Remember what a fresh network must know of labels or targets."""

    @abstractmethod
    def _encoded(self, y: Array) -> Array:
        """Labels as numbers, or targets as columns."""

    @abstractmethod
    def _scaled_target(self, target: Array) -> Array:
        """The same as the loss takes them."""

    @abstractmethod
    def _outputs(self) -> int:
        """How many the network has."""

    @abstractmethod
    def _loss(self) -> str:
        """Its name in `nn.LOSSES`."""

    def _class_weight(self) -> str | dict[int, float] | None:
        """As `Trainer.fit` takes it."""
        return None

    def _strata(self, target: Array) -> Array | None:
        """What a validation part must have in the same shares."""
        return None

    # Training.

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for `max_epochs` epochs, from the start unless `warm_start`.

        Args:
            X: Array or data frame of shape (samples, features), numbers; sparse matrices are refused.
            y: Labels or targets.
            sample_weight: (samples,), at least 0: factors of the samples' losses. A batch's loss is its weighted mean.

        Returns:
            The estimator.

        Raises:
            TypeError, ValueError: Arguments of the wrong kind or out of range.
            NonFiniteError: The training diverged.
        """
        owner = type(self).__name__
        epochs = _check.integer(owner, "max_epochs", self.max_epochs, low=1)
        is_new = not (_check.boolean(owner, "warm_start", self.warm_start) and hasattr(self, "trainer_"))
        with self._kept_if_refused():
            data = self._data(X, y, sample_weight, is_new)
            train, held = self._split(data) if self._stops_early() else (data, None)
            if is_new:
                self._start(train)
        return self._train(train, held, epochs)

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> Self:
        if self._stops_early():
            raise ValueError(f"{type(self).__name__}: early_stopping must be False for partial_fit, got True")
        is_new = not hasattr(self, "trainer_")
        with self._kept_if_refused():
            data = self._data(X, y, sample_weight, is_new, classes)
            if is_new:
                self._start(data)
        if not is_new:
            self._update_scalers(data)
        return self._train(data, None, 1)

    @contextmanager
    def _kept_if_refused(self) -> Iterator[None]:
        """An error leaves what was learned before as it is: a network of its own labels, or none."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _data(self, X: Any, y: Any, sample_weight: Any, is_new: bool, classes: Any = None) -> list[Array]:
        """Inputs, targets, and weights where they are given, of the samples that count."""
        X, y = validate_data(self, X, y, dtype=self._dtypes(), reset=is_new, **self._y_rules)
        if is_new:
            self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            self._learn_target(y, classes)
        target = self._encoded(y)
        if sample_weight is None:
            return [X, target]
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        counts = weights > 0
        if not counts.any():
            raise ValueError(f"{type(self).__name__}: sample_weight must be above 0 somewhere, got zeros alone")
        return [X[counts], target[counts], weights[counts]]

    def _dtypes(self) -> Any:
        """Numbers are scaled before they lose digits."""
        return _FLOATS if self.standardize else self.dtype

    def _split(self, data: list[Array]) -> tuple[list[Array], list[Array]]:
        """Training and validation part; a warm start finds the same ones in the same data."""
        strata, size = self._strata(data[1]), self.validation_fraction
        parts = train_test_split(*data, test_size=size, random_state=self._seed, stratify=strata)
        return parts[::2], parts[1::2]

    def _start(self, data: list[Array]) -> None:
        """Fresh scalers and a fresh trainer."""
        owner = type(self).__name__
        name, options = optimizer_options(
            owner, self.optimizer, self.learning_rate, self.weight_decay, self.optimizer_params
        )
        self.scaler_ = StandardScaler() if _check.boolean(owner, "standardize", self.standardize) else None
        self._update_scalers(data)
        self._plan = Plan(
            owner,
            (self.n_features_in_, *hidden_sizes(owner, self.hidden_layer_sizes), self._outputs()),
            self.activation,
            self.dropout,
            self.batch_norm,
            self._loss(),
            name,
            options,
            self._patience(),
            self.dtype,
            self._seed,
        )
        self.trainer_ = self._plan.trainer()

    def _update_scalers(self, data: list[Array]) -> None:
        """Take samples into means and deviations."""
        if self.scaler_ is not None:
            self.scaler_.partial_fit(data[0], sample_weight=data[2] if len(data) > 2 else None)

    def _train(self, data: list[Array], held: list[Array] | None, epochs: int) -> Self:
        trainer = self.trainer_
        trainer.stopping = False
        # A warm start waits afresh, as long as it is told now.
        self._plan = replace(self._plan, patience=self._patience())
        trainer.callbacks = self._plan.callbacks()
        trainer.fit(
            self._scaled(data),
            None if held is None else self._scaled(held),
            trainer.clock.epoch + epochs,
            self._batch_size(len(data[0])),
            _check.boolean(type(self).__name__, "verbose", self.verbose),
            class_weight=self._class_weight(),
        )
        return self

    def _stops_early(self) -> bool:
        return _check.boolean(type(self).__name__, "early_stopping", self.early_stopping)

    def _patience(self) -> int | None:
        """Of early stopping; None for none."""
        return self.patience if self._stops_early() else None

    def _batch_size(self, samples: int) -> int:
        """All samples for L-BFGS; never one that leaves a single sample without batch statistics."""
        size = _check.integer(type(self).__name__, "batch_size", self.batch_size, low=1)
        if getattr(self.trainer_.optimizer, "takes_closure", False):
            return samples
        while self._plan.batch_norm and size < samples and samples % size == 1:
            size += 1
        return size

    def _scaled(self, data: list[Array]) -> tuple[Array, ...]:
        return self._scaled_inputs(data[0]), self._scaled_target(data[1]), *data[2:]

    def _scaled_inputs(self, X: Array) -> Array:
        scaler = self.scaler_
        # The scaler's own `transform` would validate again, which is slow for few rows.
        scaled = X if scaler is None else (X - scaler.mean_) / scaler.scale_
        return np.ascontiguousarray(scaled, self._plan.dtype)

    # Prediction.

    def _raw(self, X: Any) -> Array:
        """The network's outputs."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_FLOATS if self.scaler_ is not None else self._plan.dtype, reset=False)
        return self.trainer_.predict(self._scaled_inputs(X))

    @property
    def model_(self) -> nn.Module:
        """The network, without the scaling; an `AttributeError` before `fit`."""
        model = self._fitted_trainer().model
        assert isinstance(model, nn.Module)
        return model

    @property
    def history_(self) -> History:
        """One row an epoch; an `AttributeError` before `fit`."""
        return self._fitted_trainer().history

    def _fitted_trainer(self) -> Trainer:
        trainer: Trainer | None = self.__dict__.get("trainer_")
        if trainer is None:
            raise AttributeError(f"{type(self).__name__}: model_ and history_ must come after fit, got none yet")
        return trainer

    # Pickles hold arrays and numbers, no layers and no optimizers.

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        trainer = state.pop("trainer_", None)
        return state if trainer is None else {**state, "_trained": trainer.state_dict()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        rest = dict(state)
        trained = rest.pop("_trained", None)
        super().__setstate__(rest)
        if trained is not None:
            self.trainer_ = self._plan.trainer()
            self.trainer_.load_state_dict(trained)
