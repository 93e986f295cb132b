"""An epoch of small networks: our trainer, a loop by hand over the same layers, PyTorch eager with its fused AdamW."""

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import _harness
from _harness import Side
from stepsmith import Trainer, datasets, nn, optim

OURS, LOOP, PEER = "stepsmith", "our loop", "torch"
LR = 1e-3
CLOSE = 1e-3
"""How far apart the mean losses of an epoch over the same batches may be, relatively: float32 sums in other orders."""

OVERHEAD = 1.05
"""How much longer the trainer may take than a loop by hand."""

Train = Callable[[int, bool], float]
Array = np.ndarray[Any, Any]
Data = tuple[Array, Array]


@dataclass(frozen=True)
class Section:
    """A network, its data, how many times as fast as the peer we want to be, and epochs of a sample."""

    name: str
    target: float
    batch_size: int
    epochs: int
    data: Callable[[], Data]
    build: Callable[[], nn.Sequential]


def mlp(*sizes: int) -> nn.Sequential:
    layers = [layer for n_in, n_out in itertools.pairwise(sizes) for layer in (nn.Linear(n_in, n_out), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 10),
    )


def planes() -> Data:
    X, y = datasets.mnist5k()[0]
    return X.reshape(-1, 1, 28, 28), y


SECTIONS = (
    Section("MLP 784-256-128-10 on mnist5k", 1.1, 64, 2, lambda: datasets.mnist5k()[0], lambda: mlp(784, 256, 128, 10)),
    Section("MLP 64-128-10 on digits", 2.0, 32, 10, lambda: datasets.digits()[0], lambda: mlp(64, 128, 10)),
    Section("CNN on mnist5k", 0.35, 64, 1, planes, cnn),
)


def ours(section: Section, data: Data) -> Train:
    """Trains some epochs more each time, shuffled or not, and returns the mean loss of the last."""
    model = section.build()
    trainer = Trainer(model, optimizer=optim.AdamW(model.parameters(), lr=LR))

    def train(epochs: int, shuffle: bool) -> float:
        options = {"batch_size": section.batch_size, "progress": False, "shuffle": shuffle}
        return trainer.fit(data, epochs=len(trainer.history) + epochs, **options)["loss"][-1]

    return train


def by_hand(section: Section, data: Data) -> Train:
    """The same layers, loss and optimizer in a loop as one writes it without the trainer."""
    model, loss, (X, y) = section.build(), nn.CrossEntropy(), data
    optimizer, rng = optim.AdamW(model.parameters(), lr=LR), np.random.default_rng(0)
    optimizer.bind(model.gradients())

    def epoch(shuffle: bool) -> float:
        order, total = rng.permutation(len(X)) if shuffle else np.arange(len(X)), 0.0
        for start in range(0, len(X), section.batch_size):
            rows = order[start : start + section.batch_size]
            mean, _ = model.loss_and_grads((X[rows], y[rows]), loss)
            optimizer.step()
            total += mean * len(rows)
        return total / len(X)

    return lambda epochs, shuffle: [epoch(shuffle) for _ in range(epochs)][-1]


def torch_layer(torch: Any, layer: nn.Module) -> Any:
    """The peer's layer with a copy of the parameters."""
    if isinstance(layer, nn.Linear):
        made = torch.nn.Linear(layer.in_features, layer.out_features)
    elif isinstance(layer, nn.Conv2d):
        made = torch.nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
    else:
        made = {nn.MaxPool2d: lambda: torch.nn.MaxPool2d(2)}.get(type(layer), getattr(torch.nn, type(layer).__name__))()
    for name, param in layer.params.items():
        getattr(made, name).data = torch.tensor(param)
    return made


def peers(torch: Any, section: Section, data: Data) -> Train:
    """The same by a loop as PyTorch's users write it."""
    net = section.build()
    net.parameters()
    model = torch.nn.Sequential(*(torch_layer(torch, layer) for layer in net.modules))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)
    X, y = (torch.from_numpy(np.ascontiguousarray(array)) for array in data)

    def epoch(shuffle: bool) -> float:
        order, total = torch.randperm(len(X)) if shuffle else torch.arange(len(X)), 0.0
        for rows in order.split(section.batch_size):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(X[rows]), y[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        return total / len(X)

    return lambda epochs, shuffle: [epoch(shuffle) for _ in range(epochs)][-1]


def check(name: str, losses: dict[str, float]) -> None:
    """The same batches from the same weights lead to the same losses."""
    for other, loss in ((name, loss) for name, loss in losses.items() if name != OURS):
        if not abs(losses[OURS] - loss) <= CLOSE * loss:
            raise ArithmeticError(f"{name}: {OURS} and {other} disagree, mean losses {losses[OURS]:.6f} and {loss:.6f}")


def run(torch: Any | None, section: Section, quick: bool) -> dict[str, Any]:
    """Checks an epoch in order, then times shuffled ones in turns."""
    X, y = section.data()
    data = (X[:256], y[:256]) if quick else (X, y)
    trains = {OURS: ours(section, data), LOOP: by_hand(section, data)}
    trains |= {} if torch is None else {PEER: peers(torch, section, data)}
    losses = {name: train(1, False) for name, train in trains.items()}
    check(section.name, losses)
    sides = [Side(name, lambda train=train: train(section.epochs, True)) for name, train in trains.items()]
    timings = _harness.measure(sides, 2 if quick else 12, 0.0 if quick else 0.6)
    overhead = timings[OURS].over(timings[LOOP])
    ratio = None if torch is None else timings[PEER].over(timings[OURS])
    met = overhead <= OVERHEAD and (ratio is None or ratio >= section.target)
    described = [
        {"name": name, "checked": True, "loss": losses[name], **timing.as_json()} for name, timing in timings.items()
    ]
    return {"case": section.name, "ratio": ratio, "overhead": overhead, "met": met, "sides": described}


def show(section: Section, row: dict[str, Any]) -> None:
    print(f"{section.name}, batch {section.batch_size}, AdamW")
    for side in row["sides"]:
        ms = side["ms"] / section.epochs
        print(f"  {side['name']:<12}{ms:>9.3f} ms an epoch, mean loss of the first {side['loss']:.4f}")
    rows = [("overhead", row["overhead"], f"<= {OVERHEAD}", row["overhead"] <= OVERHEAD)]
    if row["ratio"] is None:
        print(f"  {PEER} is missing: nothing to compare with")
    else:
        rows.append(("ratio", row["ratio"], f">= {section.target}", row["ratio"] >= section.target))
    for name, value, target, met in rows:
        print(f"  {name:<12}{value:>9.2f}    target {target} {'met' if met else 'missed'}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the sections, each with all sides in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples: a test of the bench itself")
    parser.add_argument("--only", default="", metavar="TEXT", help="sections with this text in their name")
    parser.add_argument("--json", default=".bench/nn.json", metavar="PATH", help="default: %(default)s")
    options = parser.parse_args(arguments)
    torch, rows = _harness.find("torch"), []
    for section in (section for section in SECTIONS if options.only in section.name):
        row = run(torch, section, options.quick)
        rows.append({**row, "target": section.target, "batch_size": section.batch_size, "epochs": section.epochs})
        show(section, row)
    _harness.write_json(options.json, {"quick": options.quick, "cases": rows})


if __name__ == "__main__":
    sys.exit(main())
