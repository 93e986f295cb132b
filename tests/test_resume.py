"""Runs that are killed at every step and resumed end in the bits of the straight run."""

import json
import subprocess
import sys

import pytest

from helpers import HERE, environ
from resume_runs import RUNS

KINDS = list(RUNS)


def runs(kind: str, every: int, threads: int, last: int = 0) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(HERE / "resume_runs.py"), kind, str(every), str(last)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environ({"STEPSMITH_NUM_THREADS": str(threads)}),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("threads", "every"), [(1, 3), (2, 1)])
def test_a_killed_run_ends_in_the_same_bits(kind: str, threads: int, every: int) -> None:
    first, *others = runs(kind, every, threads)
    assert first["start"] == 0
    assert len(others) >= first["steps"], "killed at every step"
    starts = {run["start"] for run in others}
    assert len(starts) > first["steps"] // every, "resumed from every checkpoint"
    assert {run["hash"] for run in others} == {first["hash"]}


@pytest.mark.parametrize("kind", KINDS)
def test_threads_do_not_matter(kind: str) -> None:
    """With the BLAS's at one."""
    (one,), (two,) = (runs(kind, 3, threads, last=-1) for threads in (1, 2))
    assert one == two
