"""Ensembles: votes, averaged weights, snapshots of a run, dropout as a sample of models."""

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from helpers import assert_same_bits
from stepsmith.ensemble import Ensemble, Snapshots, average_weights, mc_dropout
from stepsmith.train import Callback, FunctionModel, Trainer

RNG = np.random.default_rng(0)
X = RNG.standard_normal((37, 5)).astype(np.float32)
Y = RNG.integers(0, 3, 37)


def net(seed: int = 0) -> ss.nn.Sequential:
    return ss.nn.Sequential(ss.nn.Linear(5, 8), ss.nn.BatchNorm(8), ss.nn.Tanh(), ss.nn.Linear(8, 3), seed=seed)


def arrays(model) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in (model.parameters() | model.buffers()).items()}


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z.astype(np.float64) - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class Fixed:
    """A member that says always the same."""

    def __init__(self, *rows: list[float]) -> None:
        self.p = np.array(rows)

    def predict_proba(self, _X):
        return self.p


def test_soft_votes_are_the_weighted_mean_of_the_softmax() -> None:
    models = [net(seed) for seed in range(3)]
    members = [models[0], Trainer(models[1], optimizer=ss.optim.SGD(models[1].parameters())), models[2]]
    p = [softmax(model(X)) for model in models]
    for weights in (None, [1, 0.5, 3]):
        ensemble = Ensemble(members, weights)
        want = np.average(p, axis=0, weights=weights)
        got = ensemble.predict_proba(X, batch_size=10)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
        assert (ensemble.predict(X) == want.argmax(axis=1)).all()
        nested = Ensemble([ensemble, ensemble]).predict_proba(X)
        np.testing.assert_allclose(nested, want, rtol=1e-5, atol=1e-7)


