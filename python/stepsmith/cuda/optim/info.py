"""What a step on a GPU did, read when somebody asks."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stepsmith.cuda.optim.structs import REPORT

__all__ = ["DeviceStepInfo"]


class DeviceStepInfo:
    """As `StepInfo`. The first look waits for the step; each look at a recorded one does, for its last replay."""

    def __init__(
        self,
        report: Any,
        stream: Any,
        has_norm: bool,
        lrs: Callable[[int], tuple[float, ...]],
        refuse: Callable[[], None],
        is_recorded: bool,
    ) -> None:
        self._report, self._stream, self._has_norm, self._lrs, self._refuse = report, stream, has_norm, lrs, refuse
        self._is_recorded = is_recorded
        self._seen: Any = None

    def _read(self) -> Any:
        seen = self._seen
        if seen is None:
            self._stream.synchronize()
            seen = np.frombuffer(self._report.get().tobytes(), REPORT)[0]
        if seen["problem"]:
            self._refuse()
        if not self._is_recorded:
            self._seen = seen
        return seen

    @property
    def grad_norm(self) -> float | None:
        """Norm of all gradients divided by |grad_scale|; None if it was not computed, or the step was skipped."""
        seen = self._read()
        return float(seen["norm"]) if self._has_norm and not seen["stopped"] else None

    @property
    def skipped(self) -> bool:
        """The gradients were not finite and nothing changed."""
        return bool(self._read()["stopped"])

    @property
    def lr(self) -> tuple[float, ...]:
        """Learning rate of each group."""
        seen = self._read()
        return self._lrs(int(seen["updates"]) - (not seen["stopped"]))

    @property
    def step(self) -> int:
        """Updates made so far, this one included unless it was skipped."""
        return int(self._read()["updates"])

    def __iter__(self) -> Iterator[Any]:
        return iter((self.grad_norm, self.skipped, self.lr, self.step))

    def __repr__(self) -> str:
        return f"StepInfo(grad_norm={self.grad_norm}, skipped={self.skipped}, lr={self.lr}, step={self.step})"
