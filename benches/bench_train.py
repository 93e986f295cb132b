"""The demo's network on the demo's data, trained by us and by scikit-learn's MLPClassifier: milliseconds an epoch."""

import argparse
import sys
from collections.abc import Callable, Sequence

import _harness
from _harness import Timing
from stepsmith import demo

OURS, PEER = "stepsmith", "MLPClassifier"
CHANCE = 0.1
TARGET = 1.5
"""How many times as fast as the peer we want to be."""


def check(name: str, accuracy: float) -> None:
    """An epoch is enough to be far better than a guess."""
    if not accuracy > 5 * CHANCE:
        raise ArithmeticError(f"{name} has learnt nothing: test accuracy {accuracy:.3f}")


def recorded(train: Callable[[], demo.Timing], epochs: int, into: Timing) -> Callable[[], demo.Timing]:
    """The same training, its milliseconds an epoch kept."""

    def call() -> demo.Timing:
        seconds, accuracy = train()
        into.blocks.append([1e3 * seconds / epochs])
        return seconds, accuracy

    return call


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains both sides once, checks what they learnt, and times them in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few epochs: a test of the bench itself")
    parser.add_argument("--json", default=".bench/train.json", metavar="PATH", help="default: %(default)s")
    options = parser.parse_args(arguments)
    epochs, digits = (2 if options.quick else 20), demo.load()
    train = {
        OURS: lambda: demo._time_ours(digits, epochs, seed=0),
        PEER: lambda: demo._time_sklearn(digits, epochs, seed=0),
    }
    accuracies = {name: once()[1] for name, once in train.items()}
    for name, accuracy in accuracies.items():
        check(name, accuracy)
    timings = {name: Timing() for name in train}
    demo._compare(*(recorded(once, epochs, timings[name]) for name, once in train.items()))
    ratio = timings[PEER].over(timings[OURS])
    print(f"64-128-10, batch {demo.BATCH_SIZE}, Adam, {epochs} epochs")
    sides = []
    for name, timing in timings.items():
        sides.append({"name": name, "checked": True, "accuracy": accuracies[name], **timing.as_json()})
        print(f"{name:<15}{timing.median:>8.3f} ms an epoch, test accuracy {accuracies[name]:.4f}")
    print(f"{'ratio':<15}{ratio:>8.2f}    target >= {TARGET} {'met' if ratio >= TARGET else 'missed'}")
    content = {"quick": options.quick, "epochs": epochs, "ratio": ratio, "target": TARGET, "sides": sides}
    _harness.write_json(options.json, content)


if __name__ == "__main__":
    sys.exit(main())
