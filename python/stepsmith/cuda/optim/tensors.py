"""The arrays that a step writes, checked once, and the rows that gradients make of them."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from stepsmith import _core
from stepsmith.cuda._arrays import DTYPES
from stepsmith.cuda.optim.places import Order, Place, alignment, check, order_of, place_of
from stepsmith.cuda.optim.structs import CODECS, EMA, OPERANDS, ROW, SHADOW, STATE

__all__ = ["Tensors", "Written"]

GRAD = 1


class Written(NamedTuple):
    """The arrays of one parameter that a step writes."""

    operands: tuple[Any, ...]
    """In the order of a row, None where there is none; the gradient's place is empty."""
    coded: tuple[Any, ...]
    """For each state array its codec, codes and scales, or None."""
    means: tuple[Any, Any] | None
    """Of rows and columns, if they stand for the second moment."""
    has_master: bool

    @classmethod
    def of(cls, arrays: Mapping[str, Any], has_means: bool) -> "Written":
        """From what an optimizer keeps of a parameter."""
        param, master, state = arrays["param"], arrays["master"], list(arrays["state"])
        means = (state[0], state[1]) if has_means else None
        if means:
            state[:2] = [None, None]
        state += [None] * (EMA - STATE - len(state))
        plain = [None if isinstance(array, tuple) else array for array in state]
        coded = tuple(array if isinstance(array, tuple) else None for array in state)
        shadow = arrays["shadow"] if master is None else param
        first = param if master is None else master
        return cls((first, None, *plain, arrays["ema"], shadow), coded, means, master is not None)


class Tensors:
    """The tensors of one optimizer. No element is written twice."""

    def __init__(
        self, owner: str, rule: str, names: Sequence[str], arrays: Sequence[Mapping[str, Any]], counted: bool
    ) -> None:
        self.owner, self.names = owner, names
        self.slots, _ = _core.rules()[rule]
        self.measures, factored = _core.traits()[rule]
        self.params = [own["param"] for own in arrays]
        self._counted = counted or self.measures
        self.written = [Written.of(own, factored and own["param"].ndim > 1) for own in arrays]
        named = [pair for name, written in zip(names, self.written) for pair in self._named(name, written)]
        for name, array in named:
            if not name.endswith((".codes", ".scales")):
                check(owner, name, array, self.params[0])
        self._territory = _core.Territory(owner, [name for name, _ in named], [place_of(array) for _, array in named])
        self._places = [[None if x is None else place_of(x) for x in written.operands] for written in self.written]
        self.base = np.zeros(len(names), ROW)
        for row, written in zip(self.base, self.written):
            self._fill(row, written)

    def _named(self, name: str, written: Written) -> list[tuple[str, Any]]:
        """The arrays with the names that messages give them."""
        state = [f"state['{name}']['{slot}']" for slot in (*self.slots, *[""] * OPERANDS)][: EMA - STATE]
        param = f"params['{name}']"
        first = f"state['{name}']['master']" if written.has_master else param
        last = param if written.has_master else f"shadow['{name}']"
        named = zip((first, "", *state, f"state['{name}']['ema']", last), written.operands)
        pairs = [(what, array) for what, array in named if array is not None]
        pairs += zip(state, written.means or ())
        for what, coded in zip(state, written.coded):
            if coded is not None:
                pairs += [(f"{what}.codes", coded[1]), (f"{what}.scales", coded[2])]
        return pairs

    def _fill(self, row: Any, written: Written) -> None:
        """What a row has whatever its gradient."""
        param = written.operands[0]
        row["len"] = param.size
        row["unit"] = max(1, param.size // param.shape[0] if param.ndim > 1 and param.shape[0] else param.size)
        row["dtypes"] = [0 if array is None else DTYPES[array.dtype] for array in written.operands]
        row["compute"] = 2 if param.dtype == np.float64 else 1
        for k, coded in enumerate(written.coded):
            if coded is not None:
                codec, codes, scales = coded
                row["codecs"][k], row["codes"][k], row["scales"][k] = CODECS[codec], codes.data.ptr, scales.data.ptr
        if written.means:
            rows, columns = written.means
            row["means"] = rows.data.ptr, columns.data.ptr
            row["mean_dtype"] = DTYPES[rows.dtype]
            *outer, row["height"], row["width"] = param.shape
            row["count"] = prod(outer)

    # Gradients.

    def refuse_shared(self, names: Sequence[str], places: Sequence[Place]) -> None:
        """Fails if a gradient shares an element with an array that is written."""
        self._territory.refuse_shared(names, places)

    def counts(self, k: int, masked: bool) -> bool:
        """Is each element of the tensor known by its place in C order?"""
        return self._counted or masked or any(coded is not None for coded in self.written[k].coded)

    def order(self, k: int, grad: Place, masked: bool) -> Order:
        """How the arrays of a tensor are visited with such a gradient."""
        places = [*self._places[k]]
        places[GRAD] = grad
        return order_of(places, not self.counts(k, masked))

    def is_plain(self, k: int) -> bool:
        """May the tensor's rows take the short way, if its arrays' memory lets them?"""
        row = self.base[k]
        others = [row["dtypes"][EMA], row["dtypes"][SHADOW], *row["codes"], row["height"]]
        stored = {row["dtypes"][i] for i in (0, *range(STATE, EMA))} - {0}
        return not any(others) and stored == {row["compute"]}

    def quads(self, k: int, order: Order) -> int:
        """A bit for each array but the gradient that can be read four elements at a time."""
        bits = 0
        for i, place in enumerate(self._places[k]):
            if place is not None and order.dense[i] and (place[0] + order.starts[i]) % alignment(place[1]) == 0:
                bits |= 1 << i
        return bits

    def addresses(self, k: int, order: Order) -> list[int]:
        """Where each array but the gradient begins in that order, 0 where there is none."""
        pairs = zip(self._places[k], order.starts)
        return [0 if place is None else place[0] + start for place, start in pairs]
