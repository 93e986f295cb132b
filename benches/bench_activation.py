"""Activations forward and backward beside PyTorch's and beside a sweep.

``python benches/bench_activation.py``
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import _functions
from _functions import Array, Case, Work, numbers
from stepsmith.nn.functional import activate, activate_backward

Shape = tuple[int, ...]
SHAPES: tuple[Shape, ...] = ((16384, 1024), (256, 256))
QUICK: tuple[Shape, ...] = ((33, 65),)

THEIRS: dict[str, Callable[[Any, Any], Any]] = {
    "gelu": lambda torch, x: torch.nn.functional.gelu(x),
    "gelu_tanh": lambda torch, x: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": lambda torch, x: torch.nn.functional.silu(x),
    "sigmoid": lambda torch, x: torch.sigmoid(x),
    "tanh": lambda torch, x: torch.tanh(x),
    "softplus": lambda torch, x: torch.nn.functional.softplus(x),
    "hardtanh": lambda torch, x: torch.nn.functional.hardtanh(x),
    "softsign": lambda torch, x: torch.nn.functional.softsign(x),
    "relu": lambda torch, x: torch.relu(x),
    "leaky_relu": lambda torch, x: torch.nn.functional.leaky_relu(x),
    "elu": lambda torch, x: torch.nn.functional.elu(x),
}


def _work(kind: str, shape: Shape) -> dict[str, Work]:
    """Both directions, without a bias: PyTorch has no activation with one."""
    x, dy = numbers(shape), numbers(shape, 1)
    y, dx = np.empty_like(x), np.empty_like(x)
    saved = activate(x, kind)[1]
    peers = _functions.torch_passes(THEIRS[kind], [x], dy) or (None, None)

    def backward(out: tuple[Array | None, Array | None] | None = None) -> list[Array]:
        return [activate_backward(dy, saved, out=out)[0]]

    return {
        "forward": Work(lambda: [activate(x, kind)[0]], lambda: [activate(x, kind, out=y)[0]], peers[0], None, 1),
        "backward": Work(backward, lambda: backward((dx, None)), peers[1], None, 2),
    }


FUNCTIONS = {kind: partial(_work, kind) for kind in THEIRS}


def cases(shapes: Sequence[Shape]) -> list[Case]:
    """Every activation at every shape in both directions."""
    directions = "forward", "backward"
    return [
        Case(kind, shape, make, direction, 1.0)
        for kind, make in FUNCTIONS.items()
        for shape in shapes
        for direction in directions
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    _functions.main(__doc__, cases(SHAPES), cases(QUICK), "activation", arguments)


if __name__ == "__main__":
    sys.exit(main())
