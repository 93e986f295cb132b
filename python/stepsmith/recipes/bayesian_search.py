"""Bayesian search of hyperparameters with Optuna: rate, weight decay, width and dropout of a network on digits.

Optuna's TPE sampler draws each trial where earlier ones were good, and its median pruner ends those that are worse than
the median of the others at the same epoch. All is judged on a quarter of the training data held out; the test part is
looked at twice in the end: with the best trial's settings and with the defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy.typing as npt

from stepsmith import Trainer, datasets, nn, optim
from stepsmith.recipes import _common
from stepsmith.train import Callback, OptunaPruning

Array = npt.NDArray[Any]
Part = tuple[Array, Array]

BATCH_SIZE = 50
DEFAULTS: dict[str, Any] = {"lr": 1e-3, "weight_decay": 1e-2, "width": 64, "dropout": 0.0}


def build(lr: float, weight_decay: float, width: int, dropout: float, *callbacks: Callback, seed: int) -> Trainer:
    """A network with a hidden layer, and its trainer."""
    model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10), seed=seed)
    optimizer = optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    return Trainer(model, optimizer=optimizer, seed=seed, callbacks=callbacks, blas_threads=1)


def search(data: Part, trials: int, epochs: int, seed: int) -> Any:
    """The finished study."""
    try:
        import optuna
    except ImportError as error:
        raise ImportError("recipes.bayesian_search needs Optuna: pip install 'stepsmith[optuna]'") from error

    def objective(trial: optuna.Trial) -> float:
        trainer = build(
            trial.suggest_float("lr", 1e-4, 1e-1, log=True),
            trial.suggest_float("weight_decay", 1e-3, 1.0, log=True),
            trial.suggest_int("width", 16, 256, log=True),
            trial.suggest_float("dropout", 0.0, 0.5),
            OptunaPruning(trial, "val_loss"),
            seed=seed,
        )
        history = trainer.fit(data, validation=0.25, epochs=epochs, batch_size=BATCH_SIZE, progress=False)
        return history["val_loss"][-1]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed), pruner=optuna.pruners.MedianPruner(n_warmup_steps=5)
    )
    study.enqueue_trial(DEFAULTS)
    study.optimize(objective, n_trials=trials)
    return study


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Print the best trial beside the defaults, draw the search; return validation losses and test accuracies."""
    options = _common.options("bayesian_search", "Bayesian search on digits.", arguments)
    data, test = datasets.digits()
    trials, epochs = (4, 3) if options.quick else (60, 20)
    study = search(data, trials, epochs, options.seed)
    table = _common.Table(("settings", *DEFAULTS, "validation loss", "test accuracy"), "<>>>>>>")
    found: dict[str, float] = {}
    for name, trial in (("default", study.trials[0]), ("best", study.best_trial)):
        trainer = build(**trial.params, seed=options.seed)
        trainer.fit(data, epochs=epochs, batch_size=BATCH_SIZE, progress=False)
        accuracy = trainer.evaluate(test)["accuracy"]
        table.add(name, *(f"{value:.3g}" for value in trial.params.values()), f"{trial.value:.4f}", f"{accuracy:.4f}")
        found |= {f"{name} loss": trial.value, f"{name} accuracy": accuracy}
    print(table)
    done = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    print(
        f"{len(done)} trials to their end, {trials - len(done)} pruned; the best was number {study.best_trial.number}"
    )
    numbers, losses = [trial.number for trial in done], [trial.value for trial in done]
    curves = {"trial": (numbers, losses), "best so far": (numbers, list(accumulate(losses, min)))}
    _common.plot(options.output / "bayesian_search.png", curves, "trial", "validation loss", yscale="log")
    return found


if __name__ == "__main__":
    main()
