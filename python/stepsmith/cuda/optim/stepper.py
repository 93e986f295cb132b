"""The object behind an optimizer whose arrays are on a GPU: tables made once, a launch or a few for each step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import Any, NoReturn, TypeVar

from stepsmith import _core
from stepsmith._backend import cupy
from stepsmith.cuda.optim.info import DeviceStepInfo
from stepsmith.cuda.optim.launches import Launches
from stepsmith.cuda.optim.problems import problem_of
from stepsmith.cuda.optim.record import Record, Reports
from stepsmith.cuda.optim.ring import Ring
from stepsmith.cuda.optim.settings import pass_of, scale_by
from stepsmith.cuda.optim.structs import RING
from stepsmith.cuda.optim.sweep import Sweep
from stepsmith.cuda.optim.table import Table
from stepsmith.cuda.optim.tensors import Tensors
from stepsmith.optim._partition import Plan

__all__ = ["Stepper"]

T = TypeVar("T")
Grads = Sequence[Any]


class Stepper:
    """As `_core.Stepper` but for `step`: it takes a plan of all updates, and returns what reads the device when asked.

    Nothing here waits for the device unless its documentation says so.
    """

    def __init__(
        self,
        owner: str,
        rule: str,
        names: Sequence[str],
        arrays: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
    ) -> None:
        self._owner, self._names, self._device = owner, list(names), arrays[0]["param"].device
        self._pass = pass_of(settings)
        self._lock = Lock()
        with self._alone():
            has_units = settings["agc"] is not None
            counted = has_units or settings["rounding_seed"] is not None
            self._tensors = Tensors(owner, rule, names, arrays, counted)
            self._table = Table(self._tensors, has_units, settings["zero_grads"])
            self._record, self._reports = Record(settings["skips"], settings["check_finite"]), Reports()
            self._record.fill(self._pass)
            self._launches = Launches(rule, self._pass)
        self.scalars: list[str] = _core.rules()[rule][1]
        self._ring = Ring(len(self.scalars))
        self._has_norm = settings["max_norm"] is not None
        self._bound: list[Any] | None = None
        self._there: list[Any] = []
        self._shapes: list[tuple[int, ...]] = []
        self._recorded: list[Any] = []
        self._sweep: Sweep | None = None
        self.mode = self._setting = 0

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """On the parameters' device, and no other call at the same time."""
        if not self._lock.acquire(blocking=False):
            raise self._busy()
        try:
            with self._device:
                yield
        finally:
            self._lock.release()

    def _busy(self) -> RuntimeError:
        return RuntimeError(f"{self._owner}: one step at a time, got a call while another step runs")

    @property
    def is_running(self) -> bool:
        """Is a step being launched right now, by another thread?"""
        return self._lock.locked()

    # What does not change from step to step.

    def set_masks(self, masks: Sequence[bytes | None]) -> None:
        """As `_core.Stepper.set_masks`."""
        with self._alone():
            self._table.set_masks(masks)

    def bind(self, grads: Grads | None) -> None:
        """As `_core.Stepper.bind`."""
        with self._alone():
            bound = None if grads is None else list(grads)
            if bound is not None:
                self._table.take(bound, is_bound=True)
            self._bound, self._there = bound, [grad for grad in bound or () if grad is not None]
            self._shapes = [grad.shape for grad in self._there]

    def set_cohorts(self, cohorts: Sequence[int], carried: Sequence[float]) -> int:
        """As `_core.Stepper.set_cohorts`; waits where the count of updates is uncertain."""
        with self._alone():
            self._begin(self._exact(), cohorts, carried)
            self._setting += 1
            return self._setting

    def _begin(self, updates: int, cohorts: Sequence[int], carried: Sequence[float]) -> None:
        self._table.set_cohorts(cohorts)
        self._ring.restart(updates, carried, max(cohorts, default=0) + 1)
        self._carries = len(carried) > 0

    # The count of updates.

    def _exact(self) -> int:
        if self._record.is_certain:
            return self._record.bounds()[0]
        self._refuse_recording("a count of updates that is read from the device")
        return int(self._record.read()["updates"])

    @property
    def updates(self) -> int:
        """Steps that were written so far; waits where that is uncertain."""
        with self._device:
            return self._exact()

    def now(self, setting: int) -> tuple[int, list[float]]:
        """As `_core.Stepper.now`; waits as `updates`."""
        if setting != self._setting:
            raise self._busy()
        updates = self.updates
        return updates, list(self._ring.before(updates))

    # The step.

    def step(self, grads: Grads | None, plan: Plan, grad_scale: float) -> DeviceStepInfo:
        """Launches a step with these gradients, or those that are bound."""
        with self._alone():
            lrs = self._prepare(grads, plan, grad_scale)
            report = self._reports.next()
            self._pass["report"], self._pass["only_rule"] = report.data.ptr, False
            is_recorded = self._is_recording()
            with nullcontext() if is_recorded else self._record.counting():
                self._launch()
            stream = cupy().cuda.get_current_stream()
        return DeviceStepInfo(report, stream, self._has_norm, lrs, self.refuse_problem, is_recorded)

    def rehearse(self, grads: Grads | None, plan: Plan, grad_scale: float) -> None:
        """Lets the rule write state that means nothing between steps, as the step that follows will read it."""
        with self._alone():
            self._prepare(grads, plan, grad_scale)
            self._pass["only_rule"] = True
            self._launch()

    def _prepare(self, grads: Grads | None, plan: Plan, grad_scale: float) -> Callable[[int], tuple[float, ...]]:
        """Brings to the device what it does not have yet; returns what says the learning rates of an update."""
        self._refuse_seen_problem()
        if self.mode != 0:
            message = "step() needs the parameters of training, call train() first"
            raise RuntimeError(f"{self._owner}: {message}")
        if plan.setting != self._setting:
            raise self._busy()
        scale_by(self._pass, grad_scale)
        if self._is_recording():
            self._prepare_recording(grads, plan)
            return plan.lrs
        self._take(grads)
        self._table.upload()
        self._table.fill(self._pass)
        lower, upper = self._prepare_scalars(plan)
        self._ring.fill(self._pass)
        return {updates: self._ring.numbers(updates).lrs for updates in range(lower, upper + 1)}.__getitem__

    def _take(self, grads: Grads | None) -> None:
        if grads is not None:
            self._table.take(grads)
            return
        if [grad.shape for grad in self._there] != self._shapes:
            self._refuse_changed()
        self._table.take(self._bound or [], is_bound=True)

    def _refuse_changed(self) -> NoReturn:
        names = [name for name, grad in zip(self._names, self._bound or []) if grad is not None]
        name = next(name for name, grad, shape in zip(names, self._there, self._shapes) if grad.shape != shape)
        rule = f"grads['{name}'] must stay as it was bound"
        raise ValueError(f"{self._owner}: {rule}, got another shape")

    def _prepare_scalars(self, plan: Plan) -> tuple[int, int]:
        """Brings the scalars of all updates that may be next to the device; returns the first and the last of them.

        Waits where so many steps may have been skipped that the table cannot hold all, or where new hyperparameters and
        numbers that are carried from update to update make the exact count necessary.
        """
        ring, record = self._ring, self._record
        lower, upper = record.bounds()
        if lower < upper and (upper - lower >= RING // 2 or (self._carries and not ring.holds(upper, plan))):
            record.read()
            lower, upper = record.bounds()
        ring.forget(record.oldest)
        ring.prepare(lower, upper, plan)
        return lower, upper

    def _launch(self) -> None:
        launches, table = self._launches, self._table
        if self._pass["is_examined"]:
            launches.examine(table)
        if self._pass["clips_units"]:
            launches.clip_units(table)
        if launches.measures:
            launches.measure(table)
        launches.write(table)

    def sweep(self) -> None:
        """As `_core.Stepper.sweep`."""
        with self._alone():
            self._take(None)
            self._sweep = self._sweep or Sweep(self._table, bool(self._pass["zeroes_grads"]))
            self._sweep.run()

    # What went wrong on the device.

    def _refuse_seen_problem(self) -> None:
        if self._record.has_problem:
            self._refuse_recording("a problem of an earlier step that must be told")
            self._raise_problem()

    def _raise_problem(self) -> None:
        control = self._record.read()
        if control["problem"]:
            updates = int(control["updates"])
            self._record.write(updates)
            self._ring.rewind(updates)
            raise problem_of(self._owner, self._names, [param.shape for param in self._tensors.params], control)

    def refuse_problem(self) -> None:
        """Raises what a step met that the host has not seen yet, once; waits for the steps on their way."""
        with self._device:
            self._raise_problem()

    # Recordings.

    def _is_recording(self) -> bool:
        return bool(cupy().cuda.get_current_stream().is_capturing())

    def _refuse_recording(self, what: str) -> None:
        if self._is_recording():
            rule = "a step that is recorded must find everything on the device"
            raise RuntimeError(f"{self._owner}: {rule}, got {what}: step once with the same arrays first")

    def _prepare_recording(self, grads: Grads | None, plan: Plan) -> None:
        """Fails unless all is on the device; what the recording uses stays there as long as the optimizer."""
        used = self._bound or [] if grads is None else grads
        for there, what in (
            (self._table.has(used), "other gradients"),
            (self._ring.has(plan), "other hyperparameters"),
            (self._reports.has_room, "no room for a report"),
        ):
            if not there:
                self._refuse_recording(what)
        self._table.fill(self._pass)
        self._ring.fill(self._pass)
        self._record.recorded()
        self._recorded += [self._table.kept, self._ring.kept, self._reports.kept]

    def refill(self, plan: Plan) -> None:
        """Waits for the device, and brings the scalars of the next 256 updates there; raises what went wrong."""
        with self._alone():
            self._raise_problem()
            updates = self._record.bounds()[0]
            self._ring.prepare(updates, updates, plan, RING)

    # State dictionaries.

    def exclusive(self, work: Callable[[], T]) -> T:
        """As `_core.Stepper.exclusive`; waits for the steps on their way."""
        with self._alone():
            self._record.wait()
            return work()

    def switch(self, mode: int, work: Callable[[], object]) -> None:
        """As `_core.Stepper.switch`."""
        with self._alone():
            if self.mode != mode:
                work()
                self.mode = mode

    def restore(
        self,
        work: Callable[[], object],
        commit: Callable[[], object],
        moment: tuple[int, int],
        mode: int,
        cohorts: Sequence[int],
        carried: Sequence[float],
    ) -> None:
        """As `_core.Stepper.restore`; waits for the steps on their way."""
        with self._alone():
            if self._setting + 1 != moment[1]:
                raise self._busy()
            self._record.wait()
            work()
            self._record.write(moment[0])
            self._begin(moment[0], cohorts, carried)
            self._setting, self.mode = moment[1], mode
            commit()
