"""The arrays that an optimizer owns: the rule's state, master copies, moving averages, shadow copies."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from stepsmith._backend import assign, core_of, device_of, is_on_gpu, moved
from stepsmith.optim._codes import fill, part_slot, scheme_of, zero_code
from stepsmith.optim._options import Options
from stepsmith.optim._slab import FILE, Spec, allocate, map_file, place, state_dtype_of, wide_dtype_of
from stepsmith.quant import QuantizedArray
from stepsmith.quant._scheme import CodecScheme, kept_dtype

__all__ = ["Arrays", "Wanted"]

Array = NDArray[Any]


class Wanted(NamedTuple):
    """A state array of the rule."""

    name: str
    slot: str
    shape: tuple[int, ...]
    initial: float | Array | None
    """None for zeros."""
    hidden: bool
    mean: bool
    """Means of the parameter's axes: in C order, whatever the parameter's."""


def _copy(pairs: Sequence[tuple[Array, Array]]) -> None:
    """``target[...] = source`` for each pair, rounded as in a step: to 16 bits by way of float32."""
    if pairs and is_on_gpu(pairs[0][0]):
        targets, sources = zip(*pairs)
        core_of(targets[0]).assign("copy", ["target"] * len(pairs), targets, 1.0, sources)
        return
    with np.errstate(over="ignore"):
        for target, source in pairs:
            target[...] = source.astype(np.float32, copy=False) if target.dtype.itemsize == 2 else source


def _set(target: Array, value: float | Array) -> None:
    """``target[...] = value``, an array that is where the target is, or a number."""
    if getattr(value, "shape", ()) == target.shape and is_on_gpu(value):
        _copy([(target, value)])  # type: ignore[list-item] # it is an array
    elif is_on_gpu(target):
        assign(target, np.asarray(value, target.dtype))
    else:
        target[...] = value


def _as_bits(array: Array) -> Array:
    """The array, one of 16 bits as integers: a zero has no bit, and CuPy knows integers better than bfloat16."""
    return array.view(np.uint16) if array.dtype.itemsize == 2 else array


class Arrays:
    """Makes all of them and keeps them by name and slot."""

    def __init__(self, options: Options, params: Mapping[str, Array], wanted: Sequence[Wanted]) -> None:
        self._options, self._params = options, params
        self._hidden = {(want.name, want.slot) for want in wanted if want.hidden}
        self._means = {(want.name, want.slot) for want in wanted if want.mean}
        self._schemes = {(want.name, want.slot): scheme for want in wanted if (scheme := self._scheme(want))}
        self._coded_dtypes: dict[tuple[str, str], np.dtype[Any]] = {}
        specs: dict[tuple[str, str], Spec] = {}
        for want in wanted:
            param = params[want.name]
            if scheme := self._schemes.get((want.name, want.slot)):
                for part, (shape, dtype) in scheme.parts(want.shape).items():
                    specs[want.name, part_slot(want.slot, part)] = Spec(shape, kept_dtype(dtype, param))
                    self._coded_dtypes[want.name, part_slot(want.slot, part)] = dtype
                continue
            dtype = wide_dtype_of(param) if want.hidden else state_dtype_of(param, options.state_dtype)
            like = None if want.mean else param
            specs[want.name, want.slot] = Spec(want.shape, dtype, like)
        for name, param in params.items():
            specs |= {(name, slot): Spec(param.shape, dtype, param) for slot, dtype in self._copies_of(param)}
        self._all = self._made(specs)
        for want in wanted:
            if (want.name, want.slot) in self._schemes:
                fill(self.coded(want.name, want.slot), want.initial)
            elif want.initial is not None:
                _set(self._all[want.name, want.slot], want.initial)
        _copy([(array, params[name]) for (name, slot), array in self._all.items() if slot in {"master", "ema"}])
        for (name, slot), array in self._all.items():
            if slot == "ema" and options.masks and name in options.masks:
                array[~moved(options.masks[name], device_of(array))] = 0

    def _made(self, specs: Mapping[tuple[str, str], Spec]) -> dict[tuple[str, str], Array]:
        """In memory; with a state directory all but what means nothing between steps in its file."""
        options = self._options
        self.mapping: tuple[int, int] | None = None
        """Address and bytes of the mapped file."""
        if options.state_dir is None:
            return dict(zip(specs, allocate(list(specs.values()), next(iter(self._params.values())))))
        inside = {key: spec for key, spec in specs.items() if key not in self._hidden}
        outside = {key: spec for key, spec in specs.items() if key in self._hidden}
        slab = map_file(options.owner, list(inside.values()), options.state_dir)
        self.mapping = slab.ctypes.data, slab.nbytes
        made = dict(zip(inside, place(list(inside.values()), slab)))
        return made | dict(zip(outside, allocate(list(outside.values()))))

    def _copies_of(self, param: Array) -> list[tuple[str, np.dtype[Any]]]:
        """Slots and types of the copies that this parameter has."""
        options, half = self._options, param.dtype.itemsize == 2
        copies = []
        if options.master and half:
            copies.append(("master", wide_dtype_of(param)))
        if options.ema is not None:
            copies.append(("ema", wide_dtype_of(param)))
        if isinstance(options.shadow, str) and not half:
            copies.append(("shadow", np.dtype(getattr(ml_dtypes, options.shadow, np.float16))))
        return copies

    def _scheme(self, want: Wanted) -> CodecScheme | None:
        """The scheme of a state array that has codes."""
        is_small = self._params[want.name].size < self._options.min_8bit_size
        return None if is_small or want.hidden else scheme_of(self._options.state_dtype, want.slot)

    def coded(self, name: str, slot: str) -> QuantizedArray:
        """A state array that has codes."""
        scheme, shape = self._schemes[name, slot], self._params[name].shape
        parts = {part: self._all[name, part_slot(slot, part)].view() for part in scheme.parts(shape)}
        return QuantizedArray(scheme, shape, parts)

    @property
    def kept(self) -> dict[tuple[str, str], Array]:
        """What is saved."""
        return {key: array for key, array in self._all.items() if key not in self._hidden}

    def shadow(self, name: str) -> Array | None:
        """The shadow copy, ours or the user's."""
        given = self._options.shadow
        return given.get(name) if isinstance(given, Mapping) else self._all.get((name, "shadow"))

    def worked_on(self, name: str) -> tuple[Array, Array | None]:
        """What the rule works on, and its low-precision copy: master and parameter, or parameter and shadow."""
        master = self._all.get((name, "master"))
        return (self._params[name], self.shadow(name)) if master is None else (master, self._params[name])

    def row(self, name: str, slots: Sequence[str]) -> dict[str, object]:
        """The arrays of a parameter as the core takes them."""
        return {
            "param": self._params[name],
            "master": self._all.get((name, "master")),
            "state": [self._state_row(name, slot) for slot in slots],
            "ema": self._all.get((name, "ema")),
            "shadow": self.shadow(name),
        }

    def _state_row(self, name: str, slot: str) -> object:
        scheme = self._schemes.get((name, slot))
        if scheme is None:
            return self._all.get((name, slot))
        q = self.coded(name, slot)
        return scheme.codec()[0], q.codes.reshape(-1).view(np.uint8), q.scales

    def discard(self) -> None:
        """Takes the file away again, if there is one."""
        if self._options.state_dir is not None:
            (Path(self._options.state_dir) / FILE).unlink(missing_ok=True)

    def follow(self) -> None:
        """Brings parameters with a master copy, and shadow arrays of the user's own, to what a load brought back."""
        masters = [(param, self._all.get((name, "master"))) for name, param in self._params.items()]
        _copy([(param, master) for param, master in masters if master is not None])
        if isinstance(self._options.shadow, Mapping):
            self.fill_shadows()

    def fill_shadows(self) -> None:
        """Shadow copies of the parameters before the first step, rounded as a step does: by way of float32."""
        pairs = [(self.shadow(name), param) for name, param in self._params.items()]
        _copy([(shadow, param) for shadow, param in pairs if shadow is not None])

    def prune(self, masks: Mapping[str, NDArray[np.bool_]]) -> None:
        """Zeroes what belongs to a pruned weight: parameter, copies and state; a mean belongs to no single one."""
        parts = {(name, part_slot(slot, "scales")) for name, slot in self._schemes}
        for name, mask in masks.items():
            pruned = ~moved(mask, device_of(self._params[name]))
            for array in (self._params[name], self.shadow(name)):
                if array is not None:
                    _as_bits(array)[pruned] = 0
            for key in [key for key in self.kept if key[0] == name and key not in parts | self._means]:
                scheme, array = self._schemes.get(key), self._all[key]
                if scheme is None:
                    _as_bits(array)[pruned] = 0
                else:
                    array[pruned] = zero_code(scheme, array.dtype)

    def saved_dtype(self, key: tuple[str, str]) -> np.dtype[Any]:
        """The type under which an array is saved: that of codes may be one that a GPU does not know."""
        return self._coded_dtypes.get(key, self._all[key].dtype)

    def hidden(self, slot: str) -> dict[str, Array]:
        """Name → array of a slot that is not shown."""
        return {name: self._all[name, slot] for name, which in self._all if which == slot}

    def rows(self) -> dict[str, dict[str, Array]]:
        """Name → slot → array of what is saved; of a state array that has codes, these and its scales."""
        rows: dict[str, dict[str, Array]] = {name: {} for name in self._params}
        for (name, slot), array in self.kept.items():
            rows[name][slot] = array
        return rows

    def shown(self) -> Mapping[str, Mapping[str, Array | QuantizedArray]]:
        """Views for users, so that no change of a view's shape reaches the arrays that the core follows unseen."""
        parts = {(name, part_slot(slot, "scales")) for name, slot in self._schemes}
        rows: dict[str, dict[str, Array | QuantizedArray]] = {name: {} for name in self._params}
        for (name, slot), array in self.kept.items():
            if (name, slot) in self._schemes:
                rows[name][slot] = self.coded(name, slot)
            elif (name, slot) not in parts:
                rows[name][slot] = array.view()
        return MappingProxyType({name: MappingProxyType(row) for name, row in rows.items()})
