"""Models side by side: the same folds, the paired test, sizes and latencies."""

import math
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_diabetes, load_iris
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, RepeatedStratifiedKFold, ShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import stepsmith as ss
from helpers import environ
from stepsmith.compare import Comparison, ModelResult, corrected_t_test

IRIS = load_iris(return_X_y=True)
OURS = ss.sklearn.StepsmithClassifier((8,), learning_rate=0.02, max_epochs=5, random_state=0)


class Recording(ClassifierMixin, BaseEstimator):
    """Knows the rows of each of its fits."""

    def __init__(self, log: list) -> None:
        self.log = log

    def __sklearn_clone__(self) -> "Recording":
        return Recording(self.log)

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.log.append(X[:, 0].tolist())
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def test_scores_are_cross_validation_s_in_the_order_given() -> None:
    models = {"dummy": DummyClassifier(), "ours": OURS}
    found = ss.compare(models, IRIS, cv=3, repeats=1)
    assert [row.name for row in found.rows] == ["dummy", "ours"]
    for name, model in models.items():
        want = cross_val_score(model, *IRIS, cv=3)
        assert (found[name].scores == want).all()
        assert found[name].mean == pytest.approx(want.mean())
        assert found[name].std == pytest.approx(want.std(ddof=1))
    assert found.test_ratio == pytest.approx(0.5)
    assert not hasattr(OURS, "trainer_")


def test_all_models_see_the_same_folds_even_of_a_splitter_that_shuffles_anew() -> None:
    logs: list[list] = [[], []]
    models = {str(i): Recording(log) for i, log in enumerate(logs)}
    X = np.arange(60.0).reshape(30, 2)
    ss.compare(models, (X, np.arange(30) % 2), cv=KFold(3, shuffle=True), repeats=1)
    assert len(logs[0]) == 4
    assert logs[0] == logs[1]
    assert logs[0][0] != sorted(logs[0][1])


def test_p_values_are_of_the_differences() -> None:
    cv = RepeatedStratifiedKFold(n_splits=5, n_repeats=2, random_state=0)
    models = {"dummy": DummyClassifier(), "logistic": LogisticRegression(max_iter=500), "ours": OURS}
    found = ss.compare(models, IRIS, cv=cv, repeats=1)
    d = found["logistic"].scores - found["ours"].scores
    t = d.mean() / math.sqrt((1 / 10 + 30 / 120) * d.var(ddof=1))
    assert found.p_value("logistic", "ours") == pytest.approx(2 * stats.t.cdf(-abs(t), 9))
    assert found.p_value("ours", "logistic") == found.p_value("logistic", "ours")
    assert found.p_value("dummy", "logistic") < 1e-4
    assert found.p_value("ours", "ours") == 1.0


def test_the_test_by_hand_and_as_the_plain_paired_one() -> None:
    # mean 2, variance 2.5; t = 2 / sqrt((0.2 + 0.25)·2.5) = 1.885618 at 4 degrees; its tail from the closed form.
    d = np.array([1.0, 3.0, 2.0, 4.0, 0.0])
    t = 2 / math.sqrt(1.125)
    x = t / math.sqrt(4 + t * t)
    assert corrected_t_test(d, 0.25) == pytest.approx(1 - x * (1 + (1 - x * x) / 2), rel=1e-12)
    plain = stats.ttest_rel(d, np.zeros(5)).pvalue
    assert corrected_t_test(d, 0.0) == pytest.approx(plain, rel=1e-12)
    assert corrected_t_test(d, 0.25) > plain
    assert (corrected_t_test(np.zeros(3), 0.5), corrected_t_test(np.ones(3), 0.5)) == (1.0, 0.0)


def test_sizes_are_of_parameters_or_pickles() -> None:
    models = {
        "ours": OURS,
        "normed": ss.sklearn.StepsmithClassifier((8,), batch_norm=True, max_epochs=1, dtype="float64", random_state=0),
        "pipeline": make_pipeline(StandardScaler(), OURS),
        "search": GridSearchCV(OURS, {"dropout": [0.1]}, cv=2),
        "theirs": DummyClassifier(),
    }
    found = ss.compare(models, IRIS, cv=2, repeats=1)
    own = 4 * (4 * 8 + 8 + 8 * 3 + 3)
    assert found["ours"].size == found["search"].size == own
    assert found["normed"].size == 2 * own + 4 * 8 * 8 + 8
    assert found["pipeline"].size == own + len(pickle.dumps(StandardScaler().fit(IRIS[0])))
    assert found["theirs"].size == len(pickle.dumps(DummyClassifier().fit(*IRIS)))


class Counting(Recording):
    """Knows the rows of each of its predictions, and is its own clone."""

    def __sklearn_clone__(self) -> "Counting":
        return self

    def predict(self, X):
        self.log.append(len(X))
        return super().predict(X)


