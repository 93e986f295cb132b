"""What a run leaves in its folder, before and after the training."""

from __future__ import annotations

import json
import math
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from stepsmith import _core, quant
from stepsmith.config.data import Part
from stepsmith.config.document import written
from stepsmith.config.layout import Layout
from stepsmith.config.plan import Plan
from stepsmith.nn.buffer import Array
from stepsmith.train.averages import NoAverageError, averages_of

__all__ = ["begin", "data_facts", "finish", "lines"]


def begin(plan: Plan, layout: Layout) -> None:
    """Write what is known before the training.

    Raises:
        OSError: A folder or file that cannot be written.
    """
    layout.folder.mkdir(parents=True, exist_ok=True)
    model: Any = plan.trainer.model
    layout.summary.write_text(f"{model.summary(plan.data.train[0][:2])}\n", encoding="utf-8")
    layout.data.write_text(_json(data_facts(plan)), encoding="utf-8")
    # The last one, because its presence says that this is a run.
    layout.config.write_text(written(plan.document), encoding="utf-8")


def data_facts(plan: Plan) -> dict[str, Any]:
    """What prepares an input and names a label, and the hash of all arrays."""
    data = plan.data
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        "samples": {name: 0 if part is None else len(part[0]) for name, part in parts.items()},
        "classes": data.classes,
        "shift": data.shift.tolist(),
        "scale": data.scale.tolist(),
        "sha256": data.digest(),
    }


def finish(plan: Plan, layout: Layout) -> dict[str, Any]:
    """Write model, curves and figures, and return the figures.

    Raises:
        OSError: A file that cannot be written.
    """
    model: Any = plan.trainer.model
    quant.save(layout.model, {**model.parameters(), **model.buffers()})
    report = _report(plan)
    try:
        plan.trainer.history.plot(layout.curves)
    except ImportError:
        report["curves"] = "none, because matplotlib is missing"
    layout.report.write_text(_json(report), encoding="utf-8")
    return report


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _report(plan: Plan) -> dict[str, Any]:
    trainer, data = plan.trainer, plan.data
    weights = _weights(plan)
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    figures = {name: _figures(plan, part, weights) for name, part in parts.items() if part is not None}
    return {
        "epochs": trainer.clock.epoch,
        "steps": trainer.clock.step,
        "seconds": round(math.fsum(trainer.history.seconds), 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "weights": weights,
        **figures,
        "confusion": None if data.classes is None or data.test is None else _confusion(plan, data.test, weights),
        "versions": _versions(),
    }


def _weights(plan: Plan) -> str:
    """Which weights the figures are of: those that were validated, or the live ones if they had no time to come."""
    trainer, wanted = plan.trainer, plan.training.validation_weights
    if wanted is None:
        return "average" if "average" in averages_of(trainer.optimizer, trainer.callbacks) else "live"
    try:
        trainer.view_of(wanted)
    except NoAverageError:
        return "live"
    return wanted


def _figures(plan: Plan, part: Part, weights: str) -> dict[str, float | None]:
    """Means over the samples; for a regression also R² and the root of the mean square."""
    found = plan.trainer.evaluate(part, weights=weights)
    if plan.data.classes is None:
        errors = plan.trainer.predict(part[0], weights=weights).astype(np.float64) - part[1]
        found |= _regression(errors, part[1])
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _regression(errors: Array, targets: Array) -> dict[str, float]:
    total = float(np.square(targets - targets.mean(axis=0, dtype=np.float64)).sum())
    squares = float(np.square(errors).sum())
    return {
        "rmse": math.sqrt(squares / errors.size),
        "mae": float(np.abs(errors).mean()),
        "r2": 1 - squares / total if total else math.nan,
    }


def _confusion(plan: Plan, part: Part, weights: str) -> list[list[int]] | None:
    """Rows are the true classes of the test part, columns what the model says; None for outputs that are no classes."""
    outputs = plan.trainer.predict(part[0], weights=weights)
    classes = len(plan.data.classes or ())
    if outputs.shape[1:] != (classes,):
        return None
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (part[1], outputs.argmax(axis=1)), 1)
    table: list[list[int]] = counts.tolist()
    return table


def _versions() -> dict[str, str]:
    core: dict[str, Any] = dict(_core.info())
    return {
        "stepsmith": str(core["version"]),
        "isa": str(core["isa"]),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": sys.platform,
    }


def lines(report: Mapping[str, Any]) -> list[str]:
    """The figures as text."""
    found = [f"{report['epochs']} epochs, {report['steps']} steps, {report['seconds']:.1f} s"]
    for part in ("train", "validation", "test"):
        if part in report:
            figures = "  ".join(f"{name} {_shown(value)}" for name, value in report[part].items())
            found.append(f"{part:<10}  {figures}")
    return found


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
