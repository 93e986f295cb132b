"""The estimators: scikit-learn's own checks, its tools around them, and what is theirs."""

import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    LeaveOneOut,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import stepsmith as ss
from helpers import environ
from stepsmith.sklearn import StepsmithClassifier, StepsmithRegressor

IRIS = load_iris(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
TINY = {"hidden_layer_sizes": (16,), "learning_rate": 0.01, "max_epochs": 15, "batch_size": 64}
QUICK = {**TINY, "max_epochs": 10, "batch_size": 32, "random_state": 0}


def expected_failed_checks(estimator: BaseEstimator) -> dict[str, str]:
    """None with float64; float32 has its precision, in which predictions are returned."""
    if estimator.dtype == "float64":
        return {}
    weights = "repeating a sample and weighting it are equal within float32's precision, not within float64's"
    failed = {"check_sample_weight_equivalence_on_dense_data": weights}
    if isinstance(estimator, StepsmithRegressor):
        failed["check_regressor_multioutput"] = (
            "predictions have the network's dtype, which float64 inputs do not change"
        )
    return failed


@parametrize_with_checks(
    [
        kind(**TINY, dtype=dtype)
        for kind in (StepsmithClassifier, StepsmithRegressor)
        for dtype in ("float32", "float64")
    ],
    expected_failed_checks=expected_failed_checks,
    xfail_strict=True,
)
def test_scikit_learn_s_checks(estimator: BaseEstimator, check) -> None:
    check(estimator)


def test_default_settings_classify_raw_digits() -> None:
    X, y = load_digits(return_X_y=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_score(StepsmithClassifier(random_state=0), X, y, cv=folds)
    assert scores.mean() >= 0.965, scores


def test_default_settings_fit_targets_of_any_scale() -> None:
    X, y = DIABETES
    scores = [
        StepsmithRegressor(max_epochs=20, random_state=0).fit(X[:300], scale * y[:300]).score(X[300:], scale * y[300:])
        for scale in (1.0, 1e6)
    ]
    assert min(scores) > 0.35
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


# The tools of scikit-learn.


def test_searches_in_pipelines() -> None:
    pipeline = make_pipeline(PCA(), StepsmithClassifier(**QUICK))
    grid = {"pca__n_components": [2, 3], "stepsmithclassifier__activation": ["relu", "tanh"]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(*IRIS)
    assert search.best_score_ > 0.8
    assert len(search.cv_results_["params"]) == 4
    space = {"stepsmithclassifier__dropout": [0.0, 0.1, 0.2], "stepsmithclassifier__optimizer": ["adam", "lion"]}
    assert RandomizedSearchCV(pipeline, space, n_iter=2, cv=3, random_state=0).fit(*IRIS).best_score_ > 0.8


@pytest.mark.parametrize("cv", [KFold(3, shuffle=True, random_state=0), StratifiedKFold(3)])
def test_every_scorer(cv) -> None:
    X, y = IRIS
    names = ["accuracy", "precision_macro", "recall_macro", "f1_macro", "roc_auc_ovr", "neg_log_loss"]
    found = cross_validate(StepsmithClassifier(**QUICK), X, y, cv=cv, scoring=names, error_score="raise")
    assert all(found[f"test_{name}"].mean() > (0.8 if name != "neg_log_loss" else -1.0) for name in names)
    binary = cross_validate(
        StepsmithClassifier(**QUICK), X, y == 1, cv=cv, scoring=["roc_auc", "f1"], error_score="raise"
    )
    assert binary["test_roc_auc"].mean() > 0.8


def test_leave_one_out_and_confusion_matrix() -> None:
    X, y = IRIS[0][::6], IRIS[1][::6]
    assert cross_val_score(StepsmithClassifier(**QUICK), X, y, cv=LeaveOneOut()).shape == (25,)
    predicted = StepsmithClassifier(**QUICK).fit(*IRIS).predict(IRIS[0])
    assert np.trace(confusion_matrix(IRIS[1], predicted)) > 130


def test_regression_scorers() -> None:
    names = ["r2", "neg_mean_absolute_error"]
    found = cross_validate(StepsmithRegressor(**QUICK), *DIABETES, cv=KFold(3), scoring=names, error_score="raise")
    assert found["test_r2"].mean() > 0.3


def test_two_workers_end() -> None:
    """In a process of its own, so that a hang ends too; results do not depend on the workers."""
    code = """
import numpy as np, stepsmith as ss
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score
if __name__ == "__main__":
    ss.grad_norm([np.ones(1 << 20, np.float32)])  # the pool runs before the workers start
    model = ss.sklearn.StepsmithClassifier((16,), max_epochs=3, dropout=0.1, random_state=0)
    one, two = (cross_val_score(model, *load_iris(return_X_y=True), cv=4, n_jobs=jobs) for jobs in (1, 2))
    assert (one == two).all(), (one, two)
"""
    subprocess.run([sys.executable, "-c", code], env=environ({}), check=True, timeout=120)


# What is theirs.


def weights(estimator: BaseEstimator) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in estimator.model_.parameters().items()}


def same(a: BaseEstimator, b: BaseEstimator) -> bool:
    one, two = weights(a), weights(b)
    return one.keys() == two.keys() and all((one[name] == two[name]).all() for name in one)


def test_equal_random_states_give_equal_bits() -> None:
    settings = {**TINY, "max_epochs": 2, "dropout": 0.2}
    a, b, c = (StepsmithClassifier(**settings, random_state=seed).fit(*IRIS) for seed in (0, 0, 1))
    assert same(a, b)
    assert not same(a, c)


@pytest.mark.parametrize("settings", [{"dropout": 0.3}, {"batch_norm": True}, {"early_stopping": True}])
def test_warm_starts_equal_one_long_fit(settings) -> None:
    long = StepsmithClassifier(**{**QUICK, "max_epochs": 4}, **settings).fit(*IRIS)
    warm = StepsmithClassifier(**{**QUICK, "max_epochs": 2}, **settings, warm_start=True).fit(*IRIS)
    half = weights(warm)
    warm.fit(*IRIS)
    assert len(long.history_) == len(warm.history_) == 4
    assert any((half[name] != array).any() for name, array in weights(warm).items())
    assert same(long, warm)
    assert len(warm.set_params(warm_start=False).fit(*IRIS).history_) == 2


@pytest.mark.parametrize("copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy])
@pytest.mark.parametrize("optimizer", ["adamw", "lbfgs", "schedulefree_adamw"])
def test_a_copy_predicts_and_goes_on_bit_for_bit(copied, optimizer) -> None:
    first = StepsmithClassifier(**{**QUICK, "max_epochs": 2, "batch_norm": True, "learning_rate": None})
    first.set_params(optimizer=optimizer).fit(*IRIS)
    first.set_params(hidden_layer_sizes=(3,))
    second = copied(first)
    assert (second.predict_proba(IRIS[0]) == first.predict_proba(IRIS[0])).all()
    assert second.history_.rows == first.history_.rows
    first.partial_fit(*IRIS)
    assert not same(first, second)
    assert same(first, second.partial_fit(*IRIS))


def test_joblib_files_hold_the_estimator(tmp_path) -> None:
    estimator = StepsmithRegressor(**QUICK).fit(*DIABETES)
    joblib.dump(estimator, tmp_path / "estimator")
    assert (joblib.load(tmp_path / "estimator").predict(DIABETES[0]) == estimator.predict(DIABETES[0])).all()
    assert not hasattr(clone(estimator), "model_")


@pytest.mark.parametrize("optimizer", sorted(set(ss.optim.REGISTRY) - {"muon"}))
def test_every_optimizer_and_schedules(optimizer) -> None:
    settings = {**QUICK, "learning_rate": None, "optimizer": optimizer}
    estimator = StepsmithClassifier(**settings).fit(*IRIS)
    losses = estimator.history_["loss"]
    assert losses[-1] < losses[0]
    if optimizer != "lbfgs":
        estimator.set_params(learning_rate=ss.schedules.LinearWarmup(1e-3, 10)).fit(*IRIS)
        assert estimator.history_["lr"] == pytest.approx([1e-4 * min(10, 5 * epoch) for epoch in range(1, 11)])


def test_full_steps_of_lbfgs_reach_the_minimum_of_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    X, y = IRIS[0], IRIS[1] == 1
    ours = StepsmithClassifier((), optimizer="lbfgs", max_epochs=20, dtype="float64", random_state=0).fit(X, y)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)


def test_lbfgs_sees_all_samples_at_once_and_searches_along_lines() -> None:
    settings = {**QUICK, "optimizer": "lbfgs", "learning_rate": None, "batch_norm": True, "max_epochs": 2}
    small, large = (StepsmithClassifier(**{**settings, "batch_size": size}).fit(*IRIS) for size in (16, 1000))
    assert same(small, large)
    assert small.trainer_.optimizer.groups[0]["line_search_fn"] == "strong_wolfe"
    plain = small.set_params(optimizer_params={"line_search_fn": None, "max_iter": 3}).fit(*IRIS).trainer_.optimizer
    assert (plain.groups[0]["line_search_fn"], plain.groups[0]["max_iter"]) == (None, 3)


@pytest.mark.parametrize(("activation", "bound"), [("relu", (6 / 4) ** 0.5), ("tanh", (6 / (4 + 64)) ** 0.5)])
def test_initial_weights_suit_the_activation(activation, bound) -> None:
    settings = {"learning_rate": 1e-12, "max_epochs": 1, "random_state": 0}
    weight = StepsmithClassifier((64,), activation, **settings).fit(*IRIS).model_.parameters()["0.weight"]
    assert 0.9 * bound < np.abs(weight).max() <= bound * 1.001


def test_activations_and_layers_stand_where_they_are_told() -> None:
    model = StepsmithClassifier((8, 4), "gelu", dropout=0.1, batch_norm=True, max_epochs=1).fit(*IRIS).model_
    names = [type(layer).__name__ for _, layer in model.named_layers()]
    assert names == ["Linear", "BatchNorm", "GELU", "Dropout"] * 2 + ["Linear"]
    assert model.parameters()["8.weight"].shape == (3, 4)


def test_labels_of_any_type() -> None:
    X, y = IRIS
    names = np.array(["setosa", "versicolor", "virginica"])
    for labels in (names[y], names[y].astype(object), y - 7, y.astype(np.uint8), y > 0, list(names[y])):
        estimator = StepsmithClassifier(**QUICK).fit(X, labels)
        assert (estimator.classes_ == np.unique(labels)).all()
        assert np.mean(estimator.predict(X) == labels) > 0.8
    # The same network whatever the labels are called.
    assert same(StepsmithClassifier(**QUICK).fit(X, names[y]), StepsmithClassifier(**QUICK).fit(X, y))


def test_probabilities_agree_with_outputs() -> None:
    X, y = IRIS
    estimator = StepsmithClassifier(**QUICK).fit(X, y)
    outputs, probabilities = estimator.decision_function(X), estimator.predict_proba(X)
    np.testing.assert_allclose(probabilities, np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(estimator.predict_log_proba(X), np.log(probabilities), rtol=1e-4, atol=1e-6)
    binary = StepsmithClassifier(**QUICK).fit(X, y == 0)
    odds = np.log(binary.predict_proba(X)).dot([-1, 1])
    np.testing.assert_allclose(binary.decision_function(X), odds, rtol=1e-3, atol=1e-4)


def test_class_weights_multiply_sample_weights() -> None:
    X, y = IRIS[0][40:], IRIS[1][40:]
    names = np.array(["a", "b", "c"])[y]
    counts = np.bincount(y)
    settings = {**QUICK, "dtype": "float64"}
    balanced = StepsmithClassifier(**settings, class_weight="balanced").fit(X, names)
    factors = {name: len(y) / (3 * count) for name, count in zip("abc", counts)}
    by_hand = StepsmithClassifier(**settings, class_weight=factors).fit(X, names)
    assert same(balanced, by_hand)
    none = StepsmithClassifier(**settings).fit(X, names)
    assert not same(balanced, none)
    skewed = StepsmithClassifier(**settings, class_weight={"c": 100.0}).fit(X, names)
    assert np.mean(skewed.predict(X) == "c") > np.mean(none.predict(X) == "c")


def test_samples_of_weight_0_are_as_if_they_were_not_there() -> None:
    X, y = IRIS
    counts = np.arange(150) % 3 > 0
    weighted = StepsmithClassifier(**QUICK).fit(X, y, sample_weight=np.where(counts, 2.0, 0.0))
    apart = StepsmithClassifier(**QUICK).fit(X[counts], y[counts], sample_weight=np.full(100, 2.0))
    assert same(weighted, apart)


def test_partial_fit_goes_through_batches_like_a_stream() -> None:
    X, y = IRIS
    order = np.random.default_rng(0).permutation(150)
    estimator = StepsmithClassifier(**{**QUICK, "learning_rate": 0.02})
    for _ in range(10):
        for part in np.split(order, 5):
            estimator.partial_fit(X[part], y[part], classes=[0, 1, 2])
    assert estimator.score(X, y) > 0.9
    np.testing.assert_allclose(estimator.scaler_.mean_, X.mean(axis=0))
    one = StepsmithClassifier(**QUICK).partial_fit(X[:10], y[:10], classes=[2, 1, 0])
    assert one.predict_proba(X).shape == (150, 3)
    with pytest.raises(ValueError, match="unseen labels"):
        one.partial_fit(X[:10], y[:10] + 3)
    with pytest.raises(ValueError, match="classes must stay"):
        one.partial_fit(X[:10], y[:10], classes=[0, 1])
    regressor = StepsmithRegressor(**QUICK)
    for part in np.array_split(np.arange(442), 4):
        regressor.partial_fit(DIABETES[0][part], DIABETES[1][part])
    np.testing.assert_allclose(regressor.target_scaler_.scale_, DIABETES[1].std())


def test_early_stopping_goes_back_to_the_best_epoch() -> None:
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    y = np.where(rng.random(300) < 0.3, rng.integers(0, 10, 300), y[:300])
    estimator = StepsmithClassifier(early_stopping=True, validation_fraction=0.25, patience=3, random_state=0)
    losses = estimator.set_params(max_epochs=60).fit(X[:300], y).history_["val_loss"]
    assert len(losses) < 60
    assert len(losses) == int(np.argmin(losses)) + 1 + 3
    (stopping,) = estimator.trainer_.callbacks
    assert stopping.best == min(losses)
    assert losses[-1] > stopping.best
    # A warm start waits afresh, in a copy too; the part held out has stayed the same.
    for warm in (pickle.loads(pickle.dumps(estimator)), estimator):
        more = warm.set_params(warm_start=True, max_epochs=20).fit(X[:300], y).history_["val_loss"]
        assert len(losses) + 4 <= len(more) <= len(losses) + 20
        assert more[len(losses)] == pytest.approx(min(losses), rel=0.1)


def test_early_stopping_may_change_between_warm_starts() -> None:
    X, y = load_digits(return_X_y=True)
    y = np.random.default_rng(0).permutation(y[:200])
    estimator = StepsmithClassifier(**QUICK).set_params(max_epochs=2, warm_start=True).fit(X[:200], y)
    estimator.set_params(early_stopping=True, patience=1, max_epochs=50).fit(X[:200], y)
    stopped = len(estimator.history_)
    assert stopped < 52
    estimator.set_params(patience=4).fit(X[:200], y)
    assert estimator.trainer_.callbacks[0].patience == 4
    waited = len(estimator.history_)
    assert waited >= stopped + 4
    twin = pickle.loads(pickle.dumps(estimator))
    for each in (estimator, twin):
        each.set_params(early_stopping=False, max_epochs=3).fit(X[:200], y).partial_fit(X[:200], y)
        assert len(each.history_) == waited + 4
    assert same(estimator, twin)


def test_a_refused_fit_leaves_what_was_learned() -> None:
    X, y = IRIS
    estimator = StepsmithClassifier(**QUICK).fit(X, y)
    before, labels = estimator.predict_proba(X), estimator.classes_
    named = np.array(["a", "b", "c"])[y]
    for settings in ({"activation": "x"}, {"optimizer_params": {"beta": 1}}, {"early_stopping": True, "patience": 0}):
        refused = copy.copy(estimator).set_params(**settings)
        with pytest.raises((TypeError, ValueError)):
            refused.fit(X[:, :2], named)
        assert refused.classes_ is labels
        assert (refused.predict_proba(X) == before).all()
    fresh = StepsmithClassifier(**QUICK)
    with pytest.raises(ValueError, match="unseen labels"):
        fresh.partial_fit(X, named, classes=["x", "y"])
    with pytest.raises(NotFittedError):
        fresh.predict(X)


def test_several_targets_and_columns() -> None:
    X, y = DIABETES
    both = np.stack([y, -3 * y + 1000], axis=1)
    estimator = StepsmithRegressor(**{**QUICK, "max_epochs": 15}).fit(X, both)
    assert estimator.score(X, both) > 0.4
    assert estimator.predict(X[:7]).shape == (7, 2)
    assert StepsmithRegressor(**QUICK).fit(X, y[:, None]).predict(X[:7]).shape == (7, 1)
    assert StepsmithRegressor(**QUICK).fit(X, y).predict(X[:7]).shape == (7,)


def test_robust_losses_and_dtypes() -> None:
    X, y = DIABETES
    for dtype in ("float32", "float64"):
        found = [
            StepsmithRegressor(**QUICK, loss=loss, dtype=dtype).fit(X.astype(kind), y).predict(X[:3])
            for loss in ("mse", "l1", "huber", "smooth_l1")
            for kind in (np.float32, np.float64)
        ]
        assert {array.dtype for array in found} == {np.dtype(dtype)}
        assert len({array.tobytes() for array in found}) >= 4


def test_standardization_is_fixed_by_the_training_data_and_can_be_left_out() -> None:
    X, y = IRIS
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    inside = StepsmithClassifier(**QUICK, dtype="float64").fit(X, y)
    outside = StepsmithClassifier(**QUICK, dtype="float64", standardize=False).fit(scaled, y)
    np.testing.assert_allclose(inside.predict_proba(X), outside.predict_proba(scaled), atol=1e-12)
    assert outside.scaler_ is None
    np.testing.assert_array_equal(inside.predict_proba(X[:1]), inside.predict_proba(X[:1].copy()))
    # Digits far behind the point survive, because numbers are scaled before they become float32.
    assert StepsmithClassifier(**QUICK).fit(X + 1e7, y).score(X + 1e7, y) > 0.8


def test_a_last_batch_of_one_is_no_trouble_for_batch_norm() -> None:
    X, y = IRIS
    estimator = StepsmithClassifier(**{**QUICK, "batch_size": 32}, batch_norm=True)
    assert estimator.fit(X[:129], y[:129]).trainer_.clock.step == 10 * 4
    assert estimator.fit(X[:128], y[:128]).trainer_.clock.step == 10 * 4
    assert estimator.set_params(batch_norm=False).fit(X[:129], y[:129]).trainer_.clock.step == 10 * 5


def test_data_frames_keep_their_names() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(IRIS[0], columns=list("abcd"))
    assert StepsmithClassifier(**QUICK).fit(frame, IRIS[1]).feature_names_in_.tolist() == list("abcd")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"activation": "rely"}, ValueError, "StepsmithClassifier: activation must be one of elu, .*, got 'rely'"),
        ({"hidden_layer_sizes": (8, 0)}, ValueError, "hidden_layer_sizes must be at least 1, got 0"),
        ({"hidden_layer_sizes": "8"}, TypeError, "hidden_layer_sizes must be an integer, got '8'"),
        ({"dropout": 1.0}, ValueError, r"dropout must be in \[0, 1\), got 1.0"),
        ({"optimizer": "muon"}, ValueError, "optimizer must be one of adadelta, .*, got 'muon'"),
        ({"optimizer": "adm"}, ValueError, "optimizer must be one of .*, got 'adm'"),
        ({"optimizer": "lbfgs", "weight_decay": 0.1}, ValueError, "weight_decay must be None for lbfgs, got 0.1"),
        ({"optimizer_params": [1]}, TypeError, r"optimizer_params must be a mapping or None, got \[1\]"),
        ({"dtype": "float16"}, ValueError, "dtype must be one of float32, float64, got 'float16'"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"max_epochs": 0}, ValueError, "max_epochs must be at least 1, got 0"),
        ({"standardize": 1}, TypeError, "standardize must be True or False, got 1"),
        ({"early_stopping": "no"}, TypeError, "early_stopping must be True or False, got 'no'"),
        ({"warm_start": "no"}, TypeError, "warm_start must be True or False, got 'no'"),
        ({"verbose": 1}, TypeError, "verbose must be True or False, got 1"),
        ({"class_weight": "even"}, ValueError, "class_weight must be one of balanced, got 'even'"),
        ({"class_weight": {5: 1.0}}, ValueError, r"class_weight must have labels of \[0, 1, 2\], got \[5\]"),
        ({"early_stopping": True, "validation_fraction": 2.0}, ValueError, "test_size"),
        ({"early_stopping": True, "patience": 0}, ValueError, "patience must be at least 1, got 0"),
    ],
)
def test_bad_settings_are_refused_in_fit(settings, error, message) -> None:
    with pytest.raises(error, match=message):
        StepsmithClassifier(**{**QUICK, **settings}).fit(*IRIS)


