"""The same bits of all norms and of activations at each CPU level and any number of threads."""

import pytest

from helpers import run_python
from stepsmith import _core

THREADS = [1, 2, 3, 7]

DIGESTS = """
import hashlib
import ml_dtypes
import numpy as np
import stepsmith as ss

from stepsmith.nn.functional import activate, activate_backward

norm = ss.norm
CALLS = {
    "layer": (lambda x, w, b: norm.layer_norm(x, w, b), norm.layer_norm_backward),
    "rms": (lambda x, w, b: norm.rms_norm(x, w), norm.rms_norm_backward),
    "batch": (lambda x, w, b: norm.batch_norm(x, w, b), norm.batch_norm_backward),
    "last": (lambda x, w, b: norm.batch_norm(x, w, b, axis=-1), norm.batch_norm_backward),
    "group": (lambda x, w, b: norm.group_norm(x, w, b, groups=2), norm.group_norm_backward),
    "instance": (lambda x, w, b: norm.instance_norm(x, w, b), norm.instance_norm_backward),
    "weight": (lambda x, w, b: norm.weight_norm(x, w, axis=1), norm.weight_norm_backward),
    "gelu": (lambda x, w, b: activate(x, "gelu", b), activate_backward),
    "softplus": (lambda x, w, b: activate(x, "softplus", b, axis=1), activate_backward),
}
SHAPES = {
    "layer": [(300, 511), (2, 70_003), (4097, 33)], "rms": [(129, 1030), (1500, 64)],
    "batch": [(9, 4, 5000), (70, 6, 77)], "last": [(3000, 67), (600, 1100), (77, 3, 1030)],
    "group": [(33, 6, 500), (3, 4, 40_000)], "instance": [(50, 4, 600)],
    "weight": [(60, 40, 50)], "gelu": [(300, 511), (20_000, 7)], "softplus": [(33, 6, 500), (2, 3, 40_000)],
}
for name, (forward, backward) in CALLS.items():
    for shape in SHAPES[name]:
        for dtype in (np.float32, np.float64, ml_dtypes.bfloat16, np.float16):
            rng = np.random.default_rng(1)
            x, dy = ((rng.standard_normal(shape) + 1).astype(np.float32).astype(dtype) for _ in range(2))
            axis = -1 if name in ("layer", "rms", "last", "gelu") else 1
            compute = np.float64 if dtype is np.float64 else np.float32
            w, b = (rng.standard_normal(shape[axis]).astype(compute) for _ in range(2))
            for threads in {threads}:
                with ss.threads(threads):
                    y, saved = forward(x, w, b)
                    statistics = [getattr(saved, a) for a in ('mean', 'rstd') if hasattr(saved, a)]
                    arrays = [y, *statistics, *backward(dy, saved)]
                digest = hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()
                print(name, shape, np.dtype(dtype), digest)
"""


@pytest.fixture(scope="module")
def digests() -> dict[str, list[str]]:
    code, levels = DIGESTS.replace("{threads}", str(THREADS)), _core.info()["isa_available"]
    assert isinstance(levels, list)
    return {level: run_python(code, environment={"STEPSMITH_ISA": level}).splitlines() for level in levels}


def test_threads_do_not_matter(digests: dict[str, list[str]]) -> None:
    for lines in digests.values():
        assert len(lines) == len(THREADS) * len(set(lines))
        assert all(
            len(set(group)) == 1 for group in zip(*(lines[k :: len(THREADS)] for k in range(len(THREADS))), strict=True)
        )


def test_the_level_does_not_matter(digests: dict[str, list[str]]) -> None:
    first = digests["baseline"]
    for lines in digests.values():
        assert lines == first
