"""All that a config describes, built and checked before anything is trained or written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepsmith import _check, nn
from stepsmith.config.builder import Builder, table_at
from stepsmith.config.catalogs import CATALOGS, chosen
from stepsmith.config.data import Data
from stepsmith.config.layout import Layout
from stepsmith.config.model import build_model
from stepsmith.config.optimizer import build_optimizer, has_plateau
from stepsmith.config.parameters import parameters_of
from stepsmith.config.problems import ConfigError, among, key, placed
from stepsmith.config.sources import SOURCES
from stepsmith.config.training import Training
from stepsmith.train import Callback, GradualUnfreezing, Plateau, Trainer
from stepsmith.train.averages import averages_of
from stepsmith.train.run import FitOptions, Run

__all__ = ["Plan", "planned"]


@dataclass(frozen=True)
class Plan:
    """What a run needs.

    Attributes:
        document: The config.
        data: All parts.
        training: The settings.
        trainer: With model, optimizer and callbacks.
    """

    document: Mapping[str, Any]
    data: Data
    training: Training
    trainer: Trainer

    def fit(self) -> None:
        """Train what is left of the run."""
        self.trainer.fit(self.data.train, self.data.validation, **self.training.fit_arguments(self.data.classes))


def planned(document: Mapping[str, Any], layout: Layout) -> Plan:
    """Build everything.

    Args:
        document: The config.
        layout: Where the run's files will be.

    Raises:
        ConfigError: What is wrong first, with the path of its key.
        OSError: Data that cannot be read.
        ImportError: An optional package that is missing.
    """
    builder = Builder()
    tables = {name: table_at(document, "", name) for name in ("data", "model", "loss", "optimizer", "schedule")}
    training: Training = builder.make("training", Training, table_at(document, "", "training"))
    source = builder.build("data", tables["data"], SOURCES)
    with placed("data", vars(source)):
        data: Data = source.load(np.dtype("float64" if training.precision == "float64" else "float32"))
    samples = len(data.train[0])
    if not training.steps(samples):
        rule = f"must be at most {samples}, all training samples, beside drop_last"
        raise ConfigError(f"training.batch_size {rule}, got {training.batch_size}")
    model = build_model(tables["model"], data.train[0][:2], data.outputs, training.precision, training.seed)
    with placed("model"):
        params = model.parameters()
    optimizer = build_optimizer(tables["optimizer"], tables["schedule"], params, training, samples)
    trainer = _trainer(model, _loss(builder, tables["loss"], data), optimizer, document, training, layout)
    _check_together(trainer, data, training)
    return Plan(document, data, training, trainer)


def _loss(builder: Builder, table: Mapping[str, Any], data: Data) -> nn.Loss:
    default = "mse" if data.classes is None else "cross_entropy"
    loss: nn.Loss = builder.build("loss", table, CATALOGS["loss"], default)
    return loss


def _trainer(
    model: nn.Module, loss: nn.Loss, optimizer: Any, document: Mapping[str, Any], training: Training, layout: Layout
) -> Trainer:
    tables = table_at(document, "", "callbacks")
    callbacks = _callbacks(tables, layout, has_plateau(optimizer))
    regularizers = _each("regularization", table_at(document, "", "regularization"), "regularizer", {})
    with placed("training", ("loss_scale", "blas_threads")):
        return Trainer(
            model,
            loss,
            optimizer=optimizer,
            seed=training.seed,
            callbacks=callbacks,
            regularizers=regularizers,
            loss_scale=training.scale,
            blas_threads=training.blas_threads,
        )


def _callbacks(tables: Mapping[str, Any], layout: Layout, is_told: bool) -> list[Callback]:
    """Those of the config, and those that a run needs."""
    catalog = CATALOGS["callback"]
    named = {chosen("callbacks", name, catalog).__name__ for name in tables}
    needed = ["CSVLogger", "JSONLogger", "Checkpoint", *(["Plateau"] if is_told else [])]
    complete = {**tables, **{name: {} for name in needed if name not in named}}
    return _each("callbacks", complete, "callback", layout.arguments())


def _each(path: str, tables: Mapping[str, Any], what: str, fixed: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """What a table of tables describes, each by its name."""
    built: dict[str, Any] = {}
    for name in tables:
        function = chosen(path, name, CATALOGS[what])
        if function.__name__ in built:
            raise ConfigError(f"{key(path, name)} must stand once, got {function.__name__} twice")
        given = fixed.get(function.__name__, {})
        built[function.__name__] = Builder().make(key(path, name), function, table_at(tables, path, name), given)
    return list(built.values())


def _check_together(trainer: Trainer, data: Data, training: Training) -> None:
    """What only shows when all is together."""
    with placed("model"):
        trainer.view.check(data.train)
    with placed("training", vars(training)):
        if training.validation_weights is not None:
            known = ["live", *averages_of(trainer.optimizer, trainer.callbacks)]
            _check.one_of("Training", "validation_weights", training.validation_weights, known)
        Run(trainer, data.train, data.validation, FitOptions(**training.fit_arguments(data.classes)))
    _check_callbacks(trainer, _columns(trainer, data))
    _check_globs(trainer)


def _check_callbacks(trainer: Trainer, columns: list[str]) -> None:
    """What they would refuse when the fit begins, and a run that was there is gone."""
    for callback in trainer.callbacks:
        kind: Any = type(callback)
        name = kind.__name__
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and monitor not in columns:
            raise among(f"callbacks.{name}.monitor", monitor, columns)
        with placed(f"callbacks.{name}", parameters_of(kind)):
            if isinstance(callback, Plateau):
                callback.check(trainer)
            if isinstance(callback, GradualUnfreezing):
                callback.on_fit_begin(trainer)
                trainer.unfreeze("*")


def _check_globs(trainer: Trainer) -> None:
    """Let regularizers look for their parameters, with nothing to change."""
    params = trainer.model.parameters()
    for regularizer in trainer.regularizers:
        with placed(f"regularization.{type(regularizer).__name__}", parameters_of(type(regularizer))):
            regularizer.before_step(params, dict.fromkeys(params))
            regularizer.after_step(params, {})


def _columns(trainer: Trainer, data: Data) -> list[str]:
    """Of the history."""
    found = ["epoch", "step", "loss", *(["penalty"] if trainer.regularizers else []), "lr"]
    found += ["loss_scale"] if trainer.loss_scale is not None else []
    if data.validation is None:
        return found
    two = tuple(array[:2] for array in data.validation)
    return [*found, *(f"val_{name}" for name in trainer.view.sums(two))]
