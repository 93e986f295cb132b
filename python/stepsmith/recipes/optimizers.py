"""Every optimizer side by side: a small network on scikit-learn's handwritten digits.

The rates were chosen among six each, by the loss on a quarter of the training data held out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from stepsmith import Trainer, datasets, nn, optim
from stepsmith.recipes import _common
from stepsmith.train import History

SETTINGS: dict[str, dict[str, Any]] = {
    "adadelta": {"lr": 5.0},
    "adafactor": {"lr": 0.1},
    "adagrad": {"lr": 0.04},
    "adam": {"lr": 0.006},
    "adamax": {"lr": 0.02},
    "adamw": {"lr": 0.006, "weight_decay": 0.1},
    "adan": {"lr": 0.002},
    "ademamix": {"lr": 0.001},
    "asgd": {"lr": 0.2},
    "lamb": {"lr": 0.002},
    "lars": {"lr": 1.0},
    "lbfgs": {"line_search_fn": "strong_wolfe"},
    "lion": {"lr": 0.00025, "weight_decay": 0.1},
    "muon": {"lr": 0.01, "weight_decay": 0.1},
    "nadam": {"lr": 0.006},
    "radam": {"lr": 0.006},
    "rmsprop": {"lr": 0.005},
    "rprop": {"lr": 0.01, "step_sizes": (1e-6, 0.1)},
    "schedulefree_adamw": {"lr": 0.005},
    "sgd": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
}
FULL_BATCH = {"lbfgs": 1, "rprop": 10}
"""Those that want the gradient of all data; and their epochs for one of the others, as an epoch is a step for them."""
BATCH_SIZE = 50


class MuonWithAdamW:
    """Muon for the hidden matrices, AdamW for the rest: a trainer takes anything with `params` and `step`."""

    def __init__(self, params: Mapping[str, Any], **settings: Any) -> None:
        *hidden, _head = [name for name, param in params.items() if param.ndim == 2]
        self.params = params
        self.muon = optim.Muon({name: params[name] for name in hidden}, **settings)
        self.adamw = optim.AdamW({name: param for name, param in params.items() if name not in hidden}, lr=0.003)

    def step(self, grads: Mapping[str, Any]) -> optim.StepInfo:
        """Each takes its own gradients."""
        self.adamw.step({name: grads[name] for name in self.adamw.params})
        return self.muon.step({name: grads[name] for name in self.muon.params})


def train(name: str, epochs: int, seed: int) -> tuple[History, float]:
    """The history of a training, and its accuracy on the test part."""
    data, test = datasets.digits()
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10), seed=seed)
    make: Any = MuonWithAdamW if name == "muon" else optim.REGISTRY[name]
    optimizer = make(model.parameters(), **SETTINGS[name])
    trainer = Trainer(model, optimizer=optimizer, seed=seed, blas_threads=1)
    batch_size = len(data[0]) if name in FULL_BATCH else BATCH_SIZE
    trainer.fit(data, epochs=FULL_BATCH.get(name, 1) * epochs, batch_size=batch_size, progress=False)
    return trainer.history, trainer.evaluate(test)["accuracy"]


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Train with each, print a table, draw the losses over time; return the accuracies."""
    options = _common.options("optimizers", "Every optimizer on digits.", arguments)
    table = _common.Table(("optimizer", "epochs", "loss", "test accuracy", "seconds"), "<>>>>")
    accuracies, curves = {}, {}
    for name in optim.REGISTRY:
        history, accuracies[name] = train(name, 2 if options.quick else 20, options.seed)
        seconds = list(accumulate(history.seconds))
        curves[name] = seconds, history["loss"]
        loss = history["loss"][-1]
        table.add(name, str(len(history)), f"{loss:.2e}", f"{accuracies[name]:.4f}", f"{seconds[-1]:.2f}")
    print(table)
    _common.plot(options.output / "optimizers.png", curves, "seconds", "training loss", xscale="log", yscale="log")
    return accuracies


if __name__ == "__main__":
    main()
