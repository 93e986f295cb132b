"""Callbacks made of functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from stepsmith.train.callbacks.base import Callback

if TYPE_CHECKING:
    from stepsmith.train.trainer import Trainer

__all__ = ["FunctionCallback"]

AtEdge = Callable[["Trainer"], Any]
WithRow = Callable[["Trainer", Mapping[str, float]], Any]


class FunctionCallback(Callback):
    """Calls functions, where a class would say more than is wanted; the arguments are `Callback`'s methods.

    What they return is ignored. What they remember is no part of a checkpoint: a callback that must go on in a resumed
    run is a subclass of `Callback` with a state.

    Args:
        on_fit_begin: Called with the trainer.
        on_step_end: Called with the trainer and the step's row.
        on_epoch_end: Called with the trainer and the epoch's row.
        on_fit_end: Called with the trainer.

    Raises:
        TypeError: Something that cannot be called.

    Example:
        >>> losses = []
        >>> callback = FunctionCallback(on_epoch_end=lambda trainer, row: losses.append(row["loss"]))
        >>> model = ss.nn.Linear(2, 2)
        >>> optimizer = ss.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = ss.train.Trainer(model, optimizer=optimizer, callbacks=[callback])
        >>> history = trainer.fit((np.ones((4, 2), np.float32), np.array([0, 1, 0, 1])), epochs=3, progress=False)
        >>> losses == history["loss"]
        True
    """

    def __init__(
        self,
        *,
        on_fit_begin: AtEdge | None = None,
        on_step_end: WithRow | None = None,
        on_epoch_end: WithRow | None = None,
        on_fit_end: AtEdge | None = None,
    ) -> None:
        self._functions: dict[str, Callable[..., Any] | None] = {
            "on_fit_begin": on_fit_begin,
            "on_step_end": on_step_end,
            "on_epoch_end": on_epoch_end,
            "on_fit_end": on_fit_end,
        }
        for name, function in self._functions.items():
            if function is not None and not callable(function):
                raise TypeError(f"FunctionCallback: {name} must be a function, got {function!r}")

    def _call(self, name: str, *arguments: Any) -> None:
        function = self._functions[name]
        if function is not None:
            function(*arguments)

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Call the function, if there is one."""
        self._call("on_fit_begin", trainer)

    def on_step_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Call the function, if there is one."""
        self._call("on_step_end", trainer, row)

    def on_epoch_end(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Call the function, if there is one."""
        self._call("on_epoch_end", trainer, row)

    def on_fit_end(self, trainer: Trainer) -> None:
        """Call the function, if there is one."""
        self._call("on_fit_end", trainer)
