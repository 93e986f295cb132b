"""The comparisons with the oracle of battery.py and battery_stages.py, with arrays of the device.

`OnDevice` takes the place of optimizers: arrays of the host go to the device before each step and come back after it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

import battery
import battery_stages
import stepsmith as ss
from gpu_rows import on_gpu
from helpers import Array
from stepsmith._backend import cupy, moved
from stepsmith.quant import QuantizedArray


def there(array: Array) -> Any:
    """The array on the device, laid out as here; the device reads no elements that are on no boundary of their own."""
    return on_gpu(cupy(), array if array.flags.aligned else array.copy("K"))


class OnDevice:
    """An optimizer of the device over copies of arrays of the host, which follow."""

    def __init__(self, make: Callable[..., Any], params: Any, **settings: Any) -> None:
        params = params if isinstance(params, dict) else {str(i): param for i, param in enumerate(params)}
        shadow = settings.get("shadow")
        self._here = list(params.values())
        self._there = [there(param) for param in self._here]
        if isinstance(shadow, dict):
            moved_shadow = {name: there(array) for name, array in shadow.items()}
            self._here += shadow.values()
            self._there += moved_shadow.values()
            settings["shadow"] = moved_shadow
        self._zeroes = settings.get("zero_grads", False)
        self._optimizer = make(dict(zip(params, self._there)), **settings)
        self._follow(self._here, self._there)

    def _follow(self, here: list[Any], arrays: list[Any]) -> None:
        for array, own in zip(here, arrays):
            if array is not None:
                array[...] = own.get()

    def step(self, grads: Any, grad_scale: float = 1.0) -> Any:
        """As the optimizer's."""
        given = list(grads.values()) if isinstance(grads, dict) else list(grads)
        arrays = [None if grad is None else there(grad) for grad in given]
        named = dict(zip(grads, arrays)) if isinstance(grads, dict) else arrays
        info = self._optimizer.step(named, grad_scale)
        self._follow(self._here, self._there)
        if self._zeroes:
            self._follow(given, arrays)
        return info

    @property
    def state(self) -> dict[str, dict[str, Any]]:
        """The optimizer's, on the host."""
        return {
            name: {slot: x.to("cpu") if isinstance(x, QuantizedArray) else moved(x, "cpu") for slot, x in row.items()}
            for name, row in self._optimizer.state.items()
        }


@contextmanager
def on_device() -> Iterator[None]:
    """While this lasts the optimizers of the registry are those of the device; a device has no threads to count."""
    registry = {name: partial(OnDevice, make) for name, make in ss.optim.REGISTRY.items()}
    one = {"THREADS": (1,), "last_threads": lambda: 1}
    with (
        mock.patch.object(ss.optim, "REGISTRY", registry),
        mock.patch.multiple(battery, **one),
        mock.patch.multiple(battery_stages, **one),
    ):
        yield


BITS = {part: run for part, run in battery.SUITES["bits"].items() if not part.startswith("flush")}
CODED = {f"coded {part}": run for part, run in battery.SUITES["bits-all-coded"].items()}
STAGES = {f"stages {part}": run for part, run in battery_stages.PARTS.items() if not part.startswith("flush")}
PARTS: dict[str, Callable[[], dict[str, Any]]] = {**BITS, **CODED, **STAGES}


def run(part: str) -> list[str]:
    """What differs from the oracle, in words."""
    with on_device(), np.errstate(all="ignore"):
        wrong: list[str] = PARTS[part]()["wrong"]
    return wrong
