"""Compiles ahead, in a process of its own, what the tests of the GPU backend will want.

Tests run one after another on one core; meanwhile another core compiles. conftest.py starts this where the whole suite
runs. A test that comes too early waits. ``python -m gpu_shim.ahead 75 120`` in tests/ compiles for these devices.
"""

import atexit
import hashlib
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from gpu_shim.host import folder

TESTS = Path(__file__).resolve().parents[1]
DEVICES = (75, 120)
"""Compute capabilities that every kernel is compiled for."""
MORE_DEVICES = (80, 90, 100)
"""Those of the slow tests."""

_running: "list[subprocess.Popen[bytes]]" = []


class Report(NamedTuple):
    """What NVRTC makes of a program."""

    log: str
    """Registers and memory of each kernel."""
    ptx: str


@cache
def report(program: str, architecture: str) -> Report:
    """Of a program for a device such as ``sm_75``; from the folder, or compiled now."""
    wait()
    path = folder() / f"{program}-{architecture}-{_key()}.json"
    if not path.exists():
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(_compiled(program, architecture)))
        temporary.replace(path)
    return Report(*json.loads(path.read_text()))


@cache
def _key() -> str:
    """Another one with any other source."""
    from stepsmith.cuda import _nvrtc
    from stepsmith.cuda._source import FOLDER

    texts = [path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.cuh"))]
    return hashlib.sha256("\0".join([*texts, *_nvrtc.OPTIONS]).encode()).hexdigest()[:16]


def _compiled(program: str, architecture: str) -> Report:
    from stepsmith.cuda import _nvrtc
    from stepsmith.cuda._source import source

    options = (*_nvrtc.OPTIONS, "--ptxas-options=-v", "--warning-as-error=all-warnings")
    code, ptx, log = _nvrtc.compiler().compile(f"{program}.cu", source(program), architecture, options)
    assert code.startswith(b"\x7fELF")
    return Report(log, ptx)


def start(devices: "tuple[int, ...]") -> None:
    """Begins to compile everything, for devices of these compute capabilities."""
    os.environ["STEPSMITH_SHIM_DIR"] = str(folder())
    command = [sys.executable, "-m", "gpu_shim.ahead", *map(str, devices)]
    _running.append(subprocess.Popen(command, cwd=TESTS))
    atexit.register(lambda: [process.terminate() for process in _running])


def wait() -> None:
    """Until what was started is done."""
    while _running:
        assert _running.pop().wait() == 0, "the sources compile"


def main(devices: "list[str]") -> None:
    """Everything: first for the host, which most tests want."""
    from gpu_shim.install import build
    from stepsmith.cuda._source import programs, source

    for program in programs():
        build(program, source(program))
    for program in programs():
        for device in devices:
            report(program, f"sm_{device}")


if __name__ == "__main__":
    main(sys.argv[1:])
