"""The same bits of softmax and cross entropy at each CPU level and any number of threads."""

import pytest

from helpers import run_python
from stepsmith import _core

THREADS = [1, 2, 3, 7]

DIGESTS = """
import hashlib
import ml_dtypes
import numpy as np
import stepsmith as ss

functional = ss.nn.functional

def run(x, dy, labels, w):
    y, saved = functional.softmax(x)
    logs, saved_log = functional.log_softmax(x)
    q = np.abs(dy).astype(w.dtype)
    yield from (y, functional.softmax_backward(dy, saved))
    yield from (logs, functional.log_softmax_backward(dy, saved_log))
    for target, weight, smoothing in ((labels, None, 0.0), (labels, w, 0.1), (q, None, 0.1), (q, w, 0.0)):
        settings = {"label_smoothing": smoothing}
        loss, dx = ss.nn.cross_entropy(x, target, weight, **settings)
        losses, _ = ss.nn.cross_entropy(x, target, weight, reduction="none", grad=False, **settings)
        yield from (np.array(loss), dx, losses)

ALL = (np.float32, np.float64, ml_dtypes.bfloat16, np.float16)
SHAPES = {
    (7001, 10): ALL, (23_001, 10): ALL[:1], (1050, 63): ALL, (130, 511): ALL[:2], (65, 1030): ALL[:2],
    (2, 70_003): ALL[:3],
}
for shape, dtypes in SHAPES.items():
    for dtype in dtypes:
        rng = np.random.default_rng(1)
        x, dy = (rng.standard_normal(shape).astype(np.float32).astype(dtype) for _ in range(2))
        labels = rng.integers(0, shape[1], shape[0])
        labels[::7] = -100
        w = rng.random(shape[1]).astype(np.float64 if dtype is np.float64 else np.float32)
        for threads in {threads}:
            with ss.threads(threads):
                digest = hashlib.sha256(b"".join(a.tobytes() for a in run(x, dy, labels, w))).hexdigest()
            print(shape, np.dtype(dtype), digest)
"""


@pytest.fixture(scope="module")
def digests() -> dict[str, list[str]]:
    code, levels = DIGESTS.replace("{threads}", str(THREADS)), _core.info()["isa_available"]
    assert isinstance(levels, list)
    return {level: run_python(code, environment={"STEPSMITH_ISA": level}).splitlines() for level in levels}


def test_threads_do_not_matter(digests: dict[str, list[str]]) -> None:
    for lines in digests.values():
        assert len(lines) == len(THREADS) * len(set(lines))
        assert all(len(set(lines[k : k + len(THREADS)])) == 1 for k in range(0, len(lines), len(THREADS)))


def test_the_level_does_not_matter(digests: dict[str, list[str]]) -> None:
    first = digests["baseline"]
    for lines in digests.values():
        assert lines == first