def test_hard_votes_are_counted_and_ties_go_to_the_smallest_label() -> None:
    a = Fixed([0.1, 0.5, 0.4], [0.3, 0.3, 0.4], [0.4, 0.4, 0.2], [0.0, 0.1, 0.9])
    b = Fixed([0.4, 0.3, 0.3], [0.0, 1.0, 0.0], [0.2, 0.5, 0.3], [0.0, 0.1, 0.9])
    X = np.zeros((4, 1))
    hard = Ensemble([a, b], vote="hard")
    assert hard.predict(X).tolist() == [0, 1, 0, 2]
    assert hard.predict_proba(X).tolist() == [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    assert Ensemble([a, b]).predict(X).tolist() == [1, 1, 1, 2]
    assert Ensemble([a, b], [1, 3], "hard").predict(X).tolist() == [0, 1, 1, 2]
    assert Ensemble([Fixed([0.5, 0.5])]).predict(X[:1]).tolist() == [0]


@pytest.mark.parametrize("dtype", [np.int64, np.bool_])
def test_votes_of_members_that_only_choose_are_fractions(dtype) -> None:
    class Choice:
        def __init__(self, label: int) -> None:
            self.label = label

        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            return np.tile(np.eye(2, dtype=dtype)[self.label], (len(X), 1))

    for vote in ("soft", "hard"):
        found = Ensemble([Choice(0), Choice(1), Choice(1), Choice(1)], vote=vote).predict_proba(np.zeros((2, 3)))
        assert found.dtype == np.float64
        assert found.tolist() == [[0.25, 0.75]] * 2


def test_votes_are_those_of_scikit_learn() -> None:
    from sklearn.ensemble import VotingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.tree import DecisionTreeClassifier

    members = [LogisticRegression(), GaussianNB(), DecisionTreeClassifier(max_depth=2, random_state=0)]
    voters = VotingClassifier([(str(i), member) for i, member in enumerate(members)], voting="soft", weights=[1, 2, 1])
    voters.fit(X, Y)
    for vote in ("soft", "hard"):
        voters.voting = vote
        ensemble = Ensemble(voters.estimators_, [1, 2, 1], vote)
        assert (ensemble.predict(X) == voters.predict(X)).all()
    voters.voting = "soft"
    np.testing.assert_allclose(
        Ensemble(voters.estimators_, [1, 2, 1]).predict_proba(X), voters.predict_proba(X), rtol=1e-6
    )
    with pytest.raises(ValueError, match=r"models\[0\] must have the labels 0 to 2 in its columns, got classes_"):
        Ensemble([GaussianNB().fit(X, Y + 1)]).predict(X)


def test_averages_are_weighted_means_in_the_models_order() -> None:
    models = [net(seed) for seed in range(3)]
    befores = [arrays(model) for model in models]
    for weights in (None, [0.2, 0.3, 0.5]):
        got = average_weights(models, weights)
        for name in models[0].parameters():
            want = np.average([before[name].astype(np.float64) for before in befores], axis=0, weights=weights)
            np.testing.assert_allclose(got[name], want, rtol=1e-6, atol=1e-8)
            assert got[name].dtype == np.float32
            assert not np.shares_memory(got[name], models[0].parameters()[name])
    assert_same_bits(average_weights([models[1]])["0.weight"], befores[1]["0.weight"])


def test_averages_are_written_in_place_also_over_a_member() -> None:
    models = [net(seed) for seed in range(2)]
    want, buffers = average_weights(models, [1, 2]), arrays(models[1])
    got = average_weights(models, [1, 2], out=models[1])
    for name, param in models[1].parameters().items():
        assert_same_bits(param, want[name], name)
        assert got[name] is param
    assert all((array == buffers[name]).all() for name, array in models[1].buffers().items())
    half = {"w": np.array([1, 3], ml_dtypes.bfloat16)}
    assert average_weights([half, {"w": np.array([2, 6], np.float32)}])["w"].tolist() == [1.5, 4.5]


def test_statistics_of_an_averaged_model_are_measured_anew() -> None:
    models = [net(seed) for seed in range(2)]
    average_weights(models, out=models[0])
    ss.train.update_statistics(models[0], (X,))
    hidden = models[0].modules[0].forward(X)
    np.testing.assert_allclose(models[0].buffers()["1.running_mean"], hidden.mean(axis=0), rtol=1e-5, atol=1e-6)


def snapshot_run(*callbacks: Callback, keep: int | None = None) -> tuple[Trainer, Snapshots]:
    model, snapshots = net(), Snapshots(2, keep)
    rate = ss.schedules.CosineAnnealingWarmRestarts(0.2, T_0=2 * 3)
    optimizer = ss.optim.SGD(model.parameters(), lr=rate)
    return Trainer(model, optimizer=optimizer, callbacks=[snapshots, *callbacks]), snapshots


class Ends(Callback):
    """The model at the ends of epochs."""

    def __init__(self) -> None:
        self.arrays: list[dict[str, np.ndarray]] = []

    def on_epoch_end(self, trainer, row) -> None:
        self.arrays.append(arrays(trainer.model))


def fit(trainer: Trainer, epochs: int) -> None:
    trainer.fit((X, Y), epochs=epochs, batch_size=16, progress=False)


def test_snapshots_are_the_model_at_the_ends_of_cycles() -> None:
    ends = Ends()
    trainer, snapshots = snapshot_run(ends)
    fit(trainer, 7)
    assert len(snapshots.snapshots) == 3
    ensemble = snapshots.ensemble(trainer.model, weights=[1, 2, 3], vote="hard")
    for member, at_end in zip(ensemble.models, ends.arrays[1::2], strict=True):
        for name, array in arrays(member).items():
            assert_same_bits(array, at_end[name], name)
    assert (ends.arrays[6]["0.weight"] != ends.arrays[5]["0.weight"]).any()
    assert_same_bits(arrays(trainer.model)["0.weight"], ends.arrays[6]["0.weight"])
    want = np.average([softmax(member(X)) for member in ensemble.models], axis=0)
    np.testing.assert_allclose(snapshots.ensemble(trainer.model).predict_proba(X), want, rtol=1e-5, atol=1e-7)
    assert (ensemble.weights, ensemble.vote) == ([1, 2, 3], "hard")


def test_only_the_last_snapshots_are_kept() -> None:
    ends = Ends()
    trainer, snapshots = snapshot_run(ends, keep=2)
    fit(trainer, 6)
    assert len(snapshots.snapshots) == 2
    for kept, at_end in zip(snapshots.snapshots, ends.arrays[3::2], strict=True):
        assert_same_bits(kept["0.weight"], at_end["0.weight"])


def test_snapshots_resume_exactly(tmp_path) -> None:
    straight, wanted = snapshot_run()
    fit(straight, 6)
    broken, _ = snapshot_run()
    fit(broken, 3)
    broken.save(tmp_path)
    resumed, snapshots = snapshot_run()
    Trainer.resume(tmp_path, resumed)
    fit(resumed, 6)
    assert len(snapshots.snapshots) == len(wanted.snapshots) == 3
    for kept, want in zip(snapshots.snapshots, wanted.snapshots):
        assert list(kept) == list(want)
        for name in want:
            assert_same_bits(kept[name], want[name], name)


def dropping(p: float = 0.4) -> ss.nn.Sequential:
    model = ss.nn.Sequential(
        ss.nn.Dropout(0.1), ss.nn.Linear(5, 8), ss.nn.BatchNorm(8), ss.nn.Tanh(), ss.nn.Dropout(p), ss.nn.Linear(8, 3)
    )
    model.loss_and_grads((X, Y))
    return model


def one_sample(model, x: np.ndarray, first: int, step: int, seed: int) -> np.ndarray:
    """Outputs under the masks of a sample, in float64."""
    now = {name: array.astype(np.float64) for name, array in arrays(model).items()}

    def mask(x: np.ndarray, stream: int, p: float) -> np.ndarray:
        draws = ss.random.uniform(x.shape, seed=seed, step=step, stream=stream, start=first * x.shape[1])
        return x * (draws >= np.float32(p)) / (1 - p)

    h = mask(x, 0, 0.1) @ now["1.weight"].T + now["1.bias"]
    h = (h - now["2.running_mean"]) / np.sqrt(now["2.running_var"] + 1e-5) * now["2.weight"] + now["2.bias"]
    return mask(np.tanh(h), 4, 0.4) @ now["5.weight"].T + now["5.bias"]


@pytest.mark.parametrize("probabilities", [True, False])
def test_mc_dropout_is_mean_deviation_and_entropy_over_masks(probabilities: bool) -> None:
    model = dropping()
    drawn = np.stack([one_sample(model, X.astype(np.float64), 0, step, 9) for step in range(1, 8)])
    drawn = np.stack([softmax(z) for z in drawn]) if probabilities else drawn
    mean, std, entropy = mc_dropout(model, X, samples=7, seed=9, batch_size=10, probabilities=probabilities)
    np.testing.assert_allclose(mean, drawn.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(std, drawn.std(axis=0), rtol=1e-3, atol=1e-6)
    assert std.min() > 0
    if probabilities:
        np.testing.assert_allclose(entropy, -(mean * np.log(mean)).sum(axis=1), rtol=1e-12)
    else:
        assert entropy is None


def test_mc_dropout_is_reproducible_whatever_the_batches_are() -> None:
    model = dropping()
    trainer = Trainer(model, optimizer=ss.optim.SGD(model.parameters()))
    first = mc_dropout(model, X, seed=3)
    assert all((a == b).all() for a, b in zip(first, mc_dropout(trainer, X, seed=3)))
    np.testing.assert_allclose(mc_dropout(model, X, seed=3, batch_size=5).std, first.std, rtol=1e-4)
    assert (mc_dropout(model, X, seed=4).std != first.std).any()


def test_mc_dropout_leaves_the_model_as_it_was() -> None:
    model = dropping()
    model.counter.seed, model.counter.step, model.counter.sample = 5, 17, 3
    before, want = arrays(model), model(X).copy()
    for x in (X, X[:, :4]):
        try:
            mc_dropout(model, x)
        except ValueError:
            assert x.shape[1] == 4
        assert (model.counter.seed, model.counter.step, model.counter.sample) == (5, 17, 3)
        assert all((array == before[name]).all() for name, array in arrays(model).items())
        assert_same_bits(model(X), want)


def test_the_entropy_is_0_where_a_model_is_sure_and_log_3_where_it_knows_nothing() -> None:
    model = ss.nn.Sequential(ss.nn.Linear(5, 3), ss.nn.Dropout(0.5), ss.nn.Softplus())
    model.parameters()["0.weight"][...] = 0
    sure = ss.nn.Sequential(ss.nn.Dropout(0.5), ss.nn.Linear(5, 3))
    sure.parameters()["1.weight"][...] = 0
    sure.parameters()["1.bias"][...] = [0, 1000, 0]
    assert mc_dropout(sure, X).entropy.tolist() == [0.0] * 37
    np.testing.assert_allclose(mc_dropout(model, X).entropy, np.log(3), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Ensemble([]), ValueError, r"models must not be empty"),
        (lambda: Ensemble([3]), TypeError, r"models\[0\] must be a Trainer, a Module or have predict_proba, got int"),
        (lambda: Ensemble([net()], [1, 2]), ValueError, r"weights must be 1 numbers that are not all 0, got \[1.*, 2"),
        (lambda: Ensemble([net()], [0.0]), ValueError, r"weights must be 1 numbers that are not all 0, got \[0.0\]"),
        (lambda: Ensemble([net()], [-1.0]), ValueError, r"weights\[0\] must be finite and at least 0, got -1.0"),
        (lambda: Ensemble([net()], vote="loud"), ValueError, r"vote must be one of soft, hard, got 'loud'"),
        (lambda: Ensemble([net()]).predict(X[:0]), ValueError, r"X must have rows, got shape \(0, 5\)"),
        (lambda: Ensemble([net()]).predict([1]), TypeError, r"X must be a NumPy array"),
        (lambda: Ensemble([net()]).predict(X, 0), ValueError, r"batch_size must be at least 1, got 0"),
        (
            lambda: Ensemble([net(), Fixed([0.5, 0.5])]).predict(X),
            ValueError,
            r"models\[1\] must give \(rows, classes\), such as \(37, 3\), got shape \(1, 2\)",
        ),
        (
            lambda: Ensemble([ss.nn.Sequential(ss.nn.Linear(5, 1))]).predict(X),
            ValueError,
            r"models\[0\] must give \(rows, classes\), .* got shape \(37, 1\)",
        ),
        (lambda: average_weights([]), ValueError, r"models must not be empty"),
        (lambda: average_weights([3]), TypeError, r"models\[0\] must be a mapping or have parameters\(\), got int"),
        (lambda: average_weights([{"w": X}, {"v": X}]), ValueError, r"models\[1\] .* missing \['w'\], extra \['v'\]"),
        (
            lambda: average_weights([{"w": X}, {"w": X.T}]),
            ValueError,
            r"\['w'\] must have shape \(37, 5\), got \(5, 37",
        ),
        (lambda: average_weights([{"w": Y}]), TypeError, r"models\[0\]\['w'\] must be float32, .* got int64"),
        (lambda: average_weights([{"w": X}], out={"v": X}), ValueError, r"out must have the first one's names"),
        (lambda: Snapshots(0), ValueError, r"cycle_epochs must be at least 1, got 0"),
        (lambda: Snapshots(1, 0), ValueError, r"keep must be at least 1, got 0"),
        (lambda: Snapshots(2).ensemble(net()), RuntimeError, r"needs a cycle of 2 epochs, got none yet"),
        (lambda: mc_dropout(net(), X), ValueError, r"must have a Dropout layer with p above 0, got none"),
        (lambda: mc_dropout(dropping(), X[:0]), ValueError, r"X must have rows"),
        (lambda: mc_dropout(dropping(), X, 0), ValueError, r"samples must be at least 1, got 0"),
        (lambda: mc_dropout(dropping(), X, seed=-1), ValueError, r"seed must be at least 0, got -1"),
        (lambda: mc_dropout(FunctionModel({}, lambda _p, _b: 0), X), TypeError, r"Module or .*, got FunctionModel"),
    ],
)
def test_bad_arguments_are_named(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()
