"""A smaller model in two steps: units that matter least go while it trains, then its weights get fewer bits.

A network 784-256-128-10 on mnist5k trains without and then with pruning: three quarters of the hidden units go, a few
at a time, so that the others can take over. `prune.shrink` takes them out of the model, and `nn.quantize_model` keeps
the weights of what is left in 8 or 4 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from stepsmith import Trainer, datasets, nn, optim, prune, quant
from stepsmith.recipes import _common

Array = npt.NDArray[Any]
Part = tuple[Array, Array]

BATCH_SIZE = 50
SHARE = 0.75
"""Of the hidden units that go."""
SCHEMES: dict[str, quant.Scheme] = {
    "int8": quant.Affine(bits=8, axis=0),
    "int4": quant.Affine(bits=4, group_size=32),
    "nf4": quant.NF4(block_size=64),
}


def stages(data: Part, epochs: int, seed: int) -> Iterator[tuple[str, nn.Module, Mapping[str, Any]]]:
    """Name, model and the tensors that a file of it holds, one stage after the other."""
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10), seed=seed)
    steps = epochs * len(data[0]) // BATCH_SIZE
    units = prune.GradualPruning(
        SHARE, start=steps, stop=2 * steps, every=steps // 10, include="[02].weight", scope=("structured", 0)
    )
    optimizer = optim.AdamW(model.parameters(), lr=0.001, weight_decay=0.1)
    trainer = Trainer(model, optimizer=optimizer, seed=seed, callbacks=[units], blas_threads=1)
    trainer.fit(data, epochs=epochs, batch_size=BATCH_SIZE, progress=False)
    yield "trained", model, model.parameters()
    trainer.fit(data, epochs=3 * epochs, batch_size=BATCH_SIZE, progress=False)
    yield "pruned", model, model.parameters()
    small = prune.shrink(model).model
    yield "shrunk", small, small.parameters()
    for name, scheme in SCHEMES.items():
        smallest = nn.quantize_model(small, scheme)
        yield name, smallest, {**small.parameters(), **codes(smallest)}


def codes(model: nn.Module) -> dict[str, quant.QuantizedArray]:
    """The quantized weights by the names of those that they stand for."""
    layers = {name: layer for name, layer in model.named_layers() if isinstance(layer, nn.QuantizedLinear)}
    return {f"{name}weight": layer.weight for name, layer in layers.items()}


def main(arguments: Sequence[str] | None = None) -> dict[str, tuple[float, int]]:
    """Print and return the accuracy on the test part and the bytes of a file after each stage, and draw them."""
    options = _common.options("prune_quantize", "Prune a network, then quantize it.", arguments)
    data, (X_test, y_test) = datasets.mnist5k()
    table = _common.Table(("stage", "test accuracy", "file, bytes", "of the first"), "<>>>")
    found: dict[str, tuple[float, int]] = {}
    for name, model, tensors in stages(data, 2 if options.quick else 15, options.seed):
        path = options.output / f"{name}.safetensors"
        quant.save(path, tensors)
        accuracy, size = float((model(X_test).argmax(axis=1) == y_test).mean()), path.stat().st_size
        found[name] = accuracy, size
        table.add(name, f"{accuracy:.4f}", f"{size:,}", f"{size / found['trained'][1]:.1%}")
    print(table)
    curves = {name: ([size], [accuracy]) for name, (accuracy, size) in found.items()}
    _common.plot(options.output / "prune_quantize.png", curves, "bytes", "test accuracy", xscale="log")
    return found


if __name__ == "__main__":
    main()
