"""What only a machine with a GPU can show: ``make test-gpu``. Needs CuPy and pytest, no network, and ten minutes.

1. Every test of the GPU backend on the device: bits beside the CPU's, all sizes.
2. Every kernel once under each tool of compute-sanitizer.

stepsmith is the installed one, else that of the newest wheel in dist/ (``make wheel``, on any machine of this kind).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLS = "memcheck", "racecheck", "initcheck", "synccheck"
SECONDS = {"tests": 330, "tool": 60}
"""At most, so that all of it ends in ten minutes."""


def importable(environment: dict[str, str]) -> bool:
    """Is there a stepsmith with its compiled core?"""
    probe = [sys.executable, "-c", "import stepsmith._core"]
    return subprocess.run(probe, env=environment, capture_output=True, check=False, cwd="/").returncode == 0


def from_wheel(folder: Path, environment: dict[str, str]) -> None:
    """Unpacks the newest wheel: it is a zip of packages, and nothing has to be installed."""
    wheels = sorted((HERE.parent / "dist").glob("stepsmith-*.whl"), key=lambda path: path.stat().st_mtime)
    if not wheels:
        raise SystemExit("stepsmith is not installed, and dist/ has no wheel of it: run make wheel first")
    zipfile.ZipFile(wheels[-1]).extractall(folder)
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), environment.get("PYTHONPATH", "")])
    print(f"stepsmith of {wheels[-1].name}", flush=True)


def run(what: str, command: Sequence[str], environment: dict[str, str], seconds: float) -> bool:
    """Runs a part; did it end well?"""
    print(f"\n== {what}", flush=True)
    start = time.monotonic()
    try:
        code: int | str = subprocess.run(command, env=environment, timeout=seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        code = f"more than {seconds:.0f} s"
    print(f"== {what}: {'ok' if code == 0 else f'FAILED ({code})'} after {time.monotonic() - start:.0f} s", flush=True)
    return code == 0


def main() -> int:
    """Runs all parts; 0 if every one ended well."""
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        if not importable(environment):
            from_wheel(Path(folder), environment)
        available = [sys.executable, "-c", "import cupy, sys; sys.exit(not cupy.cuda.is_available())"]
        if subprocess.run(available, env=environment, check=False).returncode:
            raise SystemExit("there is no GPU that CuPy can use: nothing was tested")
        tests = sorted(map(str, HERE.glob("test_gpu_*.py")))
        fine = [run("tests", [sys.executable, "-m", "pytest", "-q", "-x", *tests], environment, SECONDS["tests"])]
        sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        if not Path(sanitizer).exists():
            print("== compute-sanitizer was not found: it comes with the CUDA toolkit")
            return 1
        for tool in TOOLS:
            command = [sanitizer, "--tool", tool, "--error-exitcode", "1", sys.executable, str(HERE / "gpu_kernels.py")]
            fine.append(run(tool, command, environment, SECONDS["tool"]))
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
