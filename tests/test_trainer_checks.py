"""Arguments of a trainer that are wrong: each is named before anything is trained."""

import re

import numpy as np
import pytest

import stepsmith as ss
from stepsmith.train import SWA, Callback, FunctionModel, Trainer
from test_train import XV, YV, X, Y, build, copy, quadratic, same


class KerasLike(Callback):
    def on_train_begin(self, _logs=None) -> None: ...
    def on_epoch_end(self, _trainer, _row) -> None: ...
    def on_batch_end(self, _batch, _logs=None) -> None: ...

    on_terminal = True


class Foreign:
    """An optimizer of another maker."""

    def __init__(self, params) -> None:
        self.params = params

    def step(self, grads=None) -> None:
        for name, grad in grads.items():
            self.params[name] -= 0.1 * grad


def trainer_of(optimizer=None, **options) -> Trainer:
    model = ss.nn.Sequential(ss.nn.Linear(6, 2))
    optimizer = ss.optim.SGD if optimizer is None else optimizer
    return Trainer(model, optimizer=optimizer(model.parameters()), **options)


SAME = SWA(1)
HOOKS = r"on_fit_begin, on_step_end, on_epoch_end, on_fit_end"
CONSTRUCTED = r"optimizer must be constructed over model.parameters\(\), as optim.Adam\(model.parameters\(\)\), got "


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: trainer_of(lambda _: "adam"), TypeError, CONSTRUCTED + "'adam'"),
        (lambda: trainer_of(lambda _: ss.optim.Adam), TypeError, CONSTRUCTED + "<class .*Adam'>"),
        (lambda: trainer_of(lambda _: object()), TypeError, CONSTRUCTED + "<object"),
        (lambda: trainer_of(lambda p: Foreign(list(p.values()))), TypeError, CONSTRUCTED),
        (lambda: trainer_of(callbacks=SWA(1)), TypeError, r"callbacks must be a sequence such as a list, got <.*SWA"),
        (lambda: trainer_of(callbacks=None), TypeError, r"callbacks must be a sequence such as a list, got None"),
        (lambda: trainer_of(callbacks=[SWA(1), print]), TypeError, r"callbacks\[1\] must be a Callback.*FunctionCallb"),
        (lambda: trainer_of(callbacks=[SWA]), TypeError, r"callbacks\[0\] must be a Callback object.* got <class"),
        (lambda: trainer_of(callbacks=[SAME, SWA(1), SAME]), ValueError, r"must be different objects, got .* twice"),
        (
            lambda: trainer_of(callbacks=[KerasLike()]),
            ValueError,
            rf"callbacks\[0\] must have .* than {HOOKS}, got on_batch_end, on_train_begin of KerasLike$",
        ),
        (lambda: trainer_of(metrics=[max]), TypeError, r"metrics must be a mapping from names to functions, got \["),
        (lambda: trainer_of(metrics={"f1": 3}), TypeError, r"metrics\['f1'\] must be a function, got 3"),
        (lambda: trainer_of(metrics={1: max}), TypeError, r"names of metrics must be strings, got 1"),
        (lambda: trainer_of(metrics={"loss": max}), ValueError, r"names of metrics must be others .*, got 'loss'"),
        (lambda: trainer_of(regularizers=ss.nn.L2(0.1)), TypeError, r"regularizers must be a sequence .*, got <.*L2"),
        (lambda: trainer_of(regularizers=[0.1]), TypeError, r"regularizers\[0\] must be a Regularizer, got 0.1"),
        (
            lambda: trainer_of(Foreign, regularizers=[ss.nn.MaxNorm(1.0)]),
            ValueError,
            r"regularizers\[0\] must act before the step of Foreign, .*, got MaxNorm that acts after it",
        ),
    ],
)
def test_bad_arguments_of_the_constructor(make, error, message) -> None:
    with pytest.raises(error, match="Trainer: (?s:.*)" + message):
        make()


