"""Threads, the GIL, fork, memory, thread counts: what a step does to the process that it runs in."""

import json
import os
import sys
import threading
import time

import numpy as np
import pytest
import threadpoolctl

import stepsmith as ss
from helpers import assert_same_bits, run_python, values
from stepsmith import _core

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc or sets affinity")
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def test_the_gil_is_free_during_a_large_step() -> None:
    """Another thread, which holds no lock of ours, counts while steps run, many times within one step."""
    n = 12_000_001
    params, grads = [np.zeros(n, np.float32)], [np.ones(n, np.float32)]
    optimizer = ss.optim.AdamW(params)
    optimizer.step(grads)
    within, done = [0], threading.Event()

    def count() -> None:
        while not done.is_set():
            if optimizer._stepper.is_running:
                within[0] += 1
            time.sleep(0)  # gives the GIL away

    before = sys.getswitchinterval()
    thread = threading.Thread(target=count)
    sys.setswitchinterval(1000.0)  # a thread runs only when another one gives the GIL away by itself
    try:
        thread.start()
        for _ in range(20):
            optimizer.step(grads)
    finally:
        sys.setswitchinterval(before)
        done.set()
        thread.join()
    assert within[0] > 20
    assert params[0][0] < 0


def test_a_small_step_keeps_the_gil_and_the_pool_asleep() -> None:
    code = """
import numpy as np, stepsmith as ss
n = 64 * 1024 - 1
optimizer = ss.optim.SGD([np.zeros(n, np.float32)])
with ss.threads(4):
    optimizer.step([np.ones(n, np.float32)])
    ss.grad_norm([np.ones(n, np.float32)])
    print(ss._core.info()["pool_threads"], ss._core.info()["last_threads"])
    ss.optim.SGD([np.zeros(n + 1, np.float32)]).step([np.ones(n + 1, np.float32)])
    print(ss._core.info()["pool_threads"], ss._core.info()["last_threads"])
"""
    assert run_python(code).split() == ["0", "1", "1", "2"]


@linux
def test_import_starts_no_thread() -> None:
    code = """
import os
def count(): return len(os.listdir("/proc/self/task"))
import numpy, ml_dtypes, threadpoolctl
before = count()
import stepsmith as ss
after = count()
ss.optim.AdamW([numpy.zeros(5)]).step([numpy.ones(5)])
print(after - before, count() - after)
with ss.threads(3):
    ss.grad_norm([numpy.ones(300_000)])
print(count() - after)
"""
    assert run_python(code, environment={"OPENBLAS_NUM_THREADS": "1"}).split() == ["0", "0", "2"]


FORK = """
import os, signal, sys, time, warnings
import numpy as np, stepsmith as ss
warnings.simplefilter("ignore", DeprecationWarning)  # a fork of a process with threads is what this is about
n = 300_001
def run(steps):
    param = np.zeros(n, np.float32)
    optimizer = ss.optim.AdamW([param], lr=0.1)
    with ss.threads(3):
        for _ in range(steps):
            optimizer.step([np.ones(n, np.float32)])
        assert ss._core.info()["last_threads"] == 3
    return param, optimizer
want, _ = run(4)
param, optimizer = run(2)
def child():
    assert ss._core.info()["pool_threads"] == 0
    with ss.threads(3):
        for _ in range(2):
            optimizer.step([np.ones(n, np.float32)])
        assert ss._core.info()["last_threads"] == 3
    assert ss._core.info()["pool_threads"] == 2
    return param.tobytes() == want.tobytes()
def forked(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # a hang ends the child
        try:
            os._exit(0 if work() else 1)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(forked(child), forked(lambda: forked(child) == 0 and child()))
with ss.threads(3):
    optimizer.step([np.ones(n, np.float32)])
    print(ss._core.info()["last_threads"])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_steps_in_parallel() -> None:
    assert run_python(FORK).split() == ["0", "0", "3"]


MEMORY = """
import re
import numpy as np, stepsmith as ss
N, M = 901, 803  # 2.9 MB of float32
make = {
    "contiguous": lambda: np.zeros((N, M), np.float32),
    "strided": lambda: np.zeros((N, 2 * M), np.float32)[:, ::2],
    "fortran": lambda: np.zeros((M, N), np.float32).T,
    "misaligned": lambda: np.zeros(4 * N * M + 1, np.uint8)[1:].view(np.float32).reshape(N, M),
}
def kilobytes(key):
    return int(re.search(key + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1])
def use(optimizer, grad):
    optimizer.step([grad])
    optimizer.bind([grad])
    optimizer.step()
    ss.grad_norm([grad])
    ss.clip_grad_norm([grad], 0.5)
for p in make:
    for g in make:
        for settings in ({"on_nonfinite": "propagate"}, {"max_norm": 1.0}):
            param, grad = make[p](), make[g]()
            param[...] = 1
            grad[...] = 1
            optimizer = ss.optim.AdamW([param], lr=0.1, **settings)
            use(optimizer, grad)  # code that runs for the first time is paged in
            open("/proc/self/clear_refs", "w").write("5")  # the peak starts again from here
            before = kilobytes("VmRSS")
            use(optimizer, grad)
            print(1024 * (kilobytes("VmHWM") - before))
            assert param[0, 0] < 1 and param[-1, -1] == param[0, 0]
            del param, grad, optimizer
