"""``stepsmith train``."""

from __future__ import annotations

import json
import shlex
import sys
import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from stepsmith import NonFiniteError, threads
from stepsmith.config.document import differences, read
from stepsmith.config.example import EXAMPLE
from stepsmith.config.layout import Layout
from stepsmith.config.plan import Plan, planned
from stepsmith.config.problems import ConfigError
from stepsmith.config.report import begin, data_facts, finish, lines
from stepsmith.train import Trainer

__all__ = ["run"]


def run(arguments: Namespace) -> int:
    """Run the command and return its exit code; errors are ImportError, OSError and ValueError."""
    if arguments.example:
        print(EXAMPLE, end="")
        return 0
    if arguments.config is None:
        raise ConfigError("a config must be given; --example prints one to begin with")
    path = Path(arguments.config)
    layout = Layout(Path(arguments.output) if arguments.output else path.with_name(f"{path.stem}-run"))
    document = read(path, arguments.set)
    with _threads(document):
        plan = planned(document, layout)
        _prepare(plan, layout, arguments)
        try:
            _fit(plan)
        except KeyboardInterrupt:
            print(_interrupted(plan, arguments), file=sys.stderr)
            return 130
        report = finish(plan, layout)
    print("\n".join([*lines(report), f"report: {layout.folder}"]))
    return 0


def _threads(document: dict[str, Any]) -> AbstractContextManager[Any]:
    """A number of threads for the kernels; a wrong one is the plan's to name."""
    training = document.get("training", {})
    count = training.get("threads")
    return threads(count) if type(count) is int and 1 <= count <= 1024 else nullcontext()


def _prepare(plan: Plan, layout: Layout, arguments: Namespace) -> None:
    """Begin a run's folder, or bring the trainer to where the run was."""
    if arguments.resume and arguments.force:
        raise ConfigError("--resume and --force exclude each other")
    layout.check(arguments.resume, arguments.force)
    if arguments.resume:
        _check_same(plan, layout)
        if layout.has_checkpoint():
            with _said():
                Trainer.resume(layout.checkpoints, plan.trainer)
            return
    layout.clear()
    begin(plan, layout)


def _check_same(plan: Plan, layout: Layout) -> None:
    """A run goes on with the config and the data that it began with, or it would be another run."""
    changed = differences(read(layout.config), dict(plan.document))
    if changed:
        raise ConfigError(f"--resume needs the config of the run, got another {'; '.join(changed)}")
    if layout.data.is_file() and json.loads(layout.data.read_text(encoding="utf-8")) != data_facts(plan):
        raise ConfigError("--resume needs the data of the run, got others")


@contextmanager
def _said() -> Iterator[None]:
    """Warnings as lines of their own."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        print(f"stepsmith train: {warning.message}", file=sys.stderr)


def _fit(plan: Plan) -> None:
    try:
        plan.fit()
    except NonFiniteError as error:
        raise ConfigError(str(error)) from error


def _interrupted(plan: Plan, arguments: Namespace) -> str:
    clock = plan.trainer.clock
    words = ["stepsmith", "train", arguments.config, "--resume"]
    words += ["--output", arguments.output] if arguments.output else []
    words += [word for pair in arguments.set for word in ("--set", pair)]
    place = f"in epoch {clock.epoch + 1}, after step {clock.step}"
    return f"stepsmith train: interrupted {place}; to go on from the last checkpoint: {shlex.join(words)}"
