"""What all optimizers share: parameters and groups, state, the walk of a step, state dictionaries."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, NoReturn, SupportsIndex, Unpack

import numpy as np
from numpy.typing import NDArray

from stepsmith import _check, _core
from stepsmith._backend import as_device, assign, device_of, on_device, one_core, one_device
from stepsmith.optim import _state_dict, _torch
from stepsmith.optim._arrays import Arrays, Wanted
from stepsmith.optim._groups import Check, Group, Held, Params, checked, evaluate, make_groups, params_on, refuse_copy
from stepsmith.optim._options import Masks, Options, StepOptions, mask_arrays, mask_bits
from stepsmith.optim._partition import Cohort, Numbers, Partition, Plan
from stepsmith.optim._vectors import match
from stepsmith.schedules.base import adopt

__all__ = ["Optimizer", "StepInfo", "StepOptions"]

Array = NDArray[Any]
Grads = Mapping[str, Array | None] | Iterable[Array | None]


class StepInfo(NamedTuple):
    """What a step did."""

    grad_norm: float | None
    """Norm of all gradients divided by |grad_scale|; None if it was not computed, or the step was skipped."""
    skipped: bool
    """The gradients were not finite and nothing changed (``on_nonfinite="skip"``)."""
    lr: tuple[float, ...]
    """Learning rate of each group."""
    step: int
    """Updates made so far, this one included unless it was skipped."""


class Optimizer(ABC):
    """Walks over parameters, groups and state; a subclass says its hyperparameters, state and scalars.

    Args:
        params: mapping name → array, sequence of arrays, or sequence of groups ``{"params": ..., "lr": ...}``. Arrays
            are NumPy's or CuPy's, all on one device, float32, float64, bfloat16 or float16, writable, of any strides,
            and change in place.
        hyperparameters: the defaults of all groups; a number may be a schedule, evaluated and checked at each step.
        options: what is folded into the step and how state is kept; see `StepOptions`.
    """

    name: ClassVar[str]
    """Key in the registry and name of the rule in the core."""
    torch_names: ClassVar[Mapping[str, str] | None] = None
    """For each state slot PyTorch's name of it, and "step" if PyTorch counts steps; None if it lacks the optimizer."""
    torch_scalars: ClassVar[Mapping[str, Callable[[Mapping[str, Any], int], float]]] = {}
    """Numbers that PyTorch keeps for a tensor and we compute: its name → function of group and steps made."""
    checks: ClassVar[Mapping[str, Check]]
    """For each hyperparameter the check that its value must pass."""
    slots: ClassVar[tuple[str, ...]]
    """Names of the rule's state arrays."""
    hidden: ClassVar[frozenset[str]] = frozenset()
    """Those of them that mean nothing between steps, and so are neither shown nor saved."""
    means: ClassVar[frozenset[str]] = frozenset()
    """Those of them that are means over an axis of the parameter; the others have its shape."""
    carried: ClassVar[Mapping[str, float]] = {}
    """Float64 numbers that a tensor carries from update to update: name → value before the first.

    They stand in `state_dict` among a tensor's state, as arrays without axes; `state` has the arrays of `slots` alone.
    """
    modes: ClassVar[tuple[str, ...]] = ()
    """What the parameters may hold, if there is a choice; they can be stepped in the first mode."""

    def __init__(
        self,
        params: Params,
        hyperparameters: Mapping[str, Any],
        **options: Unpack[StepOptions],
    ) -> None:
        owner = self._owner = type(self).__name__
        self._options = Options.of(owner, options)
        defaults = self._checked(hyperparameters)
        self.groups: tuple[Group, ...] = ()
        arrays: dict[str, Array] = {}
        given: dict[str, Group] = {}
        for named, own in make_groups(owner, params):
            values = {**defaults, **self._checked(own)}
            self._check_together(values)
            self.groups += (Group(tuple(named), values, self._set_values),)
            arrays |= named
            given |= dict.fromkeys(named, self.groups[-1])
        self.params: Mapping[str, Array] = MappingProxyType(arrays)
        self._core = one_core(owner, {f"params[{name!r}]": param for name, param in arrays.items()})
        self.device = one_device(owner, {f"params[{name!r}]": param for name, param in arrays.items()})
        """Where the parameters are: "cpu", "cuda:0" and so on."""
        with nullcontext() if self.device == "cpu" else on_device(self.device):
            self._make_state(given)
        self._bound_present: tuple[bool, ...] | None = None
        first = tuple(self.carried.values())
        self._set_steps([0] * len(arrays), [first] * len(arrays), (True,) * len(arrays))

    # What a subclass says.

    @abstractmethod
    def _scalars(self, group: Mapping[str, Any], lr: float, step: int, carried: tuple[float, ...]) -> tuple[float, ...]:
        """The rule's scalars of update `step` (from 1), in float64 and in the order that the core wants.

        `group` has numbers in place of schedules, `carried` is what `_carry` gave for this update.
        """

    def _carry(
        self,
        group: Mapping[str, Any],
        lr: float,
        step: int,
        carried: tuple[float, ...],
    ) -> tuple[float, ...]:
        """The carried scalars with update `step` taken into account, from those before it."""
        return carried

    def _initial(self, slot: str, param: Array, group: Mapping[str, Any]) -> float | Array | None:
        """What a state array holds before the first update; None for zeros."""
        return None

    def _slots_of(self, group: Mapping[str, Any]) -> frozenset[str]:
        """State arrays that these hyperparameters need."""
        return frozenset(self.slots)

    def _shape_of(self, slot: str, param: Array) -> tuple[int, ...] | None:
        """Shape of a state array; None if this parameter does without."""
        return param.shape

    def _rehearse(  # noqa: B027
        self, grads: list[Array | None] | None, present: tuple[bool, ...], numbers: Numbers | Plan, grad_scale: float
    ) -> None:
        """Comes before each update and prepares hidden arrays for it; must change nothing else.

        `numbers` are those of the update, or on a GPU what says those of any.
        """

    def _check_together(self, group: Mapping[str, Any]) -> None:  # noqa: B027
        """Rules about several hyperparameters of a group."""

    # Hyperparameters and state.

    def _checked(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return checked(self._owner, self.checks, values)

    def _set_values(self, group: Group, values: dict[str, Any]) -> None:
        """Sets hyperparameters of a group, all or none."""
        if "params" in values:
            raise ValueError(f"{self._owner}: group['params'] must stay, got another value")
        merged = {**group.values_now, **self._checked(values)}
        self._check_together(merged)
        if self._slots_of(merged) != self._slots_of(group.values_now):
            changed = ", ".join(f"{key}={value!r}" for key, value in values.items())
            rule = "hyperparameters that decide which state exists must stay as they were at construction"
            raise ValueError(f"{self._owner}: {rule}, got {changed}")
        group.hold(merged)

    def _values(self, group: Group, updates: int) -> Mapping[str, Any]:
        """Hyperparameters of the update after so many, schedules as their values, which are checked."""
        values, scheduled = group.held
        if not scheduled:
            return values
        owner, checks = self._owner, self.checks
        return {**values, **{key: evaluate(owner, checks, key, values[key], updates) for key in scheduled}}

    def _make_state(self, given: Mapping[str, Group]) -> None:
        options, params = self._options, self.params
        options.check_params(params)
        options.check_slots(self.slots)
        masks = mask_bits(self._owner, params, options.masks)
        wanted = [want for name in params for want in self._wanted(name, given[name])]
        arrays = self._arrays = Arrays(options, params, wanted)
        rows = [arrays.row(name, self.slots) for name in params]
        try:
            self._stepper: _core.Stepper = self._core.Stepper(
                self._owner, self.name, list(params), rows, options.settings(arrays.mapping)
            )
        except BaseException:
            arrays.discard()
            raise
        self._stepper.set_masks(masks)
        self._masks = masks
        arrays.fill_shadows()
        self.state: Mapping[str, Mapping[str, Any]] = arrays.shown()

    def _wanted(self, name: str, group: Group) -> Iterator[Wanted]:
        """The state arrays of a parameter."""
        param, slots, values = self.params[name], self._slots_of(group.values_now), self._values(group, 0)
        for slot in self.slots:
            shape = self._shape_of(slot, param)
            if slot in slots and shape is not None:
                initial = self._initial(slot, param, values)
                yield Wanted(name, slot, shape, initial, slot in self.hidden, slot in self.means)

    @property
    def on_nonfinite(self) -> str:
        """What a gradient that is not finite does, as the optimizer was told."""
        return self._options.on_nonfinite

    @property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """The masks that hold from the next step, as copies; parameters that keep every weight may have none.

        They are arrays of NumPy, also of an optimizer on a GPU.
        """
        return mask_arrays(self.params, self._masks)

    def set_masks(self, masks: Masks | None, at_once: bool = False) -> None:
        """Says anew which weights are pruned; holds from the next step, which zeroes them and their state.

        Args:
            masks: name → boolean array of the parameter's shape, False where a weight is pruned; parameters without a
                mask, or all with None, keep every weight. The arrays are copied, as bits.
            at_once: zero pruned weights and all that is theirs now: state, moving average, master and shadow copies.

        Raises:
            TypeError, ValueError: another name, dtype or shape; nothing has changed then.
            RuntimeError: a step of this optimizer is running.
        """
        at_once = _check.boolean(self._owner, "at_once", at_once)
        bits = mask_bits(self._owner, self.params, masks)
        self._stepper.set_masks(bits)
        self._masks = bits
        if at_once:
            self._stepper.exclusive(lambda: self._arrays.prune(self.masks))

    # The step.

    def bind(self, grads: Grads | None) -> None:
        """Fixes the gradient arrays, so that ``step()`` needs none: their contents may change, the arrays may not.

        Args:
            grads: mapping by name or sequence in parameter order; None in it skips its tensor. None alone forgets all.

        Raises:
            TypeError, ValueError: as `step`.
        """
        matched = None if grads is None else self._matched(grads)
        self._stepper.bind(matched)
        self._bound_present = None if matched is None else tuple(grad is not None for grad in matched)

    def step(self, grads: Grads | None = None, grad_scale: float = 1.0) -> StepInfo:
        """Updates parameters and state in place, all or nothing.

        Args:
            grads: mapping by name or sequence in parameter order, float32, float64, bfloat16 or float16, any layout,
                read-only or broadcast too. A gradient that is None skips its tensor. Default: the arrays of `bind`.
            grad_scale: what the loss was multiplied by; gradients are divided by it. Finite and not 0.

        Returns:
            Norm of the gradients (if it was needed), whether the step was skipped, learning rates, number of updates.
            On a GPU the step is launched and nobody waits; the first look at what was returned does.

        Raises:
            NonFiniteError: a gradient is NaN or infinite in its parameter's compute type, or their norm overflows. On a
                GPU it is raised by the next step that knows of it, or a look at what this one returned; until then
                steps do nothing.
            ValueError: names or shapes that do not fit, arrays that share elements or changed since they were bound.
            TypeError: arrays of another kind or dtype.
            RuntimeError: no gradients, or another step of this optimizer is running; on a GPU, a step that is recorded
                into a CUDA graph and would bring something to the device.
        """
        if grads is None:
            matched, present = None, self._bound_present
            if present is None:
                raise RuntimeError(f"{self._owner}: step() needs gradients: pass them, or bind(grads) first")
        else:
            matched = self._matched(grads)
            present = tuple([grad is not None for grad in matched])
        if grad_scale != 1.0 and _check.number(self._owner, "grad_scale", grad_scale) == 0.0:
            raise ValueError(f"{self._owner}: grad_scale must not be 0, got {grad_scale!r}")
        if present != self._partition.present:
            self._set_steps(self._steps(), self._carried(), present)
        if self.device != "cpu":
            return self._launch(matched, present, grad_scale)
        numbers = self._numbers()
        updates, stepper = numbers.moment[0], self._stepper
        try:
            self._rehearse(matched, present, numbers, grad_scale)
            norm = stepper.step(matched, numbers.moment, numbers.scalars, numbers.signs, numbers.carried, grad_scale)
        except _core.NonFiniteError:
            if self._options.on_nonfinite == "skip":
                return StepInfo(None, True, numbers.lrs, updates)
            raise
        return StepInfo(norm, False, numbers.lrs, updates + 1)

    def _launch(self, grads: list[Array | None] | None, present: tuple[bool, ...], grad_scale: float) -> StepInfo:
        """The step on a GPU, which counts updates itself: it is told the numbers of any."""
        plan = self._plan()
        self._rehearse(grads, present, plan, grad_scale)
        stepper: Any = self._stepper
        info: StepInfo = stepper.step(grads, plan, float(grad_scale))
        return info

    def _plan(self) -> Plan:
        held, partition = tuple([group.held for group in self.groups]), self._partition
        return Plan(partial(self._numbers_of, partition), partial(self._lrs_of, held), held, partition.setting)

    def refill(self) -> None:
        """Prepares the next 256 replays of a step that was recorded into a CUDA graph; nothing on a CPU.

        A replay takes the hyperparameters of its update from a table on the device, which ends 256 updates after the
        last call. A step past it does nothing, and the next call of `refill` or `step` is a RuntimeError. What was set
        in ``groups`` since then holds from here on. Waits for the device, as each `step` does from the first recording
        on: replays count updates unseen. A recording works as long as this optimizer exists.

        Raises:
            NonFiniteError: a replay met a gradient that is not finite (``on_nonfinite="raise"``).
            RuntimeError: a replay was past the table.
        """
        if self.device != "cpu":
            stepper: Any = self._stepper
            stepper.refill(self._plan())

    def _lrs_of(self, held: Iterable[Held], updates: int) -> tuple[float, ...]:
        """Learning rates of the update after so many."""
        return tuple([evaluate(self._owner, self.checks, "lr", values["lr"], updates) for values, _ in held])

    def _numbers(self) -> Numbers:
        """What the coming update says for each cohort."""
        partition, stepper = self._partition, self._stepper
        updates, before = stepper.now(partition.setting) if self.carried else (stepper.updates, ())
        return self._numbers_of(partition, updates, before)

    def _numbers_of(self, partition: Partition, updates: int, before: Sequence[float]) -> Numbers:
        """What the update after so many says for each cohort, `before` being what they carry into it."""
        width = len(self.carried)
        groups = [self._values(group, updates) for group in self.groups]
        lrs = tuple([values["lr"] for values in groups])
        scalars: list[float] = []
        signs: list[float] = []
        after: list[float] = []
        for k, cohort in enumerate(partition.cohorts):
            values, lr = groups[cohort.group], lrs[cohort.group]
            step = (cohort.offset + updates if cohort.active else cohort.offset) + 1
            carried: tuple[float, ...] = ()
            if width:
                old = tuple(before[k * width : (k + 1) * width])
                carried = self._carry(values, lr, step, old)
                after += carried if cohort.active else old
            scalars += self._scalars(values, lr, step, carried)
            signs.append(-1.0 if values["maximize"] else 1.0)
        return Numbers(lrs, scalars, signs, after, (updates, partition.setting))

    def _matched(self, grads: Grads) -> list[Array | None]:
        """The gradients in parameter order; the core checks kind, dtype and shape."""
        return match(self._owner, self.params, grads)

    # Step counts.

    def _steps(self) -> list[int]:
        partition, updates = self._partition, self._stepper.updates
        counts = [cohort.offset + updates * cohort.active for cohort in partition.cohorts]
        return [counts[cohort] for cohort in partition.cohort_of]

    def _carried(self) -> list[tuple[float, ...]]:
        """For each tensor its carried scalars."""
        partition, width = self._partition, len(self.carried)
        _, carried = self._stepper.now(partition.setting)
        return [tuple(carried[k * width : (k + 1) * width]) for k in partition.cohort_of]

    def _set_steps(self, steps: list[int], carried: list[tuple[float, ...]], present: tuple[bool, ...]) -> None:
        """Tells the core anew which tensors share a step's scalars."""
        cohorts, cohort_of, numbers = self._sorted(steps, carried, present, self._stepper.updates)
        setting = self._stepper.set_cohorts(cohort_of, numbers)
        self._partition = Partition(cohorts, cohort_of, present, setting)

    def _sorted(
        self, steps: list[int], carried: list[tuple[float, ...]], present: tuple[bool, ...], updates: int
    ) -> tuple[list[Cohort], list[int], list[float]]:
        """Cohorts by group, step count, whether they take part, and what they carry; each tensor's; what they carry."""
        group_of = (i for i, group in enumerate(self.groups) for _ in group.names)
        tensors = zip(group_of, steps, present, carried)
        keys = [(i, step - updates * active, active, numbers) for i, step, active, numbers in tensors]
        index = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        numbers = [number for *_, numbers in index for number in numbers]
        return [Cohort(*key[:3]) for key in index], [index[key] for key in keys], numbers

    # State dictionaries.

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs, as JSON values and copies of arrays.

        ``{"version", "optimizer", "groups", "steps": {name: int}, "state": {name: {slot: array}}}``; a schedule stands
        as its name and arguments; each group holds its parameters' names, its hyperparameters and ``"step"``, the
        updates made. Scalars that a tensor carries from update to update stand among its state, as float64 arrays
        without axes. A RuntimeError if a step of this optimizer is running.
        """
        return self._stepper.exclusive(self._dump)

    def _dump(self) -> dict[str, Any]:
        steps, carried = dict(zip(self.params, self._steps())), dict(zip(self.params, self._carried()))
        return _state_dict.dump(self, steps, self._stepper.updates, carried)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave: state, step counts and hyperparameters, copied into the arrays that exist.

        Raises:
            ValueError: names, shapes, dtypes or hyperparameters differ (all are listed); nothing has changed then.
            RuntimeError: a step of this optimizer is running.
        """
        loaded = _state_dict.load(self, self._arrays.kept, state_dict)
        steps, now = [loaded.steps[name] for name in self.params], self._partition
        cohorts, cohort_of, numbers = self._sorted(steps, loaded.carried, now.present, loaded.updates)
        then = Partition(cohorts, cohort_of, now.present, now.setting + 1)
        # A partial has no line of Python at which an interrupt could part the core's numbers from ours.
        commit, moment = partial(setattr, self, "_partition", then), (loaded.updates, then.setting)
        self._stepper.restore(lambda: self._take_back(loaded), commit, moment, loaded.mode, cohort_of, numbers)
        if loaded.masks is not None:
            self.set_masks(loaded.masks)

    def _take_back(self, loaded: _state_dict.Loaded) -> None:
        for target, source in loaded.copies:
            assign(target, source)
        for group, values in zip(self.groups, loaded.groups):
            group.hold({key: adopt(group[key], value) for key, value in values.items()})
        self._arrays.follow()

    def clone(self, params: Mapping[str, Array]) -> "Optimizer":
        """An optimizer of the same kind, settings, groups and state over other arrays.

        Args:
            params: an array for each name of this one, of the same shape and dtype; all may be on another device.

        Returns:
            It, with state of its own: in memory where this one's is in a file, shadow copies of its own.

        Raises:
            ValueError: a name that is missing, or arrays that do not fit.

        Example:
            >>> w = np.array([1.0, 2.0])
            >>> opt = ss.optim.SGD({"w": w}, lr=0.1, momentum=0.9)
            >>> twin = opt.clone({"w": w.copy()})
            >>> info = twin.step({"w": np.ones(2)})
            >>> w.tolist(), twin.params["w"].tolist()
            ([1.0, 2.0], [0.9, 1.9])
        """
        missing = [name for name in self.params if name not in params]
        if missing:
            raise ValueError(f"{self._owner}: clone must be given all of {list(self.params)}, got none for {missing}")
        groups = [
            {"params": {name: params[name] for name in group.names}, **copy.deepcopy(group.values_now)}
            for group in self.groups
        ]
        device = device_of(next(iter(params.values())))
        twin: Optimizer = type(self)(groups, **self._options.of_clone(device), masks=self.masks or None)
        twin.load_state_dict(self.state_dict())
        return twin

    def to(self, device: str, params: Mapping[str, Array] | None = None) -> "Optimizer":
        """An optimizer of the same kind, settings, groups, state and step counts on another device, bit for bit.

        Args:
            device: "cpu", "cuda" for CuPy's current device, or "cuda:0" and so on.
            params: an array there for each name; without them copies of this one's parameters.

        Returns:
            It; ``params`` of it are the arrays that it steps.

        Raises:
            TypeError, ValueError, ImportError, RuntimeError: another name or array, or no such device.

        Example:
            >>> opt = ss.optim.SGD({"w": np.array([1.0, 2.0])}, lr=0.1, momentum=0.9)
            >>> info = opt.step({"w": np.ones(2)})
            >>> there = opt.to("cpu")
            >>> info = there.step({"w": np.ones(2)})
            >>> opt.params["w"].tolist(), there.params["w"].round(2).tolist(), there.device
            ([0.9, 1.9], [0.71, 1.71], 'cpu')
        """
        return self.clone(params_on(self._owner, as_device(self._owner, device), self.params, params))

    def _on_host(self) -> "Optimizer":
        """Itself, or one with the same state in memory of the host."""
        return self if self.device == "cpu" else self.to("cpu")

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse_copy(self._owner)

    def to_torch_state_dict(self, model: Any) -> dict[str, Any]:
        """The state as ``torch.optim.X.load_state_dict`` takes it, X being PyTorch's optimizer of this name.

        Names of parameters must be those of the model, or their positions in it ("0", "1", ...). PyTorch's optimizer
        must have its groups in the order of ours, the parameters of each in the model's order. A schedule becomes its
        value at the next update. State in bfloat16 becomes float32; the parameters' own values are not part of it.

        Args:
            model: a ``torch.nn.Module``, or another object with its ``named_parameters()``.

        Returns:
            ``{"state": {index: {name: tensor}}, "param_groups": [...]}``, all of it copies.

        Raises:
            ImportError: PyTorch is missing.
            ValueError: PyTorch lacks the optimizer or a setting; names or shapes are not the model's.
        """
        return _torch.to_torch(self._on_host(), model)

    def load_torch_state_dict(self, state_dict: Mapping[str, Any], model: Any) -> None:
        """Takes what ``torch.optim.X.state_dict()`` gave: state, step counts and hyperparameters.

        The count of updates becomes the largest step. PyTorch's SGD counts none: 1 where it has a momentum buffer.

        Args:
            state_dict: of PyTorch's optimizer of this name, with groups and parameters as in `to_torch_state_dict`.
            model: as there.

        Raises:
            ImportError: PyTorch is missing.
            ValueError: as `load_state_dict`; nothing has changed then.
        """
        self.load_state_dict(_torch.from_torch(self._on_host(), state_dict, model))

    def sweeper(self, grads: Grads) -> Callable[[], None]:
        """A function with a step's memory traffic and next to no arithmetic, for benchmarks; it spoils every array."""
        self.bind(grads)
        return self._stepper.sweep
