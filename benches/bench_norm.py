"""Norms forward and backward beside PyTorch's and beside a sweep.

``python benches/bench_norm.py``
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import _functions
from _functions import Array, Case, Work, numbers
from stepsmith import norm

Shape = tuple[int, ...]
SHAPES: tuple[Shape, ...] = ((16384, 1024), (4096, 4096), (65536, 64), (256, 256))
QUICK: tuple[Shape, ...] = ((33, 65), (1050, 1024))
IMAGES, QUICK_IMAGES = (32, 64, 56, 56), (3, 4, 5, 7)
PART = 32
"""Rows, or channels, that the formula is asked for."""


def _work(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    theirs: Callable[..., Any],
    arrays: list[Array],
    formula: Callable[[], tuple[Array, Any]],
    twice: bool = False,
) -> dict[str, Work]:
    """Both directions of a norm whose first array is x and whose others are weights; `twice` if sums come first."""
    x = arrays[0]
    dy, y, dx = numbers(x.shape, 1), np.empty_like(x), np.empty_like(x)
    gradients = (dx, *(np.empty_like(array) for array in arrays[1:]))
    saved = forward(*arrays)[1]
    peers = _functions.torch_passes(theirs, arrays, dy) or (None, None)
    return {
        "forward": Work(
            lambda: [forward(*arrays)[0]], lambda: [forward(*arrays, out=y)[0]], peers[0], formula, 1, twice
        ),
        "backward": Work(
            lambda: backward(dy, saved), lambda: backward(dy, saved, out=gradients), peers[1], None, 2, 2 * twice
        ),
    }


def layer_norm(shape: Shape) -> dict[str, Work]:
    """Over the last axis, with weight and bias."""
    arrays = [numbers(shape), numbers(shape[1:], 2), numbers(shape[1:], 3)]

    def formula() -> tuple[Array, slice]:
        x, (weight, bias) = arrays[0][:PART].astype(np.float64), arrays[1:]
        centred = x - x.mean(axis=1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * weight + bias, slice(PART)

    def theirs(torch: Any, x: Any, weight: Any, bias: Any) -> Any:
        return torch.nn.functional.layer_norm(x, shape[1:], weight, bias)

    return _work(norm.layer_norm, norm.layer_norm_backward, theirs, arrays, formula)


def rms_norm(shape: Shape) -> dict[str, Work]:
    """Over the last axis, with a weight."""
    arrays = [numbers(shape), numbers(shape[1:], 2)]

    def formula() -> tuple[Array, slice]:
        x = arrays[0][:PART].astype(np.float64)
        return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-6) * arrays[1], slice(PART)

    def theirs(torch: Any, x: Any, weight: Any) -> Any:
        return torch.nn.functional.rms_norm(x, shape[1:], weight, eps=1e-6)

    return _work(norm.rms_norm, norm.rms_norm_backward, theirs, arrays, formula)


def batch_norm(shape: Shape) -> dict[str, Work]:
    """In training, with weight and bias and running statistics."""
    arrays = [numbers(shape), numbers(shape[1:2], 2), numbers(shape[1:2], 3)]
    running = np.zeros(shape[1], np.float32), np.ones(shape[1], np.float32)
    own: dict[str, Any] = {}

    def forward(x: Array, weight: Array, bias: Array, out: Array | None = None) -> Any:
        return norm.batch_norm(x, weight, bias, *running, out=out)

    def formula() -> tuple[Array, tuple[slice, slice]]:
        part = slice(None), slice(PART)
        x, axes = arrays[0][part].astype(np.float64), (0, *range(2, len(shape)))
        weight, bias = (array[:PART].reshape(-1, *(1,) * (len(shape) - 2)) for array in arrays[1:])
        centred = x - x.mean(axis=axes, keepdims=True)
        return centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + 1e-5) * weight + bias, part

    def theirs(torch: Any, x: Any, weight: Any, bias: Any) -> Any:
        if not own:
            own.update(mean=torch.zeros(shape[1]), var=torch.ones(shape[1]))
        return torch.nn.functional.batch_norm(x, own["mean"], own["var"], weight, bias, training=True)

    return _work(forward, norm.batch_norm_backward, theirs, arrays, formula, True)


FUNCTIONS = {"layer_norm": layer_norm, "rms_norm": rms_norm, "batch_norm": batch_norm}
LARGE_TARGET = {"layer_norm": 2.0, "rms_norm": 4.0, "batch_norm": 2.0}
SMALL_TARGET = {"layer_norm": 1.2, "rms_norm": 2.0, "batch_norm": 1.2}


def cases(shapes: Sequence[Shape], images: Shape) -> list[Case]:
    """Every norm at every shape in both directions, batch norm of images too."""
    found = []
    for name, make in FUNCTIONS.items():
        for shape in (*shapes, images) if name == "batch_norm" else shapes:
            target = (LARGE_TARGET if shape in SHAPES[:2] else SMALL_TARGET)[name]
            for direction in ("forward", "backward"):
                of_sweep = 0.8 if shape == SHAPES[0] else None
                found.append(Case(name, shape, make, direction, target, of_sweep))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    _functions.main(__doc__, cases(SHAPES, IMAGES), cases(QUICK, QUICK_IMAGES), "norm", arguments)


if __name__ == "__main__":
    sys.exit(main())
