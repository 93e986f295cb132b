"""Full-batch problems by the methods of SciPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf, isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stepsmith import _check, _core
from stepsmith._backend import is_on_gpu
from stepsmith.optim._groups import make_groups
from stepsmith.optim._vectors import guard, loss_of, match, pair_of

__all__ = ["MinimizeResult", "minimize"]

Array = NDArray[Any]
Flat = NDArray[np.float64]
Params = Mapping[str, Array] | Iterable[Array]
Grads = Mapping[str, Array | None] | Iterable[Array | None]
Named = Mapping[str, Array]

METHODS = ("Newton-CG", "BFGS", "L-BFGS-B", "trust-ncg")
_SECOND_ORDER = ("Newton-CG", "trust-ncg")
_OWNER = "minimize"


class MinimizeResult(NamedTuple):
    """What `minimize` found."""

    loss: float
    """Of the parameters as they are now."""
    iterations: int
    evaluations: int
    """Calls of `fn`, those for products with the Hessian included."""
    success: bool
    """The method met its tolerance."""
    message: str
    """Why it ended, in SciPy's words."""


def minimize(
    fn: Callable[[Any], tuple[Any, Grads]],
    params: Params,
    method: str = "L-BFGS-B",
    *,
    hessp: Callable[[Any, Named], Grads] | None = None,
    tol: float | None = None,
    options: Mapping[str, Any] | None = None,
    callback: Callable[[Any, float], None] | None = None,
) -> MinimizeResult:
    """Minimizes a function of all parameters, which end at the best point found.

    The parameters are one float64 vector for ``scipy.optimize.minimize``; each trial point is written to the arrays,
    rounded to their types, before `fn` sees them. Products with the Hessian are (∇f(p + εv) - ∇f(p - εv)) / 2ε with
    ε = u^(1/3)·(1 + max |p|) / max |v|, u the unit of the coarsest parameter type, unless `hessp` computes them.

    Args:
        fn: ``fn(params) -> (loss, grads)``; `params` are those given here, gradients a mapping by name or a sequence in
            parameter order, None counting as zeros. After the start, a loss or gradient that is not finite counts as
            too long a step.
        params: mapping name → array or sequence of arrays, float32, float64, bfloat16 or float16, any layout; changed
            in place.
        method: "Newton-CG", "BFGS", "L-BFGS-B" or "trust-ncg".
        hessp: ``hessp(params, vector) -> product``; vector and product as the gradients. For Newton-CG and trust-ncg.
        tol: SciPy's tolerance of the method.
        options: SciPy's options of the method, such as ``{"maxiter": 100}``.
        callback: ``callback(params, loss)`` after each iteration; it may raise StopIteration to end.

    Returns:
        Loss, iterations, evaluations, whether a tolerance was met, and SciPy's message.

    Raises:
        NonFiniteError: loss or gradients are NaN or infinite at the start.
        TypeError, ValueError: for arguments or results of `fn` that do not fit.
        ImportError: SciPy is missing.

    Whatever is raised, by `fn` too, the parameters are then as they were before the call.

    Follows: ``scipy.optimize.minimize``.

    Example:
        >>> w = np.array([3.0, 4.0], np.float32)
        >>> minimize(lambda p: (((p["w"] - 1) ** 2).sum(), {"w": 2 * (p["w"] - 1)}), {"w": w}).success
        True
        >>> w.round(3).tolist()
        [1.0, 1.0]
    """
    method = _check.one_of(_OWNER, "method", method, METHODS)
    for name, value in (("fn", fn), ("hessp", hessp), ("callback", callback)):
        if not (callable(value) or (value is None and name != "fn")):
            raise TypeError(f"{_OWNER}: {name} must be a function, got {type(value).__name__}")
    if hessp is not None and method not in _SECOND_ORDER:
        raise ValueError(f"{_OWNER}: hessp must go with {' or '.join(_SECOND_ORDER)}, got method={method!r}")
    try:
        from scipy import optimize
    except ImportError as error:
        raise ImportError(f"{_OWNER} needs SciPy: pip install 'stepsmith[scipy]'") from error
    problem = Problem(fn, hessp, params)
    try:
        found = optimize.minimize(
            problem.loss_and_grad,
            problem.start,
            method=method,
            jac=True,
            hessp=problem.product if method in _SECOND_ORDER else None,
            tol=tol,
            options=None if options is None else dict(options),
            callback=None if callback is None else _callback(problem, callback),
        )
    except BaseException:
        problem.restore()
        raise
    problem.put(problem.best)
    return MinimizeResult(
        problem.best_loss, int(found.nit), problem.evaluations, bool(found.success), str(found.message)
    )


def _callback(problem: Problem, callback: Callable[[Any, float], None]) -> Callable[..., None]:
    def after(intermediate_result: Any) -> None:
        problem.put(intermediate_result.x)
        callback(problem.given, float(intermediate_result.fun))

    return after


