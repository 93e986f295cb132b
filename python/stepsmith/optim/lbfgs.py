"""L-BFGS: limited-memory quasi-Newton steps that call a closure for loss and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import inf, isfinite, nan
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, NoReturn, SupportsIndex

from numpy.typing import NDArray

from stepsmith import _check, _core
from stepsmith._backend import as_device, device_of
from stepsmith.optim._groups import Check, Group, Params, checked, make_groups, params_on, refuse_copy
from stepsmith.optim._line_search import Point, strong_wolfe
from stepsmith.optim._memory import Memory, Pair, dump, load
from stepsmith.optim._vectors import Vector, Vectors, guard, loss_of, match, pair_of

__all__ = ["LBFGS", "LBFGSInfo"]

Array = NDArray[Any]
Grads = Mapping[str, Array | None] | Iterable[Array | None]
Closure = Callable[[], tuple[Any, Grads]]


class LBFGSInfo(NamedTuple):
    """What a step did."""

    loss: float
    """At the last evaluation: with a line search the loss of the parameters as they are now."""
    evaluations: int
    """Calls of the closure in this step."""
    iterations: int
    """Updates in this step."""
    grad_max: float
    """Largest magnitude of a gradient element where `loss` was."""
    reason: str
    """Why it ended: "tolerance_grad", "tolerance_change", "max_iter", "max_eval", or "line_search": no lower point."""


def _nonnegative(owner: str, name: str, value: object) -> float:
    return _check.number(owner, name, value, low=0.0)


def _positive(owner: str, name: str, value: object) -> float:
    return _check.number(owner, name, value, low=0.0, open_low=True)


def _count(owner: str, name: str, value: object) -> int:
    return _check.integer(owner, name, value, low=1)


def _count_or_none(owner: str, name: str, value: object) -> int | None:
    return None if value is None else _count(owner, name, value)


def _line_search(owner: str, name: str, value: object) -> str | None:
    return None if value is None else _check.one_of(owner, name, value, ("strong_wolfe",))


class LBFGS:
    """L-BFGS: steps along -H·g, where H is built from the last `history_size` changes of parameters and gradient.

    s = t·d, y = g - g_before, kept if y·s > 1e-10; H0 = (y·s) / (y·y); d = -H·g by the two-loop recursion; p += t·d.
    The first t ever is lr·min(1, 1 / Σ|g|), later ones start from lr. All parameters are one vector; inner products are
    fixed-shape sums in float64. With ``line_search_fn="strong_wolfe"`` t meets the strong Wolfe conditions (c1 1e-4,
    c2 0.9), and a trial whose loss or gradient is not finite counts as too long.

    Args:
        params: mapping name → array or sequence of arrays of NumPy or CuPy, float32 or float64, any layout; changed in
            place. There are no groups. A 16-bit type is refused: a line search sees differences that it cannot hold.
        lr: length of a step, or of a line search's first trial; more than 0.
        max_iter: updates a `step`.
        max_eval: no update begins after that many evaluations in a `step`; None is max_iter·5 // 4.
        tolerance_grad: end if no gradient element is larger.
        tolerance_change: end if parameters or loss change by less.
        history_size: pairs (s, y) that are kept; each takes the memory of two parameters.
        line_search_fn: None or "strong_wolfe".

    Raises:
        TypeError, ValueError: for arguments that do not fit, by name, rule and value.

    Follows: Liu and Nocedal, 1989; ``torch.optim.LBFGS``.

    Example:
        >>> w = np.array([3.0, 4.0])
        >>> def closure():
        ...     return ((w - 1) ** 2).sum(), [2 * (w - 1)]
        >>> LBFGS([w], line_search_fn="strong_wolfe").step(closure).reason
        'tolerance_grad'
        >>> w.round(6).tolist()
        [1.0, 1.0]
    """

    name: ClassVar[str] = "lbfgs"
    checks: ClassVar[Mapping[str, Check]] = {
        "lr": _positive,
        "max_iter": _count,
        "max_eval": _count_or_none,
        "tolerance_grad": _nonnegative,
        "tolerance_change": _nonnegative,
        "history_size": _count,
        "line_search_fn": _line_search,
    }

    takes_closure: ClassVar[bool] = True

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        owner = self._owner = type(self).__name__
        hyperparameters = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        values = self._checked(hyperparameters)
        groups = make_groups(owner, params)
        if len(groups) != 1 or groups[0][1]:
            raise ValueError(f"{owner}: params must be one group without hyperparameters, got {len(groups)} group(s)")
        arrays = groups[0][0]
        self._guard = guard(owner, arrays)
        for name, array in arrays.items():
            if array.dtype.itemsize == 2:
                raise TypeError(f"{owner}: params[{name!r}] must be float32 or float64, got {array.dtype}")
        self.params: Mapping[str, Array] = MappingProxyType(arrays)
        self.groups: tuple[Group, ...] = (Group(tuple(arrays), values, self._set_values),)
        self._space = Vectors(owner, arrays)
        self._memory = Memory()

    def _checked(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return checked(self._owner, self.checks, values)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse_copy(self._owner)

    @property
    def device(self) -> str:
        """Where the parameters are: "cpu", "cuda:0" and so on."""
        return device_of(next(iter(self.params.values())))

    def to(self, device: str, params: Mapping[str, Array] | None = None) -> LBFGS:
        """An optimizer with the same settings and history on another device, bit for bit; as `Optimizer.to`."""
        target = as_device(self._owner, device)
        there = type(self)(params_on(self._owner, target, self.params, params), **self.groups[0].values_now)
        there.load_state_dict(self.state_dict())
        return there

    def _set_values(self, group: Group, values: dict[str, Any]) -> None:
        group.values_now.update(self._checked(values))

    # The step.

    def step(self, closure: Closure) -> LBFGSInfo:
        """Up to `max_iter` updates of the parameters in place.

        Args:
            closure: called without arguments; computes loss and gradients of the parameters as they are and returns
                ``(loss, grads)``. Gradients are a mapping by name or a sequence in parameter order, float32, float64,
                bfloat16 or float16, any layout; they are copied. One that is None counts as zeros.

        Returns:
            Loss, evaluations, iterations, largest gradient element, and why it ended.

        Raises:
            NonFiniteError: loss or gradients are NaN or infinite at the first evaluation, or at any without a line
                search.
            TypeError, ValueError: what the closure returned does not fit, or a parameter changed its memory.
            RuntimeError: another step of this optimizer is running.

        Whatever is raised, by the closure too, parameters and state are then as they were before the call.
        """
        if not callable(closure):
            raise TypeError(f"{self._owner}: closure must be a function, got {type(closure).__name__}")
        return self._guard.exclusive(lambda: self._step_or_restore(closure))

    def _step_or_restore(self, closure: Closure) -> LBFGSInfo:
        self._space.check()
        before = self._space.copy(self._space.params)
        try:
            info, self._memory = self._run(closure, before)
        except BaseException:
            self._space.restore(before)
            raise
        return info

    def _run(self, closure: Closure, before: Vector) -> tuple[LBFGSInfo, Memory]:
        space, memory, group = self._space, self._memory, self.groups[0].values_now
        most = group["max_iter"] * 5 // 4 if group["max_eval"] is None else group["max_eval"]
        loss, grad = self._evaluate(closure)
        iterations, evaluations, reason = 0, 1, ""
        grad_max = space.norm(grad, "max_abs")
        if grad_max <= group["tolerance_grad"]:
            reason = "tolerance_grad"
        while not reason:
            iterations += 1
            memory, slope = self._turn(memory, grad)
            if not slope < 0.0 or slope > -group["tolerance_change"]:
                reason = "tolerance_change"
                break
            direction, loss_before = memory.direction or [], loss
            t = group["lr"] * (min(1.0, 1.0 / space.norm(grad, "sum_abs")) if memory.iterations == 1 else 1.0)
            length = space.norm(direction, "max_abs")
            if group["line_search_fn"] is None:
                space.add(space.params, t, direction)
                if iterations < group["max_iter"]:
                    loss, grad = self._evaluate(closure)
                    evaluations += 1
            else:
                start = before if iterations == 1 else space.copy(space.params)
                origin = Point(0.0, loss, slope, grad)
                found, count = self._search(closure, start, direction, origin, t, group["tolerance_change"] / length)
                t, loss, grad = found.t, found.loss, found.grad
                evaluations += count
            memory = replace(memory, t=t)
            grad_max = space.norm(grad, "max_abs")
            if t == 0.0:
                reason = "line_search"
            elif iterations == group["max_iter"]:
                reason = "max_iter"
            elif evaluations >= most:
                reason = "max_eval"
            elif grad_max <= group["tolerance_grad"]:
                reason = "tolerance_grad"
            elif abs(t) * length <= group["tolerance_change"] or abs(loss - loss_before) < group["tolerance_change"]:
                reason = "tolerance_change"
        memory = replace(memory, evaluations=memory.evaluations + evaluations)
        return LBFGSInfo(loss, evaluations, iterations, grad_max, reason), memory

    def _evaluate(self, closure: Closure) -> tuple[float, Vector]:
        """Loss and gradients, which must be finite."""
        loss, grad = self._call(closure)
        if not isfinite(loss):
            raise _core.NonFiniteError(f"{self._owner}: loss must be finite, got {loss}")
        if not isfinite(self._space.norm(grad, "max_abs")):
            raise _core.NonFiniteError(f"{self._owner}: {self._space.nonfinite(grad)}")
        return loss, grad

    def _call(self, closure: Closure) -> tuple[float, Vector]:
        loss, grads = pair_of(self._owner, "closure", closure())
        self._space.check()
        return loss_of(self._owner, loss), self._space.gradient(match(self._owner, self.params, grads))

    def _search(
        self, closure: Closure, start: Vector, direction: Vector, origin: Point, t: float, narrowest: float
    ) -> tuple[Point, int]:
        """Leaves the parameters at the point that it returns."""
        space, last = self._space, 0.0

        def go(t: float) -> None:
            nonlocal last
            space.assign(space.params, 1.0, start)
            if t:
                space.add(space.params, t, direction)
            last = t

        def evaluate(t: float) -> Point:
            go(t)
            loss, grad = self._call(closure)
            if isfinite(loss) and isfinite(space.norm(grad, "max_abs")):
                return Point(t, loss, space.dot(grad, direction), grad)
            return Point(t, inf, nan, grad)

        found, count = strong_wolfe(evaluate, origin, t, narrowest)
        if found.t != last:
            go(found.t)
        return found, count

    def _turn(self, memory: Memory, grad: Vector) -> tuple[Memory, float]:
        """The memory with the last step in it and a new direction -H·g, and the slope along that."""
        space = self._space
        pairs, h0 = memory.pairs, memory.h0
        if memory.direction is not None and memory.grad is not None:
            s = space.multiple(memory.t, memory.direction)
            y = space.copy(grad)
            space.add(y, -1.0, memory.grad)
            ys = space.dot(y, s)
            if ys > 1e-10:
                pairs = (*pairs, Pair(s, y, 1.0 / ys))[-self.groups[0]["history_size"] :]
                h0 = ys / space.dot(y, y)
        direction = space.multiple(-1.0, grad)
        alphas = []
        for s, y, rho in reversed(pairs):
            alphas.append(rho * space.dot(s, direction))
            space.add(direction, -alphas[-1], y)
        space.scale(direction, h0)
        for (s, y, rho), alpha in zip(pairs, reversed(alphas)):
            space.add(direction, alpha - rho * space.dot(y, direction), s)
        memory = replace(
            memory, iterations=memory.iterations + 1, pairs=pairs, h0=h0, direction=direction, grad=grad, t=0.0
        )
        return memory, space.dot(grad, direction)

    # State dictionaries.

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs, as JSON values and copies of arrays.

        As the other optimizers'; ``"state"`` holds for each parameter `direction`, `grad`, and `s` and `y` with the
        history as their first axis (nothing before the first step), and ``"memory"`` the numbers that belong to them.
        A RuntimeError if a step of this optimizer is running.
        """
        return self._guard.exclusive(lambda: dump(self, self._memory))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave: history, counts and hyperparameters.

        Raises:
            ValueError: names, shapes, dtypes or hyperparameters differ (all are listed); nothing has changed then.
            RuntimeError: a step of this optimizer is running.
        """
        values, memory = load(self, state_dict)
        self._guard.exclusive(lambda: self._take_back(values, memory))

    def _take_back(self, values: dict[str, Any], memory: Memory) -> None:
        self.groups[0].values_now.update(values)
        self._memory = memory