@pytest.mark.parametrize("optimizer", [Foreign, ss.optim.LBFGS])
def test_penalties_go_with_every_optimizer(optimizer) -> None:
    trainer = trainer_of(optimizer, regularizers=[ss.nn.L2(0.1), ss.nn.L1(0.1)])
    history = trainer.fit((X, Y), epochs=2, batch_size=35, progress=False)
    assert min(history["penalty"]) > 0


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        ({"x": X, "y": Y}, {}, TypeError, r"data must be a tuple of arrays such as \(X, y\), got a dict"),
        ((X, Y), {"validation": {"x": X}}, TypeError, r"validation must be a tuple of arrays .*, got a dict"),
        ((X, Y), {"validation": float("nan")}, ValueError, r"validation must be finite, got nan"),
        ((np.ma.masked_less(X, 0), Y), {}, TypeError, r"data\[0\] must be an array without a mask, got a masked one"),
        ((X, Y), {"validation": (XV, np.ma.array(YV))}, TypeError, r"validation\[1\] must be an array without a mask"),
        ((X, Y), {"augment": 3}, TypeError, r"augment must be a function of \(batch, rng\), got 3"),
        ((X, Y), {"batch_size": lambda _: np.nan}, ValueError, r"batch_size at step 0 must be finite, got nan"),
        ((X, Y), {"batch_size": lambda _: "8"}, TypeError, r"batch_size at step 0 must be a number, got '8'"),
        ((X, Y), {"class_weight": {7: 3.0, 0: 1.0}}, ValueError, r"labels of class_weight must be .*, got \[7\]"),
    ],
)
def test_bad_arguments_of_a_fit(data, options, error, message) -> None:
    trainer = build()
    before = copy(trainer)
    with pytest.raises(error, match="Trainer: " + message):
        trainer.fit(data, progress=False, **options)
    assert same(before, copy(trainer))
    assert trainer.clock.step == 0


def test_masked_inputs_have_no_predictions() -> None:
    with pytest.raises(TypeError, match=r"inputs\[0\] must be an array without a mask"):
        build().predict(np.ma.masked_less(X, 0))


def test_a_label_of_the_validation_part_alone_may_have_a_weight() -> None:
    labels = Y.copy()
    held = ss.train.sources.split(ss.train.sources.Arrays((X, Y)), 0.1, 0)[1].rows
    labels[held], labels[np.setdiff1d(np.arange(70), held)] = 1, 0
    history = build().fit((X, labels), 0.1, class_weight={1: 2.0}, progress=False)
    assert len(history) == 1


@pytest.mark.parametrize("make", [ss.optim.LBFGS, lambda p: ss.optim.ScipyMinimizer(p, "BFGS")])
@pytest.mark.parametrize(("name", "value"), [("accumulate", 2), ("steps_per_epoch", 1)])
def test_what_means_nothing_for_full_batches_is_an_error(make, name: str, value: int) -> None:
    rule = {"accumulate": "must be 1 for", "steps_per_epoch": "must be None for"}[name]
    with pytest.raises(ValueError, match=rf"Trainer: {name} {rule} (LBFGS|ScipyMinimizer), .*, got {value}"):
        trainer_of(make).fit((X, Y), progress=False, **{name: value})


@pytest.mark.parametrize("found", [0.5, (1.0, 2.0, 3.0), np.ones(2), (None, 2), ("a", 1), (np.ones(3), 3)])
def test_a_metric_must_return_sum_and_count(found) -> None:
    trainer = trainer_of(metrics={"f1": lambda _output, _target: found})
    with pytest.raises(TypeError, match=rf"Trainer: metrics\['f1'\] must return .*, got {re.escape(repr(found))}"):
        trainer.evaluate((X, Y))


def test_sums_and_counts_of_any_numbers_are_metrics() -> None:
    trainer = trainer_of(metrics={"hits": lambda output, target: ((output.argmax(1) == target).sum(), np.int64(70))})
    found = trainer.evaluate((X, Y))
    assert found["hits"] == found["accuracy"]


def test_full_batch_steps_have_no_columns_of_gradients() -> None:
    statistics = ss.train.Statistics(every_steps=1)
    trainer_of(ss.optim.LBFGS, callbacks=[statistics]).fit((X, Y), progress=False)
    assert [row["name"] for row in statistics.rows] == ["0.weight", "0.bias"]
    assert not [key for row in statistics.rows for key in row if key.startswith("grad")]


def test_a_model_of_its_own_loss_sees_batches_as_they_are() -> None:
    seen = []

    def counted(params, batch):
        seen.append([len(array) for array in batch])
        return quadratic(params, batch)

    model = FunctionModel({"w": np.zeros(6)}, counted)
    trainer = Trainer(model, optimizer=ss.optim.SGD(model.parameters()))
    trainer.fit((X.astype(np.float64), Y, np.ones(70)), batch_size=40, progress=False)
    assert seen == [[40, 40, 40], [30, 30, 30]]
