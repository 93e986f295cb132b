"""Quantization: codes and back, products with quantized weights, and low-bit optimizer state, beside their peers.

Results are compared with the peer's before anything is timed, in alternating blocks. Ours write where they wrote before
and take NaN for zero, as no peer looks for it; "raise ms" is the same with the look for NaN first. bitsandbytes, gguf,
PyTorch and torchao join in where they are installed. ``python benches/bench_quant.py --only 'quantize/nf4/*'``
"""

import argparse
import fnmatch
import gc
import sys
from collections.abc import Sequence
from dataclasses import asdict

import _harness
import _quant
import _quant_codecs
import _quant_products
import _quant_steps
from _quant import Case, Effort


def cases(quick: bool = False) -> list[Case]:
    """All lines."""
    shape, size, state = ((96, 256), 256, 70_001) if quick else ((4096, 4096), 4096, 64 << 20)
    return [
        *_quant_codecs.cases(shape),
        *_quant_products.cases(size),
        *_quant_steps.cases(state, state if quick else 16 << 20),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the cases that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes and few calls: a test of the bench itself")
    parser.add_argument("--only", default="*", metavar="GLOB", help="cases to run, such as 'matmul/int8/*'")
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    parser.add_argument("--json", default=".bench/quant.json", metavar="PATH", help="default: %(default)s")
    options = parser.parse_args(arguments)
    wanted = [case for case in cases(options.quick) if fnmatch.fnmatchcase(case.id, options.only)]
    if not wanted:
        parser.error(f"no case is called {options.only!r}: see --list")
    if options.list:
        print("\n".join(case.id for case in wanted))
        return
    effort = Effort(2, 0.002, 0.0) if options.quick else Effort(12, 0.08, 5.0)
    busy = _harness.busy_cores()
    if busy is not None and busy > 0.2:
        print(f"warning: other programs keep {busy:.1f} cores busy; a peer whose threads spin suffers most from that")
    print(_quant.HEADER)
    rows = []
    for case in wanted:
        rows.append(_quant.run(case, effort))
        _quant.show(rows[-1])
        gc.collect()
    content = {"quick": options.quick, "effort": asdict(effort), "busy_cores_before": busy, "cases": rows}
    _harness.write_json(options.json, content)


if __name__ == "__main__":
    sys.exit(main())
