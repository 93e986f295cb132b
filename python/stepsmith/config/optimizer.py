"""Optimizers of a config, and the schedules in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stepsmith.config.builder import MISSING, Builder, table_at
from stepsmith.config.catalogs import CATALOGS, type_of
from stepsmith.config.parameters import Parameter, parameters_of
from stepsmith.config.problems import ConfigError
from stepsmith.config.training import Training
from stepsmith.config.values import kinds
from stepsmith.nn.buffer import Array
from stepsmith.schedules import ReduceOnPlateau, Schedule

__all__ = ["build_optimizer", "has_plateau"]

# Arguments that are the steps of the whole run, if a schedule wants them and its table has none.
_STEPS = ("T_max", "T", "total_steps")


class _Rates(Builder):
    """Builds schedules that know the rate and the length of the run.

    Args:
        lr: The rate; None if there is no number.
        steps: Of the whole run.

    Attributes:
        schedule: What an optimizer takes as its rate; None for what its table says.
    """

    def __init__(self, lr: Any, steps: int) -> None:
        self.lr, self.steps = lr, steps
        self.schedule: Any = None

    def missing(self, function: Callable[..., Any], name: str, parameter: Parameter) -> Any:
        """Rate and length; a warm-up's length is nobody's to guess."""
        if not _is_schedule(function):
            return MISSING if name != "lr" or self.schedule is None else self.schedule
        first = next(iter(parameters_of(function)))
        if name == first and self.lr is not None and any(kind.words == "a number" for kind in kinds(parameter.hint)):
            return self.lr
        return self.steps if name in _STEPS and not function.__name__.endswith("Warmup") else MISSING

    def nested(self, what: str, path: str, table: Any) -> Any:
        """A schedule, or what any builder knows."""
        if what == "schedule":
            return self.build(path, table, CATALOGS["schedule"])
        return super().nested(what, path, table)


def _is_schedule(function: Callable[..., Any]) -> bool:
    return isinstance(function, type) and issubclass(function, Schedule)


def build_optimizer(
    table: Mapping[str, Any], schedule: Mapping[str, Any], params: Mapping[str, Array], training: Training, samples: int
) -> Any:
    """The optimizer that [optimizer] and [schedule] describe.

    Args:
        table: Of the optimizer; "adamw" if it has no type.
        schedule: Of the rate: its first argument is the optimizer's `lr`, and what it wants to know of the run's length
            is the run's; "warmup" in it is a table of a schedule around it. Empty for none.
        params: The model's.
        training: The other settings.
        samples: That are trained on.

    Raises:
        ConfigError: Unknown keys, or bad values.
    """
    function = type_of("optimizer", table, CATALOGS["optimizer"], "adamw")
    arguments = {name: value for name, value in table.items() if name != "type"}
    parameters = parameters_of(function)
    defaults: dict[str, Any] = {"master": training.precision in ("bfloat16", "float16")}
    defaults |= {"on_nonfinite": "skip"} if training.scale == "dynamic" else {}
    arguments = {name: value for name, value in defaults.items() if value and name in parameters} | arguments
    # What a file for state holds would outlive a run, and not be that of its checkpoints.
    builder, fixed = _Rates(None, training.steps(samples)), {"params": params, "state_dir": None}
    if schedule:
        builder.lr = arguments.pop("lr", parameters["lr"].default)
        builder.schedule = _schedule(builder, schedule)
    return builder.make("optimizer", function, arguments, fixed)


def _schedule(builder: _Rates, table: Mapping[str, Any]) -> Any:
    if isinstance(builder.lr, bool) or not isinstance(builder.lr, int | float):
        raise ConfigError(f"optimizer.lr must be a number beside schedule, got {builder.lr!r}")
    own = {name: value for name, value in table.items() if name != "warmup"}
    inner = builder.build("schedule", own, CATALOGS["schedule"]) if own else builder.lr
    if "warmup" not in table:
        return inner
    warmup = table_at(table, "schedule", "warmup")
    catalog = {name: item for name, item in CATALOGS["schedule"].items() if name.endswith("_warmup")}
    return builder.build("schedule.warmup", warmup, catalog, "linear_warmup", {"lr": inner})


def has_plateau(optimizer: Any) -> bool:
    """Whether a rate waits to be told how the run goes."""
    rates = [group["lr"] for group in getattr(optimizer, "groups", ())]
    return any(isinstance(lr, ReduceOnPlateau) or isinstance(getattr(lr, "lr", None), ReduceOnPlateau) for lr in rates)
