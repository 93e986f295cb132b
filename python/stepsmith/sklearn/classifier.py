"""The classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import column_or_1d

from stepsmith.nn import CrossEntropy, functional
from stepsmith.nn.buffer import Array
from stepsmith.schedules import Schedule
from stepsmith.sklearn.base import Perceptron

__all__ = ["StepsmithClassifier"]


class StepsmithClassifier(ClassifierMixin, Perceptron):  # type: ignore[misc]
    """A multilayer perceptron for labels: linear layers, softmax, cross entropy.

    It computes in `dtype` whatever comes in, and is the same for the same `random_state`, data and BLAS. One network
    uses all threads of the BLAS; beside ``n_jobs`` scikit-learn's workers share the cores by themselves
    (``threadpoolctl.threadpool_limits`` or OMP_NUM_THREADS set another number).

    Args:
        hidden_layer_sizes: Units of each hidden layer; ``()`` makes logistic regression.
        activation: "relu", "tanh", "gelu" or another of `stepsmith.nn`, by its PyTorch name.
        dropout: Chance that a hidden unit is dropped in training, in [0, 1).
        batch_norm: Whether hidden layers are normalized over the batch, before their activation.
        optimizer: A name in `optim.REGISTRY` but "muon"; "lbfgs" sees all samples in each step, which is an epoch then.
        learning_rate: A number, or a schedule over the steps; None for the optimizer's own default.
        weight_decay: A number; None for the optimizer's own default.
        optimizer_params: Its further arguments, such as ``{"momentum": 0.9}``.
        batch_size: Samples a step.
        max_epochs: Passes over the data of a `fit`.
        early_stopping: Whether to hold a stratified part of the data out, stop when its loss has not fallen for
            `patience` epochs, and go back to the best epoch.
        validation_fraction: That part, as scikit-learn's ``test_size``.
        patience: Epochs.
        class_weight: Label to factor of its samples' losses, 1 where there is none, or "balanced".
        standardize: Whether inputs become (x - mean) / deviation, from the (weighted) training samples. `partial_fit`
            takes each batch into them.
        dtype: "float32" or "float64".
        random_state: Of parameters, order, dropout and the validation part.
        warm_start: Whether `fit` goes on where the last one ended, with its network, optimizer and scaling.
        verbose: Whether to show progress.

    Attributes:
        classes_: The labels, sorted.
        trainer_, scaler_, n_features_in_, feature_names_in_: See `Perceptron`.
        model_, history_: The network, and a row an epoch.

    Follows: ``sklearn.neural_network.MLPClassifier``.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> classifier = StepsmithClassifier(random_state=0).fit(X, y)
        >>> classifier.score(X, y) > 0.95, classifier.predict_proba(X[:2]).shape
        (True, (2, 3))
    """

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
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
        class_weight: str | Mapping[Any, float] | None = None,
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
        self.class_weight = class_weight

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """One epoch over these samples, going on where the last call ended.

        Args:
            X: As of `fit`.
            y: As of `fit`.
            classes: All labels that will ever come, in the first call; later None or the same.
            sample_weight: As of `fit`.

        Returns:
            The estimator.

        Raises:
            TypeError, ValueError: Arguments of the wrong kind or out of range, or a label that `classes` has not.
        """
        owner = type(self).__name__
        if isinstance(self.class_weight, str):
            rule = "must be None or a mapping for partial_fit, which does not see all labels"
            raise ValueError(f"{owner}: class_weight {rule}, got {self.class_weight!r}")
        if not hasattr(self, "trainer_"):
            if classes is None:
                raise ValueError(f"{owner}: classes must be given in the first call of partial_fit, got None")
        elif classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
            raise ValueError(f"{owner}: classes must stay {self.classes_}, got {classes!r}")
        return self._partial_fit(X, y, sample_weight, classes)

    def decision_function(self, X: Any) -> Array:
        """The network's outputs: (samples, classes), or for two classes (samples,), above 0 for the second one."""
        outputs = self._raw(X)
        return outputs[:, 1] - outputs[:, 0] if len(self.classes_) == 2 else outputs

    def predict(self, X: Any) -> Array:
        """The most probable label of each sample."""
        codes = self._raw(X).argmax(axis=1)
        labels: Array = self.classes_[codes]
        return labels

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (samples, classes), the columns in the order of `classes_`."""
        return functional.softmax(self._raw(X))[0]

    def predict_log_proba(self, X: Any) -> Array:
        """Their logarithms, which do not underflow."""
        return functional.log_softmax(self._raw(X))[0]

    def _learn_target(self, y: Array, classes: Any) -> None:
        check_classification_targets(y)
        self.classes_ = unique_labels(y if classes is None else classes)

    def _encoded(self, y: Array) -> Array:
        check_classification_targets(y)
        encoder = LabelEncoder()
        encoder.classes_ = self.classes_
        return np.asarray(encoder.transform(column_or_1d(y, warn=True)), np.int64)

    def _scaled_target(self, target: Array) -> Array:
        return target

    def _strata(self, target: Array) -> Array:
        return target

    def _outputs(self) -> int:
        return len(self.classes_)

    def _loss(self) -> str:
        return CrossEntropy.name

    def _class_weight(self) -> str | dict[int, float] | None:
        given = self.class_weight
        if not isinstance(given, Mapping):
            return given
        codes = {label: code for code, label in enumerate(self.classes_.tolist())}
        unknown = [label for label in given if label not in codes]
        if unknown:
            raise ValueError(f"{type(self).__name__}: class_weight must have labels of {list(codes)}, got {unknown}")
        return {codes[label]: weight for label, weight in given.items()}
