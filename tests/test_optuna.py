"""The callback for Optuna's trials."""

import subprocess
import sys

import numpy as np
import optuna
import pytest

import stepsmith as ss
from helpers import environ
from stepsmith.train import Callback, EarlyStopping, OptunaPruning

optuna.logging.set_verbosity(optuna.logging.WARNING)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 4)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(np.int64)


class Ends(Callback):
    def __init__(self) -> None:
        self.ends = 0

    def on_fit_end(self, trainer) -> None:
        self.ends += 1


def trainer_of(*callbacks: Callback, lr: float = 0.05) -> ss.Trainer:
    model = ss.nn.Sequential(ss.nn.Linear(4, 8), ss.nn.Tanh(), ss.nn.Linear(8, 2))
    return ss.Trainer(model, optimizer=ss.optim.Adam(model.parameters(), lr=lr), callbacks=callbacks)


def fit(trainer: ss.Trainer, epochs: int = 6) -> ss.train.History:
    return trainer.fit((X[:50], Y[:50]), (X[50:], Y[50:]), epochs=epochs, batch_size=10, progress=False)


def test_each_epoch_is_reported() -> None:
    study = optuna.create_study(direction="minimize")
    trial = study.ask()
    history = fit(trainer_of(OptunaPruning(trial, "val_loss")))
    study.tell(trial, history["val_loss"][-1])
    assert study.trials[0].intermediate_values == dict(zip(range(1, 7), history["val_loss"]))
    assert study.best_value == history["val_loss"][-1]


def test_a_hopeless_trial_ends_and_its_fit_with_it() -> None:
    study = optuna.create_study(
        direction="minimize", pruner=optuna.pruners.ThresholdPruner(upper=0.0, n_warmup_steps=3)
    )
    ends, stopping = Ends(), EarlyStopping(patience=9)
    kept = []

    def objective(trial: optuna.Trial) -> float:
        trainer = trainer_of(stopping, OptunaPruning(trial, "val_loss"), ends)
        kept.append(trainer)
        return fit(trainer)["val_loss"][-1]

    study.optimize(objective, n_trials=1)
    (trainer,) = kept
    assert study.trials[0].state == optuna.trial.TrialState.PRUNED
    assert list(study.trials[0].intermediate_values) == [1, 2, 3]
    assert (trainer.clock.epoch, ends.ends) == (3, 1)
    # The best weights came back, and the same trainer can go on without a trial.
    assert trainer.evaluate((X[50:], Y[50:]))["loss"] == pytest.approx(min(trainer.history["val_loss"]))
    trainer.callbacks = ()
    assert len(fit(trainer)) == 6


def test_a_pruner_compares_trials_in_the_direction_of_the_study() -> None:
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(2, n_warmup_steps=1))

    def objective(trial: optuna.Trial) -> float:
        lr = 1e-6 if trial.number == 2 else 0.05
        return fit(trainer_of(OptunaPruning(trial), lr=lr))["val_accuracy"][-1]

    study.optimize(objective, n_trials=4)
    names = [trial.state.name for trial in study.trials]
    assert names == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]


def test_bad_arguments() -> None:
    trial = optuna.trial.FixedTrial({})
    with pytest.raises(TypeError, match=r"OptunaPruning: trial must be an optuna.Trial, got int"):
        OptunaPruning(3)
    with pytest.raises(ValueError, match=r"OptunaPruning: monitor must be one of \['epoch', .*\], got 'val_f1'"):
        fit(trainer_of(OptunaPruning(trial, "val_f1")))


def test_without_optuna_the_error_names_the_extra() -> None:
    code = (
        "import sys\nsys.modules['optuna'] = None\nimport stepsmith as ss\n"
        "try:\n    ss.train.OptunaPruning(None)\nexcept ImportError as error:\n"
        "    assert \"pip install 'stepsmith[optuna]'\" in str(error)\nelse:\n    raise AssertionError"
    )
    subprocess.run([sys.executable, "-c", code], env=environ({}), check=True, timeout=60)
