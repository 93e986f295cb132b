"""AdamW with state of few bits beside float32 state, and beside bitsandbytes and torchao on the CPU."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

import _peers
from _harness import Side, find
from _peers import PATTERN, Contender, Problem
from _quant import Case, Work
from stepsmith import _core, threads

RULE = "adamw"
LIMIT = 0.06
"""Share of two steps' way by which state may lead astray that float8 rounds by up to a sixteenth."""

COPIES = """
import numpy as np
a = np.ones(%d, np.uint8)
b = a.copy()
print("ready", flush=True)
while True:
    np.copyto(b, a)
"""


def _agree(problem: Problem, ours: Contender, theirs: Contender) -> bool:
    """Two steps each, the second with other gradients."""
    for halve in (False, True):
        if halve:
            problem.halve_grads()
        ours.step()
        theirs.step()
    got, want = ours.params()[0], theirs.params()[0]
    for at in range(0, problem.size, PATTERN):
        part = slice(at, min(at + PATTERN, problem.size))
        start = problem.before(part)
        way = np.abs(want[part] - start)
        if not way.all() or not (np.abs(got[part] - want[part].astype(np.float64)) <= LIMIT * way).all():
            return False
    return True


def _work(problem: Problem, state_dtype: str, peer: Contender) -> Work:
    ours = _peers.ours(RULE, problem, state_dtype=state_dtype)
    return Work(
        ours.step,
        ours.traffic,
        partial(_agree, problem, ours, peer),
        Side(peer.name, peer.step),
        copied=False,
    )


def _beside_float32(state_dtype: str, size: int) -> Work:
    problem = Problem(1, size, "float32")
    return _work(problem, state_dtype, _peers.ours(RULE, problem, "float32 state"))


@contextmanager
def beside_copies(nbytes: int) -> Iterator[None]:
    """One thread for us, while another process copies an array without end."""
    process = subprocess.Popen([sys.executable, "-c", COPIES % nbytes], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the process that copies did not start")
        with threads(1):
            yield
    finally:
        process.kill()
        process.communicate()


def _busy(state_dtype: str, size: int) -> Work:
    work = _beside_float32(state_dtype, size)
    return Work(**{**vars(work), "around": partial(beside_copies, 4 * size)})


def _of_torch(package: str, name: str, state_dtype: str, size: int) -> Work:
    """Their steps over memory that NumPy allocated, with as many threads as ours."""
    problem = Problem(1, size, "float32")
    torch: Any = find("torch")
    module: Any = torch and find(f"{package}.optim")
    if not module:
        ours = _peers.ours(RULE, problem, state_dtype=state_dtype)
        reference = _peers.ours(RULE, problem)
        agree = partial(_agree, problem, ours, reference)
        return Work(ours.step, ours.traffic, agree, missing=package, copied=False)
    torch.set_num_threads(int(dict(_core.info())["threads"]))
    arrays = problem.params()
    param = torch.nn.Parameter(torch.from_numpy(arrays[0]))
    param.grad = torch.from_numpy(problem.grads[0])
    opt = getattr(module, name)([param], **_peers.ROWS[RULE].settings)
    return _work(problem, state_dtype, Contender(f"{package} {name}", opt.step, params=lambda: arrays))


STATES: dict[str, float | None] = {"bfloat16": None, "float8": 1 / 1.1, "int8": 1 / 1.3}
"""Kinds of state, and the part of the float32 step's speed that we want at least."""

PEERS = (
    ("bitsandbytes", "AdamW8bit", "int8"),
    ("bitsandbytes", "AdamW8bit", "float8"),
    ("torchao", "AdamW8bit", "int8"),
    ("torchao", "AdamWFp8", "float8"),
)
"""Package, class, and the state of ours that it is measured beside."""


def cases(size: int, size_of_peers: int) -> Iterator[Case]:
    """Every state beside float32; the same on one thread while memory is busy; others' 8-bit steps, which are slow."""
    label, label_of_peers = (str(n) if n % (1 << 20) else f"{n >> 20}Mi" for n in (size, size_of_peers))
    for state, target in STATES.items():
        yield Case(f"{RULE}/{state}/{label}", partial(_beside_float32, state, size), target)
    for state in STATES:
        yield Case(f"{RULE}/{state}/{label}/busy", partial(_busy, state, size), 1)
    for package, name, state in PEERS:
        make = partial(_of_torch, package, name, state, size_of_peers)
        yield Case(f"{RULE}/{state}/{label_of_peers}/{package}", make, 50)
