"""Thread counts: the context manager, and the pool as threadpoolctl sees it."""

import ctypes
from types import TracebackType

import threadpoolctl

from stepsmith import _check, _core

__all__ = ["threads"]


class threads:  # noqa: N801
    """Runs every parallel call inside with exactly `count` threads, the caller counted, where there is that much work.

    Without it the count is that of STEPSMITH_NUM_THREADS, else OMP_NUM_THREADS, else what CPU affinity and the cgroup's
    quota allow. Results never depend on it. The setting holds for the whole process, as threadpoolctl's.

    Args:
        count: at least 1.

    Raises:
        TypeError, ValueError: when count is no such number.

    Example:
        >>> import stepsmith as ss
        >>> with ss.threads(1):
        ...     norm = ss.grad_norm([np.ones(4, np.float32)])
        >>> norm
        2.0
    """

    def __init__(self, count: int) -> None:
        self._count = _check.integer("threads", "count", count, low=1, high=1024)
        self._before: list[int] = []

    def __enter__(self) -> None:
        self._before.append(_core.set_threads(self._count))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _core.set_threads(self._before.pop())


class _PoolController(threadpoolctl.LibController):  # type: ignore[misc]
    """The pool as threadpoolctl sees it: a library with two functions."""

    user_api = "stepsmith"
    internal_api = "stepsmith"
    filename_prefixes = ("_core",)
    check_symbols = ("stepsmith_get_num_threads",)

    def get_num_threads(self) -> int:
        """Threads a call may use."""
        function = self.dynlib.stepsmith_get_num_threads
        function.restype = ctypes.c_size_t
        return int(function())

    def set_num_threads(self, count: int) -> None:
        """Asks for a number of threads."""
        self.dynlib.stepsmith_set_num_threads(ctypes.c_size_t(count))

    def get_version(self) -> str:
        """Of the wheel."""
        return _core.__version__

    def set_additional_attributes(self) -> None:
        """There are none."""


threadpoolctl.register(_PoolController)
