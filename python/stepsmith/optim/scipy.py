"""SciPy's methods as an optimizer whose step is a whole minimization."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NoReturn, SupportsIndex

from numpy.typing import NDArray

from stepsmith import _check
from stepsmith.optim._groups import make_groups, refuse_copy
from stepsmith.optim.minimize import METHODS, MinimizeResult, minimize, refuse_gpu

__all__ = ["ScipyMinimizer"]

Array = NDArray[Any]
Grads = Mapping[str, Array | None] | Iterable[Array | None]


class ScipyMinimizer:
    """Minimizes the loss of all data by a method of SciPy; a trainer's epoch is one `step` of it.

    Args:
        params: mapping name → array or sequence of arrays, as `minimize` takes them; changed in place.
        method: "Newton-CG", "BFGS", "L-BFGS-B" or "trust-ncg".
        tol: SciPy's tolerance of the method.
        options: SciPy's options of the method, such as ``{"maxiter": 100}``, iterations a step.

    Raises:
        TypeError, ValueError: for arguments that do not fit.

    Follows: ``scipy.optimize.minimize``; see `minimize`.

    Example:
        >>> w = np.array([3.0, 4.0])
        >>> opt = ScipyMinimizer({"w": w}, method="BFGS")
        >>> opt.step(lambda: (((w - 1) ** 2).sum(), {"w": 2 * (w - 1)})).success
        True
        >>> w.round(3).tolist()
        [1.0, 1.0]
    """

    name: ClassVar[str] = "scipy"
    takes_closure: ClassVar[bool] = True

    def __init__(
        self,
        params: Mapping[str, Array] | Iterable[Array],
        method: str = "L-BFGS-B",
        tol: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        owner = type(self).__name__
        self.method = _check.one_of(owner, "method", method, METHODS)
        self.tol, self.options = tol, dict(options or {})
        groups = make_groups(owner, params)
        if len(groups) != 1 or groups[0][1]:
            raise ValueError(f"{owner}: params must be one group without hyperparameters, got {len(groups)} group(s)")
        refuse_gpu(owner, groups[0][0])
        self.params: Mapping[str, Array] = MappingProxyType(groups[0][0])

    def step(self, closure: Callable[[], tuple[Any, Grads]]) -> MinimizeResult:
        """One minimization from where the parameters are.

        Args:
            closure: computes loss and gradients of the parameters as they are, as for `LBFGS.step`.

        Raises:
            NonFiniteError, TypeError, ValueError, ImportError: as `minimize`; parameters are then as they were.
        """
        return minimize(lambda _params: closure(), self.params, self.method, tol=self.tol, options=self.options)

    def state_dict(self) -> dict[str, Any]:
        """What it is: there is no state between steps."""
        return {"version": 1, "optimizer": self.name, "method": self.method}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Check that it is the same method's; a ValueError if not."""
        if dict(state_dict) != self.state_dict():
            raise ValueError(f"ScipyMinimizer: state_dict must be {self.state_dict()}, got {dict(state_dict)}")

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse_copy(type(self).__name__)