"""


def growths(code: str) -> list[int]:
    """glibc then hands each array to the system when it is freed, so that none is reused unseen."""
    environment = {"STEPSMITH_NUM_THREADS": "2", "MALLOC_MMAP_THRESHOLD_": "65536"}
    return [int(x) for x in run_python(code, environment=environment).split()]


@linux
@pytest.mark.parametrize("optimizer", ["AdamW", "LAMB", "LARS", "Adafactor"])
def test_steps_allocate_nothing_of_the_arrays_size(optimizer) -> None:
    """Each array is 2.9 MB; after a warm-up the peak of resident memory may not rise by a tenth of that.

    Adafactor's sums of columns, 8 bytes for each 64 elements of a high matrix, are added up before they are many.
    """
    growth = growths(MEMORY.replace("AdamW", optimizer))
    assert len(growth) == 32
    assert max(growth) < 290_000, growth


@linux
def test_the_measure_of_memory_can_fail() -> None:
    code = MEMORY.replace("ss.grad_norm([grad])", "ss.grad_norm([grad + 1])")
    assert min(growths(code)) > 2_500_000


def test_threads_nest_and_restore() -> None:
    before = _core.info()["threads"]
    with ss.threads(3):
        assert _core.info()["threads"] == 3
        twice = ss.threads(5)
        with twice:
            with twice:
                assert _core.info()["threads"] == 5
            assert _core.info()["threads"] == 5
        assert _core.info()["threads"] == 3
        with pytest.raises(ZeroDivisionError), ss.threads(2):
            1 / 0  # noqa: B018
        assert _core.info()["threads"] == 3
    assert _core.info()["threads"] == before


@pytest.mark.parametrize(
    ("count", "kind"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError), ("2", TypeError)]
)
def test_a_bad_thread_count_is_refused(count, kind) -> None:
    with pytest.raises(kind, match=r"^threads: count must be .*, got "):
        ss.threads(count)


def test_threadpoolctl_sees_and_caps_the_pool() -> None:
    def entries():
        return [entry for entry in threadpoolctl.threadpool_info() if entry["internal_api"] == "stepsmith"]

    (entry,) = entries()
    assert entry["user_api"] == "stepsmith"
    assert entry["num_threads"] == _core.info()["threads"]
    assert entry["version"] == ss.__version__
    # A limit of the default count is no wish to the letter: the work must last until a sleeping thread is awake.
    array = np.ones(10_000_000, np.float32)
    with ss.threads(3):
        ss.grad_norm([array])
        assert _core.info()["last_threads"] == entries()[0]["num_threads"] == 3
        with threadpoolctl.threadpool_limits(2, user_api="stepsmith"):
            ss.grad_norm([array])
            assert _core.info()["last_threads"] == entries()[0]["num_threads"] == 2
        assert _core.info()["threads"] == 3
    with threadpoolctl.threadpool_limits(1):
        ss.grad_norm([array])
        assert _core.info()["last_threads"] == 1
    assert _core.set_threads(0) == 0, "a limit that ended left no wish behind"


COUNTS = [
    ({"STEPSMITH_NUM_THREADS": "5"}, 5),
    ({"STEPSMITH_NUM_THREADS": "5", "OMP_NUM_THREADS": "3"}, 5),
    ({"OMP_NUM_THREADS": "3"}, 3),
    ({"OMP_NUM_THREADS": "4,2"}, 4),
    ({"STEPSMITH_NUM_THREADS": "", "OMP_NUM_THREADS": "3"}, 3),
]


@pytest.mark.parametrize(("environment", "count"), COUNTS, ids=range(len(COUNTS)))
def test_the_default_count_is_the_environment_s(environment, count) -> None:
    code = """
from stepsmith import _core, threads
print(_core.info()["threads"])
with threads(2):
    print(_core.info()["threads"])
"""
    assert run_python(code, environment=environment).split() == [str(count), "2"]


@linux
@pytest.mark.skipif(CPUS < 2, reason="one CPU: affinity takes nothing away")
def test_the_default_count_follows_affinity() -> None:
    code = """
import json, os, sys
count = int(os.environ["COUNT"])
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
import numpy as np, stepsmith as ss
ss.grad_norm([np.ones(2**20, np.float32)])
print(json.dumps([ss._core.info()["threads"], ss._core.info()["pool_threads"]]))
"""
    assert json.loads(run_python(code, environment={"COUNT": "1"})) == [1, 0]
    assert json.loads(run_python(code, environment={"COUNT": "2"})) == [2, 1]


def test_steps_of_several_optimizers_in_several_threads_are_right() -> None:
    n = 200_001
    grads = [values(np.random.default_rng(k), n, np.float32) for k in range(4)]
    wants = []
    for grad in grads:
        want = np.ones(n, np.float32)
        optimizer = ss.optim.AdamW([want], lr=0.1)
        for _ in range(5):
            optimizer.step([grad])
        wants.append(want)
    params = [np.ones(n, np.float32) for _ in grads]

    def run(k: int) -> None:
        optimizer = ss.optim.AdamW([params[k]], lr=0.1)
        for _ in range(5):
            optimizer.step([grads[k]])

    workers = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for param, want in zip(params, wants):
        assert_same_bits(param, want)
