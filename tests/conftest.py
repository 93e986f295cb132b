"""Fixtures: the oracle's comparisons at every CPU level, each in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import gpu_shim
from gpu_shim import ahead
from helpers import HERE, environ
from stepsmith import _core

LEVELS: list[str] = _core.info()["isa_available"]

Reports = dict[str, dict[str, Any]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "level" in metafunc.fixturenames:
        metafunc.parametrize("level", LEVELS)
    if "schedule" in metafunc.fixturenames:
        first, *others = gpu_shim.SCHEDULES
        slow = [] if gpu_shim.has_gpu() else [pytest.param(name, marks=pytest.mark.slow) for name in others]
        metafunc.parametrize("schedule", [first, *slow], indirect=True)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Where the whole suite runs, what the GPU tests need is compiled while the others run."""
    here = [item for item in session.items if item.path.name.startswith("test_gpu_")]
    if here and len(session.items) > 2 * len(here) and not gpu_shim.has_gpu():
        is_slow = any(item.get_closest_marker("slow") for item in here)
        ahead.start((*ahead.DEVICES, *(ahead.MORE_DEVICES if is_slow else ())))


@pytest.fixture
def gpu() -> Iterator[Any]:
    """The module CuPy, or the stand-in for it where there is no GPU."""
    with gpu_shim.device() as cupy:
        yield cupy


@pytest.fixture
def schedule(request: pytest.FixtureRequest) -> Iterator[str]:
    """The order in which the stand-in runs the threads of a kernel: one, and with the slow tests all of them."""
    with gpu_shim.schedule(request.param):
        yield request.param


@pytest.fixture(scope="session")
def battery() -> Callable[[str, str], Reports]:
    """Suite and level → for each part its report. A suite's levels run side by side, once."""
    running: dict[tuple[str, str], subprocess.Popen[str]] = {}
    done: dict[tuple[str, str], Reports] = {}

    def start(suite: str, level: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", str(HERE / "battery.py"), suite],
            env=environ({"STEPSMITH_ISA": level}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def reports(suite: str, level: str) -> Reports:
        if (suite, level) not in done:
            for other in LEVELS:
                if (suite, other) not in running:
                    running[suite, other] = start(suite, other)
            out, error = running[suite, level].communicate(timeout=300)
            assert running[suite, level].returncode == 0, error
            done[suite, level] = {report["part"]: report for report in map(json.loads, out.splitlines())}
        return done[suite, level]

    return reports
