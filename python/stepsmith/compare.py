"""Several models on the same folds: scores, a paired test, sizes and latencies."""

from __future__ import annotations

import importlib
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stepsmith import _check, _plot
from stepsmith._table import Table
from stepsmith.nn import Module

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Comparison", "ModelResult", "compare", "corrected_t_test"]

Array = npt.NDArray[Any]

_OWNER = "compare"


@dataclass(frozen=True)
class ModelResult:
    """A model's row.

    Attributes:
        name: Of the model.
        scores: One a fold.
        fit_seconds: Median over the folds.
        size: Bytes of the model fitted on all data: parameters and buffers of ours, else its pickle.
        latency: Median seconds to predict one row alone.
        batch_latency: Median seconds a row when all rows are predicted at once.
    """

    name: str
    scores: Array
    fit_seconds: float
    size: int
    latency: float
    batch_latency: float

    @cached_property
    def mean(self) -> float:
        """Of the scores."""
        return float(self.scores.mean())

    @cached_property
    def std(self) -> float:
        """Of the scores, over n - 1."""
        return float(self.scores.std(ddof=1))


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; ``print(comparison)`` shows the table.

    Attributes:
        rows: One a model, in the order given.
        scoring: What the scores are.
        test_ratio: Test samples over training samples of a fold, the mean.
    """

    rows: tuple[ModelResult, ...]
    scoring: str
    test_ratio: float

    def __getitem__(self, name: str) -> ModelResult:
        """The row of a model."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"Comparison: model must be one of {[row.name for row in self.rows]}, got {name!r}")

    def p_value(self, first: str, second: str) -> float:
        """How probable scores that differ this much are if two models are equally good: `corrected_t_test`.

        It is the value of one test: among many pairs some are small by chance.
        """
        return corrected_t_test(self[first].scores - self[second].scores, self.test_ratio)

    def __str__(self) -> str:
        """A line a model; p is that of its difference from the first model."""
        table = Table(["model", self.scoring, "p", "bytes", "fit s", "one row µs", "in batch µs"], "<>>>>>>")
        for row in self.rows:
            p = "" if row is self.rows[0] else self._p_text(row)
            latencies = f"{row.latency * 1e6:,.1f}", f"{row.batch_latency * 1e6:,.2f}"
            table.add(
                row.name, f"{row.mean:.4f} ± {row.std:.4f}", p, f"{row.size:,}", f"{row.fit_seconds:.3f}", *latencies
            )
        return str(table)

    def _p_text(self, row: ModelResult) -> str:
        """Against the first model; "nan" where a fold has no score, such as the R² of one sample."""
        first = self.rows[0]
        are_finite = np.isfinite(first.scores).all() and np.isfinite(row.scores).all()
        return f"{self.p_value(first.name, row.name):.3f}" if are_finite else "nan"

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the folds' scores of each model with their mean and deviation.

        Args:
            path: Where to save it, in the format of its suffix; None only returns the figure.

        Raises:
            ImportError: matplotlib is missing.
        """
        figure = _plot.figure("Comparison.plot", 7, 1 + 0.5 * len(self.rows))
        axes = figure.add_subplot(xlabel=self.scoring)
        for place, row in enumerate(self.rows):
            axes.plot(row.scores, np.full(len(row.scores), place), "o", color="tab:gray", alpha=0.5)
            axes.errorbar(row.mean, place, xerr=row.std, fmt="D", color="tab:blue", capsize=4)
        axes.set_yticks(range(len(self.rows)), [row.name for row in self.rows])
        axes.invert_yaxis()
        axes.grid(alpha=0.3, axis="x")
        if path is not None:
            figure.savefig(path)
        return figure


def compare(
    models: Mapping[str, Any],
    data: tuple[Any, Any],
    cv: Any = 5,
    scoring: str | Callable[..., float] = "accuracy",
    *,
    n_jobs: int | None = None,
    repeats: int = 20,
) -> Comparison:
    """Cross-validate models on the same folds, then fit each on all data for its size and latency.

    Args:
        models: Name to an estimator with scikit-learn's protocol; it is cloned, never fitted itself. The first one is
            what the table tests the others against.
        data: (X, y).
        cv: Number of folds (stratified for classifiers, not shuffled), or a splitter of scikit-learn, such as
            ``RepeatedStratifiedKFold``: more folds make the test sharper.
        scoring: Name of a scorer, or a function of (estimator, X, y).
        n_jobs: Folds at a time; latencies are always measured alone.
        repeats: Predictions that a latency is the median of.

    Raises:
        ImportError: scikit-learn or SciPy is missing.
        TypeError, ValueError: Arguments of another kind or out of range, or fewer than two folds.
        Exception: Whatever a model raises, with a note of its name.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.dummy import DummyClassifier
        >>> from sklearn.linear_model import LogisticRegression
        >>> models = {"dummy": DummyClassifier(), "logistic": LogisticRegression(max_iter=1000)}
        >>> comparison = ss.compare(models, load_iris(return_X_y=True))
        >>> comparison["logistic"].mean > 0.9, comparison.p_value("dummy", "logistic") < 0.01
        (True, True)
    """
    _require("scipy", "SciPy", "scipy")
    selection = _require("sklearn.model_selection", "scikit-learn", "sklearn")
    base = _require("sklearn.base", "scikit-learn", "sklearn")
    _check_arguments(models, data, scoring)
    _check.integer(_OWNER, "repeats", repeats, low=1)
    X, y = data
    first = next(iter(models.values()))
    # One list for all models: a splitter may shuffle anew at each call.
    folds = list(selection.check_cv(cv, y, classifier=base.is_classifier(first)).split(X, y))
    if len(folds) < 2:
        raise ValueError(f"{_OWNER}: cv must make at least 2 folds, got {len(folds)}")
    rows = []
    for name, model in models.items():
        with _named(name):
            found = selection.cross_validate(
                base.clone(model), X, y, cv=folds, scoring=scoring, n_jobs=n_jobs, error_score="raise"
            )
            whole = base.clone(model).fit(X, y)
            latency, batch = _seconds(whole.predict, X[:1], repeats), _seconds(whole.predict, X, repeats)
        fit_seconds = float(np.median(found["fit_time"]))
        rows.append(ModelResult(name, found["test_score"], fit_seconds, _size(whole), latency, batch / len(y)))
    ratio = float(np.mean([len(test) / len(train) for train, test in folds]))
    return Comparison(tuple(rows), scoring if isinstance(scoring, str) else "score", ratio)


def corrected_t_test(differences: Array, test_ratio: float) -> float:
    """Two-sided p-value of the corrected resampled t-test for scores of two models on the same folds.

    t = mean(d) / √((1/n + test_ratio)·var(d)) with n - 1 degrees of freedom; var over n - 1. Training parts of folds
    overlap, so that the plain paired test (`test_ratio` 0) finds differences where there are none; `test_ratio`, test
    samples over training samples, corrects for that.

    Args:
        differences: One number a fold, at least two.
        test_ratio: At least 0; 1 / (k - 1) for k folds.

    Raises:
        ImportError: SciPy is missing.
        TypeError: `test_ratio` is not a number.
        ValueError: Fewer than two differences, one that is not finite, or a negative ratio.

    Follows: Nadeau and Bengio 2003, Inference for the Generalization Error.

    Example:
        >>> round(corrected_t_test(np.array([0.01, 0.03, 0.02, 0.04, 0.0]), 0.25), 4)
        0.1324
    """
    stats = _require("scipy.stats", "SciPy", "scipy")
    d = np.asarray(differences, np.float64)
    ratio = _check.number("corrected_t_test", "test_ratio", test_ratio, low=0.0)
    if d.ndim != 1 or len(d) < 2 or not np.isfinite(d).all():
        raise ValueError(f"corrected_t_test: differences must be at least 2 finite numbers, got {differences!r}")
    mean, scale = float(d.mean()), math.sqrt((1 / len(d) + ratio) * float(d.var(ddof=1)))
    if scale == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    return float(2.0 * stats.t.sf(abs(mean) / scale, len(d) - 1))


@contextmanager
def _named(model: str) -> Iterator[None]:
    """Errors of a model say which one it is."""
    try:
        yield
    except Exception as error:
        error.add_note(f"{_OWNER}: it came from models[{model!r}]")
        raise


def _require(module: str, name: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{_OWNER} needs {name}: pip install 'stepsmith[{extra}]'") from error


def _check_arguments(models: object, data: object, scoring: object) -> None:
    if not isinstance(models, Mapping) or not models:
        raise TypeError(f"{_OWNER}: models must be a mapping with a model, got {models!r}")
    for name, model in models.items():
        if not isinstance(name, str) or not (hasattr(model, "fit") and hasattr(model, "predict")):
            raise TypeError(
                f"{_OWNER}: models[{name!r}] must be an estimator under a string, got {type(model).__name__}"
            )
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"{_OWNER}: data must be (X, y), got {type(data).__name__}")
    if not (isinstance(scoring, str) or callable(scoring)):
        raise TypeError(f"{_OWNER}: scoring must be one name or a function, got {scoring!r}")


def _size(estimator: Any) -> int:
    """Bytes; of pipelines and searches those of what they hold."""
    if hasattr(estimator, "best_estimator_"):
        return _size(estimator.best_estimator_)
    if hasattr(estimator, "named_steps"):
        return sum(_size(step) for _, step in estimator.steps)
    model = getattr(estimator, "model_", None)
    if isinstance(model, Module):
        return sum(array.nbytes for array in (model.parameters() | model.buffers()).values())
    return len(pickle.dumps(estimator))


def _seconds(predict: Callable[[Any], Any], X: Any, repeats: int) -> float:
    """Median time of a call, after one that warms up."""
    predict(X)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        predict(X)
        times.append(time.perf_counter() - started)
    return float(np.median(times))
