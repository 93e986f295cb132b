"""The GPU backend beside a copy within the device's memory, PyTorch and bitsandbytes where they are installed.

Results are compared before anything is timed; the sides take turns in blocks that the device's clock times. "copy
0.90x" is the part of a copy's bandwidth that the least traffic reaches. ``python benches/bench_gpu.py --only 'nf4/*'``
"""

import argparse
import fnmatch
import sys
from collections.abc import Sequence
from dataclasses import asdict

import _gpu
import _harness
from _gpu import Effort
from _gpu_cases import cases


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the cases that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes and few calls: a test of the bench itself")
    parser.add_argument("--only", default="*", metavar="GLOB", help="cases to run, such as 'adamw/*'")
    parser.add_argument("--json", default=".bench/gpu.json", metavar="PATH", help="default: %(default)s")
    options = parser.parse_args(arguments)
    wanted = [case for case in cases(options.quick) if fnmatch.fnmatchcase(case.id, options.only)]
    if not wanted:
        parser.error(f"no case is called {options.only!r}")
    effort = Effort(2, 0.001) if options.quick else Effort(9, 0.05)
    device = _gpu.device()
    speed = _gpu.copy_speed(1 << 16 if options.quick else 4 << 30, effort)
    print(f"{device['gpu']}: a copy moves {speed * 1e-9:.0f} GB/s, reads and writes counted")
    rows = []
    for case in wanted:
        rows.append(_gpu.run(case, effort, speed))
        print("\n".join(_gpu.lines(rows[-1])), flush=True)
        _free()
    content = {
        "quick": options.quick,
        "effort": asdict(effort),
        "device": device,
        "copy GB/s": speed * 1e-9,
        "cases": rows,
    }
    _harness.write_json(options.json, content)


def _free() -> None:
    """Gives the arrays of a case back, so that the next finds room."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()
    torch = _harness.find("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