class Problem:
    """A function of arrays as one of a flat vector."""

    def __init__(
        self,
        fn: Callable[[Any], tuple[Any, Grads]],
        hessp: Callable[[Any, Named], Grads] | None,
        params: Params,
    ) -> None:
        self.fn, self.hessp = fn, hessp
        self.given = params if isinstance(params, Mapping) or hasattr(params, "dtype") else list(params)
        groups = make_groups(_OWNER, self.given)
        if len(groups) != 1 or groups[0][1]:
            raise ValueError(f"{_OWNER}: params must be one group without hyperparameters, got {len(groups)} group(s)")
        self.arrays = groups[0][0]
        refuse_gpu(_OWNER, self.arrays)
        guard(_OWNER, self.arrays)
        self.before = {name: array.copy(order="K") for name, array in self.arrays.items()}
        self.start = self.flat(list(self.arrays.values()), "params")
        self.best, self.best_loss, self.first_loss, self.evaluations = self.start, inf, inf, 0
        coarsest = max(_unit(array) for array in self.arrays.values())
        self.spacing = coarsest ** (1.0 / 3.0)

    def flat(self, arrays: Iterable[Array | None], what: str) -> Flat:
        """The arrays one after another in C order, zeros for one that is None."""
        out = np.zeros(sum(array.size for array in self.arrays.values()))
        for view, name, array in zip(self.pieces(out).values(), self.arrays, arrays):
            if array is None:
                continue
            got = np.asarray(array)
            if got.shape != view.shape:
                raise ValueError(f"{_OWNER}: {what}[{name!r}] must have shape {view.shape}, got {got.shape}")
            if got.dtype.kind not in "fV" or not np.can_cast(got.dtype, np.float64):
                raise TypeError(f"{_OWNER}: {what}[{name!r}] must be floating-point, got {got.dtype}")
            view[...] = got
        return out

    def pieces(self, vector: Flat) -> dict[str, Array]:
        """Views of a flat vector in the shapes of the parameters."""
        ends = np.cumsum([array.size for array in self.arrays.values()])
        parts = np.split(vector, ends[:-1])
        return {name: part.reshape(array.shape) for part, (name, array) in zip(parts, self.arrays.items())}

    def put(self, vector: Flat) -> None:
        """Writes a point to the parameters."""
        with np.errstate(over="ignore"):
            for array, piece in zip(self.arrays.values(), self.pieces(vector).values()):
                array[...] = piece

    def restore(self) -> None:
        """Writes the parameters back as they were."""
        for name, array in self.arrays.items():
            np.copyto(array, self.before[name])

    def call(self, vector: Flat) -> tuple[float, Flat]:
        """Loss and gradient; a loss above the start's where they are not finite."""
        self.put(vector)
        self.evaluations += 1
        loss, grads = pair_of(_OWNER, "fn", self.fn(self.given))
        value, grad = loss_of(_OWNER, loss), self.flat(match(_OWNER, self.arrays, grads), "grads")
        if isfinite(value) and np.isfinite(grad).all():
            return value, grad
        if self.evaluations == 1:
            what = f"loss must be finite, got {value}" if not isfinite(value) else "grads must be finite at the start"
            raise _core.NonFiniteError(f"{_OWNER}: {what}")
        # L-BFGS-B would take infinity for convergence. No method goes on from a point above the start.
        return self.first_loss + 1.0 + abs(self.first_loss), np.zeros_like(grad)

    def loss_and_grad(self, vector: Flat) -> tuple[float, Flat]:
        """What SciPy calls; the lowest point so far is kept."""
        loss, grad = self.call(vector)
        if self.evaluations == 1:
            self.first_loss = loss
        if loss < self.best_loss:
            self.best, self.best_loss = vector.copy(), loss
        return loss, grad

    def product(self, vector: Flat, direction: Flat) -> Flat:
        """The Hessian at `vector` times `direction`."""
        if self.hessp is not None:
            self.put(vector)
            product = self.hessp(self.given, self.pieces(direction.copy()))
            return self.flat(match(_OWNER, self.arrays, product), "hessp's product")
        longest = np.abs(direction).max(initial=0.0)
        if longest == 0.0:
            return np.zeros_like(direction)
        step = self.spacing * (1.0 + np.abs(vector).max(initial=0.0)) / longest
        after, before = self.call(vector + step * direction)[1], self.call(vector - step * direction)[1]
        result: Flat = (after - before) / (2.0 * step)
        return result


def refuse_gpu(owner: str, arrays: Named) -> None:
    """SciPy works on the CPU."""
    for name, array in arrays.items():
        if is_on_gpu(array):
            rule = "must be a NumPy array, since SciPy works on these"
            raise TypeError(f"{owner}: params[{name!r}] {rule}, got one of CuPy")


def _unit(array: Array) -> float:
    """Distance from 1 to the next number of the array's type."""
    if array.dtype.itemsize > 2:
        return float(np.finfo(array.dtype).eps)
    return 2.0**-10 if array.dtype == np.float16 else 2.0**-7