def test_bad_calls() -> None:
    X, y = IRIS
    with pytest.raises(ValueError, match="loss must be one of huber, l1, mse, smooth_l1, got 'cross_entropy'"):
        StepsmithRegressor(loss="cross_entropy").fit(*DIABETES)
    with pytest.raises(ValueError, match="classes must be given in the first call of partial_fit, got None"):
        StepsmithClassifier().partial_fit(X, y)
    with pytest.raises(ValueError, match="class_weight must be None or a mapping for partial_fit"):
        StepsmithClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    for kind in (StepsmithClassifier, StepsmithRegressor):
        with pytest.raises(ValueError, match="early_stopping must be False for partial_fit, got True"):
            kind(early_stopping=True).partial_fit(X, y, *([[0, 1, 2]] if kind is StepsmithClassifier else []))
    with pytest.raises(ValueError, match="y must have 1 columns, got 2"):
        StepsmithRegressor(**QUICK).partial_fit(X, y).partial_fit(X, np.stack([y, y], axis=1))
    with pytest.raises(ss.NonFiniteError, match="at step"), np.errstate(all="ignore"):
        StepsmithRegressor(**{**QUICK, "optimizer": "sgd", "learning_rate": 1e3}).fit(*DIABETES)
    for weights in (-np.ones(150), np.zeros(150)):
        with pytest.raises(ValueError, match=r"[Nn]egative|above 0|zero"):
            StepsmithClassifier(**QUICK).fit(X, y, sample_weight=weights)
    with pytest.raises(AttributeError, match="model_ and history_ must come after fit"):
        _ = StepsmithClassifier().model_


LAZY = """
import sys
import stepsmith as ss
assert not {"sklearn", "scipy", "optuna", "stepsmith.sklearn"} & set(sys.modules)
from stepsmith import *
assert "sklearn" not in sys.modules
assert ss.sklearn.StepsmithRegressor
from stepsmith import sklearn
assert ss.sklearn is sklearn
"""
MISSING = (
    "import sys\nsys.modules['sklearn'] = None\nimport stepsmith as ss\n"
    "try:\n    ss.sklearn\nexcept ImportError as error:\n"
    "    assert \"pip install 'stepsmith[sklearn]'\" in str(error)\n"
    "else:\n    raise AssertionError"
)


@pytest.mark.parametrize("code", [LAZY, MISSING])
def test_scikit_learn_is_imported_at_first_use(code) -> None:
    subprocess.run([sys.executable, "-c", code], env=environ({}), check=True, timeout=60)
    with pytest.raises(AttributeError, match="no attribute 'sklaern'"):
        _ = ss.sklaern