def test_latencies_are_medians_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(float(2**i) for i in range(12))
    # The attribute of that name is the function.
    monkeypatch.setattr(sys.modules["stepsmith.compare"], "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    model = Counting([])
    found = ss.compare({"a": model}, IRIS, cv=2, scoring=lambda _model, _X, _y: 0.5, repeats=3)
    assert [entry for entry in model.log if isinstance(entry, int)] == [1] * 4 + [150] * 4
    assert found.scoring == "score"
    assert (found["a"].latency, found["a"].batch_latency) == (4.0, 256 / 150)


def test_regressors() -> None:
    models = {"mean": DummyRegressor(), "linear": LinearRegression()}
    cv = ShuffleSplit(4, test_size=0.25, random_state=0)
    found = ss.compare(models, load_diabetes(return_X_y=True), cv=cv, scoring="r2", repeats=1)
    assert found["linear"].mean > 0.3
    assert found.test_ratio == pytest.approx(111 / 331)


def rows() -> Comparison:
    first = ModelResult("net", np.array([0.9, 1.0]), 0.5, 1234, 2e-4, 1.5e-6)
    return Comparison((first, ModelResult("tree", np.array([0.8, 0.7]), 0.25, 56789, 1e-3, 2e-6)), "accuracy", 1.0)


def test_the_table() -> None:
    p = f"{rows().p_value('net', 'tree'):.3f}"
    assert str(rows()).splitlines() == [
        "model         accuracy      p   bytes  fit s  one row µs  in batch µs",
        "net    0.9500 ± 0.0707          1,234  0.500       200.0         1.50",
        f"tree   0.7500 ± 0.0707  {p}  56,789  0.250     1,000.0         2.00",
    ]


def test_a_fold_without_a_score_does_not_cost_the_table() -> None:
    whole, lost = rows().rows
    lost = ModelResult("tree", np.array([0.8, math.nan]), 0.25, 56789, 1e-3, 2e-6)
    for pair in ((whole, lost), (lost, whole)):
        assert str(Comparison(pair, "r2", 1.0)).splitlines()[2].split()[4] == "nan"


def test_an_error_names_its_model() -> None:
    models = {"fine": DummyClassifier(), "torn": DummyClassifier(strategy="constant", constant=7)}
    with pytest.raises(ValueError, match="constant") as caught:
        ss.compare(models, IRIS, cv=2)
    assert caught.value.__notes__ == ["compare: it came from models['torn']"]


def test_the_plot(tmp_path) -> None:
    figure = rows().plot(tmp_path / "comparison.svg")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["net", "tree"]
    assert axes.get_xlabel() == "accuracy"
    assert axes.lines[0].get_xdata().tolist() == [0.9, 1.0]
    assert (tmp_path / "comparison.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([DummyClassifier()], IRIS), TypeError, "compare: models must be a mapping with a model, got "),
        (({}, IRIS), TypeError, "compare: models must be a mapping with a model, got {}"),
        (({"a": 3}, IRIS), TypeError, r"compare: models\['a'\] must be an estimator under a string, got int"),
        (({1: DummyClassifier()}, IRIS), TypeError, r"models\[1\] must be an estimator under a string"),
        (({"a": DummyClassifier()}, IRIS[0]), TypeError, r"compare: data must be \(X, y\), got ndarray"),
        (({"a": DummyClassifier()}, IRIS, ShuffleSplit(1)), ValueError, "cv must make at least 2 folds, got 1"),
        (({"a": DummyClassifier()}, IRIS, 2, "acuracy"), ValueError, "acuracy"),
        (
            ({"a": DummyClassifier()}, IRIS, 2, ["f1"]),
            TypeError,
            r"scoring must be one name or a function, got \['f1'\]",
        ),
    ],
)
def test_bad_arguments(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        ss.compare(*arguments)


def test_bad_arguments_of_results_and_of_the_test() -> None:
    with pytest.raises(KeyError, match=r"Comparison: model must be one of \['net', 'tree'\], got 'forest'"):
        rows().p_value("net", "forest")
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        ss.compare({"a": DummyClassifier()}, IRIS, repeats=0)
    for d in ([1.0], [[1.0, 2.0]], [1.0, math.nan]):
        with pytest.raises(ValueError, match="differences must be at least 2 finite numbers"):
            corrected_t_test(np.array(d), 0.1)
    with pytest.raises(ValueError, match="test_ratio must be finite and at least 0, got -1"):
        corrected_t_test(np.ones(3), -1.0)


@pytest.mark.parametrize(("module", "extra"), [("scipy", "scipy"), ("sklearn", "sklearn")])
def test_missing_packages_are_named_with_their_extra(module, extra) -> None:
    code = (
        f"import sys\nsys.modules['{module}'] = None\nimport stepsmith as ss\n"
        "try:\n    ss.compare({}, None)\nexcept ImportError as error:\n"
        f"    assert \"pip install 'stepsmith[{extra}]'\" in str(error)\nelse:\n    raise AssertionError"
    )
    subprocess.run([sys.executable, "-c", code], env=environ({}), check=True, timeout=60)
