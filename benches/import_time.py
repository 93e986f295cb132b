"""What ``import stepsmith`` adds to ``import numpy``: milliseconds and threads, each import in a process of its own."""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import _harness
from _harness import Timing

MODULES = "numpy", "stepsmith"
TARGET = 60.0
"""Milliseconds."""
PROBE = """
import json, sys, time
start = time.perf_counter()
module = __import__(sys.argv[1])
ms = 1e3 * (time.perf_counter() - start)
try:
    import os
    threads = len(os.listdir("/proc/self/task"))
except OSError:
    import threading
    threads = threading.active_count()
print(json.dumps({"ms": ms, "threads": threads, "version": module.__version__}))
"""


def probe(module: str) -> dict[str, Any]:
    """Milliseconds, threads and version of a fresh import, without the working directory on the path."""
    command = [sys.executable, "-P", "-c", PROBE, module]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Imports in turns; the first import of each, which may find cold files, is dropped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two imports of each: a test of the bench itself")
    parser.add_argument("--json", default=".bench/import.json", metavar="PATH", help="default: %(default)s")
    options = parser.parse_args(arguments)
    first = {module: probe(module) for module in MODULES}
    timings = {module: Timing() for module in MODULES}
    for _ in range(2 if options.quick else 10):
        for module, timing in timings.items():
            timing.blocks.append([probe(module)["ms"]])
    added = timings["stepsmith"].median - timings["numpy"].median
    threads = {module: result["threads"] for module, result in first.items()}
    for module, timing in timings.items():
        print(f"import {module:<10}{timing.median:>8.1f} ms, then {threads[module]} threads")
    started = threads["stepsmith"] - threads["numpy"]
    print(f"stepsmith adds  {added:>8.1f} ms and {started} threads    target <= {TARGET:g} ms and none")
    sides = [{"name": module, "threads": threads[module], **timing.as_json()} for module, timing in timings.items()]
    content = {"quick": options.quick, "added_ms": added, "added_threads": started, "target_ms": TARGET, "sides": sides}
    _harness.write_json(options.json, content)


if __name__ == "__main__":
    sys.exit(main())
