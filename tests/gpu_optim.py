"""An optimizer over arrays of the host and the same one over arrays of the device, side by side."""

from typing import Any

import numpy as np

import stepsmith as ss
from gpu_rows import on_gpu
from helpers import Array, different, laid_out, values

LAYOUTS = ("C", "F", "strided", "negative", "offset")
"""Of `helpers.LAYOUTS` those in which each element is on a boundary of its own: the device reads no others."""

SHAPES = {
    "matrix": (13, 7),
    "long": (9001,),
    "short": (5,),
    "none": (0, 3),
    "scalar": (),
    "axes": (3, 4, 65),
    "tile": (256,),
    "block": (4096,),
}


def dressed(array: Array, layout: str) -> Array:
    """The array in a layout, one without axes as it is."""
    return laid_out(array, layout) if array.ndim else array


class Pair:
    """Steps both and compares every bit."""

    def __init__(self, gpu: Any, rule: str, params: dict[str, Array], **settings: Any) -> None:
        self.gpu, self.params = gpu, params
        self.there = {name: on_gpu(gpu, param) for name, param in params.items()}
        make = ss.optim.REGISTRY[rule]
        of_host = {"shadow": settings.get("shadow")} if "shadow" in settings else {}
        self.host = make(params, **{**settings, **of_host})
        self.device = make(self.there, **{**settings, **self._moved(of_host)})

    def _moved(self, options: dict[str, Any]) -> dict[str, Any]:
        return {
            key: {name: on_gpu(self.gpu, array) for name, array in value.items()} if isinstance(value, dict) else value
            for key, value in options.items()
        }

    def grads_there(self, grads: dict[str, Any]) -> dict[str, Any]:
        """The gradients on the device, as they are laid out here."""
        return {name: None if grad is None else on_gpu(self.gpu, grad) for name, grad in grads.items()}

    def step(self, grads: dict[str, Any], grad_scale: float = 1.0) -> Any:
        """One step of both, which must say the same; returns the gradients of the device."""
        there = self.grads_there(grads)
        info, got = self.host.step(grads, grad_scale), self.device.step(there, grad_scale)
        assert tuple(info) == tuple(got)
        return there

    def compare(self) -> None:
        """Parameters, state, step counts and settings."""
        for name, param in self.params.items():
            same(self.there[name].get(), param, name)
        want, got = self.host.state_dict(), self.device.state_dict()
        for row, there in (
            (want.pop("masks", {}), got.pop("masks", {})),
            *zip(*rows_of(want.pop("state"), got.pop("state"))),
        ):
            assert set(row) == set(there)
            for slot, array in row.items():
                same(there[slot], array, slot)
        assert want == got


def rows_of(*states: dict[str, Any]) -> list[list[dict[str, Array]]]:
    """The rows of each, in the order of their names."""
    return [[{f"{name} {slot}": row[slot] for slot in row} for name, row in sorted(state.items())] for state in states]


def same(got: Array, want: Array, what: str) -> None:
    """Every bit."""
    got, want = np.asarray(got), np.asarray(want)
    wrong = different(got, want)
    assert not wrong.size, f"{what}: {wrong.size} of {got.size} differ, first at {wrong[0]}"


def drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, layout: str = "C") -> Array:
    """Numbers of many sizes in a layout."""
    return dressed(np.asarray(values(rng, shape, dtype)), layout)
