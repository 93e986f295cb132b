"""What a step on the device does without waiting: scalars of many updates, recordings, problems that are told later."""

import contextlib
import gc
import threading
import weakref

import numpy as np
import pytest

import gpu_shim
import stepsmith as ss
from gpu_optim import Pair, same
from gpu_shim import standin
from stepsmith.cuda.optim import launches, ring
from stepsmith.cuda.optim.structs import RING

RNG = np.random.default_rng(31)
NAN = np.float32(np.nan)
only_stand_in = pytest.mark.skipif(gpu_shim.has_gpu(), reason="counts what the stand-in does")


def grad(size=70):
    return RNG.standard_normal(size).astype(np.float32)


def pair(gpu, rule="nadam", **settings):
    return Pair(gpu, rule, {"w": RNG.standard_normal(70).astype(np.float32)}, **{"lr": 0.01, **settings})


@pytest.fixture
def rows_made(monkeypatch):
    """How many rows of the table were uploaded, for each upload."""
    made, upload = [], ring.Ring._upload

    def counted(self, entries, clears):
        made.append(len(entries))
        upload(self, entries, clears)

    monkeypatch.setattr(ring.Ring, "_upload", counted)
    return made


@pytest.mark.parametrize("rule", ["nadam", "adamw"])
def test_three_hundred_steps_and_changes_of_the_rate_in_between(gpu, rule, rows_made):
    both = pair(gpu, rule, on_nonfinite="propagate")
    for t in range(300):
        if t in {5, 6, 7, 200, 290}:
            for optimizer in (both.host, both.device):
                optimizer.groups[0]["lr"] = 0.01 / (t + 1)
        there = both.grads_there({"w": (g := grad())})
        both.host.step([g])
        both.device.step(there)
    both.compare()
    assert max(rows_made) == RING // 2
    assert sum(rows_made) < 900


def test_who_sets_a_rate_at_each_step_pays_for_one_row(gpu, rows_made):
    both = pair(gpu)
    for t in range(20):
        for optimizer in (both.host, both.device):
            optimizer.groups[0]["lr"] = 0.1 / (t + 1)
        both.step({"w": grad()})
    assert rows_made == [1] * 20


def test_rows_are_made_for_twice_as_many_steps_each_time(gpu, rows_made):
    both = pair(gpu)
    for _ in range(20):
        both.step({"w": grad()})
    assert rows_made == [1, 2, 4, 8, 16]


def test_a_schedule_that_is_told_of_a_metric_holds_from_the_next_step(gpu):
    both = pair(gpu, "adam", on_nonfinite="propagate")
    plateaus = [ss.schedules.ReduceOnPlateau(0.1, patience=0, factor=0.5) for _ in range(2)]
    for optimizer, plateau in zip((both.host, both.device), plateaus):
        optimizer.groups[0]["lr"] = plateau
    for t in range(30):
        both.step({"w": grad()})
        if t in {3, 9, 10}:
            assert plateaus[0].update(1.0) == plateaus[1].update(1.0)
    both.compare()


@pytest.mark.parametrize("max_norm", [None, 1.0])
@pytest.mark.parametrize("rule", ["nadam", "sgd"])
def test_skipped_steps_count_nothing(gpu, rule, max_norm):
    settings = {"momentum": 0.9, "dampening": 0.5} if rule == "sgd" else {}
    both = pair(gpu, rule, on_nonfinite="skip", max_norm=max_norm, **settings)
    bad = set(RNG.choice(300, 60, replace=False).tolist())
    for t in range(300):
        if t % 40 == 39:
            for optimizer in (both.host, both.device):
                optimizer.groups[0]["lr"] = 0.01 / t
        g = grad()
        if t in bad:
            g[RNG.integers(70)] = np.inf
        both.step({"w": g})
    both.compare()
    assert both.host.state_dict()["steps"] == {"w": 240}


class Blind:
    """The host sees no news until it waits, as if the device were far behind."""

    def __init__(self, monkeypatch, record):
        self.record, self.waits, self._news = record, 0, record._news
        read, monkeypatched = record.read, monkeypatch.setattr
        self._late()

        def waiting():
            self.waits += 1
            record._news = self._news
            control = read()
            self._late()
            return control

        monkeypatched(record, "read", waiting)

    def _late(self):
        self.record._news = self._news.copy()


@pytest.mark.parametrize("rule", ["nadam", "adam"])
def test_steps_that_may_have_been_skipped_are_prepared_for_both(gpu, rule, monkeypatch):
    """The device keeps its own count: rows are there for each that it may have."""
    both = pair(gpu, rule, on_nonfinite="skip")
    blind = Blind(monkeypatch, both.device._stepper._record)
    for t in range(400):
        if t == 100:
            for optimizer in (both.host, both.device):
                optimizer.groups[0]["betas"] = 0.5, 0.9
        g = grad()
        if t % 7 == 3:
            g[t % 70] = np.nan
        both.host.step([g])
        both.device.step(both.grads_there({"w": g}))
    assert blind.waits == 3
    both.compare()


def test_a_value_that_a_schedule_will_not_have_is_an_error_of_that_step(gpu):
    both = pair(gpu, "adam", betas=(ss.schedules.Linear(1.0, start_factor=0.5, total_iters=6), 0.9))
    for _ in range(6):
        both.step({"w": grad()})
    for optimizer, grads in ((both.host, {"w": grad()}), (both.device, both.grads_there({"w": grad()}))):
        with pytest.raises(ValueError, match=r"^Adam: betas\[0\] of .* at step 6 must be in \[0, 1\), got 1"):
            optimizer.step(grads)
        optimizer.groups[0]["betas"] = 0.5, 0.9
    both.step({"w": grad()})
    both.compare()


# What goes wrong.


@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_a_bad_element_is_told_by_the_next_step(gpu, max_norm):
    both = pair(gpu, max_norm=max_norm)
    both.step({"w": grad()})
    bad = grad()
    bad[[69, 7]] = np.nan, -np.inf
    before = both.there["w"].get()
    info = both.device.step(both.grads_there({"w": bad}), grad_scale=0.5)
    with pytest.raises(ss.NonFiniteError) as told:
        both.device.step(both.grads_there({"w": grad()}))
    with pytest.raises(ss.NonFiniteError) as want:
        both.host.step([bad], grad_scale=0.5)
    assert str(told.value) == str(want.value)
    same(both.there["w"].get(), before, "w")
    assert info.skipped
    assert info.step == 1
    both.step({"w": grad()})
    both.compare()


def test_a_bad_element_is_told_by_what_the_step_returned_and_only_once(gpu):
    both = pair(gpu, max_norm=1.0)
    bad = np.full(70, np.nan, np.float32)
    info = both.device.step(both.grads_there({"w": bad}))
    with pytest.raises(ss.NonFiniteError, match=r"^NAdam: grads\['w'\] must be finite, got nan at index \[0\]$"):
        _ = info.grad_norm
    assert (info.grad_norm, info.skipped, info.lr, info.step) == (None, True, (0.01,), 0)
    both.step({"w": grad()})
    both.compare()


def test_a_norm_that_overflows_is_told(gpu):
    there = gpu.ones(9)
    optimizer = ss.optim.SGD([there], max_norm=1.0)
    info = optimizer.step([gpu.full(9, 1e200)])
    with pytest.raises(ss.NonFiniteError, match=r"^SGD: the norm of all gradients must be finite, got inf$"):
        _ = info.step
    assert (there.get() == 1).all()


@pytest.mark.parametrize("changes", [True, False])
def test_steps_behind_a_bad_one_do_nothing(gpu, monkeypatch, changes):
    """Also where rates were changed while nobody knew of it."""
    both = pair(gpu, ema=0.9)
    both.step({"w": grad()})
    Blind(monkeypatch, both.device._stepper._record)
    both.device.step(both.grads_there({"w": np.full(70, np.nan, np.float32)}))
    for t in range(5):
        if changes:
            both.device.groups[0]["lr"] = 0.1 * t
        both.device.step(both.grads_there({"w": grad()}))
    assert both.device.state_dict()["steps"] == {"w": 1}
    both.host.groups[0]["lr"] = both.device.groups[0]["lr"]
    both.compare()
    with pytest.raises(ss.NonFiniteError):
        both.device.refill()
    for _ in range(3):
        both.step({"w": grad()})
    both.compare()


# Nobody waits.


@only_stand_in
@pytest.mark.parametrize("policy", ["raise", "skip", "propagate"])
def test_a_step_does_not_wait(gpu, policy):
    both = pair(gpu, "lamb", on_nonfinite=policy, max_norm=1.0, agc=0.1, masks={"w": RNG.random(70) < 0.5}, ema=0.9)
    grads = [both.grads_there({"w": grad()}) for _ in range(3)]
    before, infos = standin.syncs(), []
    for t in range(40):
        both.device.groups[0]["lr"] = 0.1 / (1 + t // 9)
        infos.append(both.device.step(grads[t % 3], grad_scale=2.0))
    assert standin.syncs() == before
    assert [info.step for info in infos] == list(range(1, 41))


@only_stand_in
def test_muon_does_not_wait(gpu):
    there = gpu.asarray(RNG.standard_normal((8, 5)))
    optimizer = ss.optim.Muon({"w": there}, lr=0.1)
    grads = {"w": gpu.asarray(RNG.standard_normal((8, 5)))}
    before = standin.syncs()
    for _ in range(3):
        optimizer.step(grads)
    assert standin.syncs() == before


def test_tables_are_made_anew_only_for_other_gradients(gpu, monkeypatch):
    from stepsmith.cuda.optim.table import Table

    made, placed, uploaded = [], [], []
    for name, calls in (("_make", made), ("_place", placed), ("upload", uploaded)):
        own = getattr(Table, name)
        monkeypatch.setattr(Table, name, lambda self, *args, own=own, calls=calls: (calls.append(1), own(self, *args)))
    both = pair(gpu, "adam")
    host, first, second = grad(), *(gpu.asarray(grad()) for _ in range(2))
    for _ in range(3):
        both.device.step([first])
    assert (len(made), len(placed)) == (1, 1)
    both.device.step([second])
    assert (len(made), len(placed)) == (1, 2)
    both.device.step([gpu.asarray(host)[::-1]])
    both.device.step([gpu.asarray(host.astype(np.float64))])
    assert (len(made), len(placed)) == (3, 4)
    both.device.bind([second])
    for _ in range(3):
        both.device.step()
    assert (len(made), len(placed)) == (4, 5)


def test_gradients_are_not_kept_beyond_their_step(gpu):
    both = pair(gpu, "adam")
    given = both.grads_there({"w": grad()})
    both.device.step(given)
    seen = weakref.ref(given["w"])
    del given
    gc.collect()
    assert seen() is None


# Recordings.


@contextlib.contextmanager
def recording(gpu):
    """Yields a list that has the recording behind it."""
    stream, graphs = gpu.cuda.Stream(non_blocking=True), []
    with stream:
        stream.begin_capture()
        try:
            yield graphs
        finally:
            graphs.append(stream.end_capture())


def test_a_recorded_step_is_replayed_with_the_scalars_of_its_update(gpu):
    both = pair(gpu, max_norm=1.0, on_nonfinite="skip")
    there = both.grads_there({"w": (first := grad())})
    both.device.bind(there)
    both.host.bind([first])
    both.device.step()
    both.host.step()
    with recording(gpu) as graphs:
        info = both.device.step()
    for t in range(520):
        if t % RING == 0:
            for optimizer in (both.host, both.device):
                optimizer.groups[0]["lr"] = 0.01 / (t + 1)
            both.device.refill()
        first[:] = grad()
        first[t % 70] = np.nan if t % 5 == 1 else 0.0
        there["w"].set(first)
        graphs[0].launch()
        both.host.step()
        if t in {3, 9}:
            assert info.step == both.host.state_dict()["steps"]["w"]
    assert info.step == both.host.state_dict()["steps"]["w"]
    for _ in range(3):
        both.step({"w": grad()})
    both.compare()


def test_a_replay_past_the_table_does_nothing_and_is_told(gpu):
    both = pair(gpu, "adam")
    there = both.grads_there({"w": grad()})
    both.device.bind(there)
    both.device.step()
    with recording(gpu) as graphs:
        both.device.step()
    both.device.refill()
    for _ in range(RING):
        graphs[0].launch()
    before = both.there["w"].get()
    for _ in range(3):
        graphs[0].launch()
    same(both.there["w"].get(), before, "w")
    message = (
        r"^Adam: recorded steps must be refilled before the table of 256 updates ends: call refill\(\), got a step"
    )
    with pytest.raises(RuntimeError, match=message):
        both.device.refill()
    both.device.refill()
    graphs[0].launch()
    assert both.device.state_dict()["steps"] == {"w": RING + 2}


def test_a_replay_does_not_take_hyperparameters_of_before(gpu):
    both = pair(gpu, "adam")
    there = both.grads_there({"w": grad()})
    for _ in range(8):
        both.device.step(there)
    with recording(gpu) as graphs:
        both.device.step(there)
    both.device.groups[0]["lr"] = 0.5
    both.device.step(there)
    before = both.there["w"].get()
    graphs[0].launch()
    same(both.there["w"].get(), before, "w")
    with pytest.raises(RuntimeError, match=r"call refill\(\), got a step past it, which did nothing$"):
        both.device.step(there)


def test_a_recording_brings_nothing_to_the_device(gpu):
    both = pair(gpu, "adam", on_nonfinite="skip")
    grads, others = (both.grads_there({"w": grad()}) for _ in range(2))
    optimizer, message = both.device, "^Adam: a step that is recorded must find everything on the device, got other "
    with (
        recording(gpu),
        pytest.raises(RuntimeError, match=message + "gradients: step once with the same arrays first$"),
    ):
        optimizer.step(grads)
    optimizer.step(grads)
    with recording(gpu), pytest.raises(RuntimeError, match=message + "gradients"):
        optimizer.step(others)
    optimizer.groups[0]["lr"] = 0.5
    with recording(gpu), pytest.raises(RuntimeError, match=message + "hyperparameters"):
        optimizer.step(grads)
    assert optimizer.state_dict()["steps"] == {"w": 1}
    assert optimizer.step(grads).step == 2


# One step at a time.


def test_a_call_while_a_step_is_launched_is_an_error(gpu, monkeypatch):
    both = pair(gpu, "adam")
    inside, leave = threading.Event(), threading.Event()
    launch = launches.Launches.write

    def slow(self, table):
        inside.set()
        leave.wait(10)
        launch(self, table)

    monkeypatch.setattr(launches.Launches, "write", slow)
    worker = threading.Thread(target=both.device.step, args=(both.grads_there({"w": grad()}),))
    worker.start()
    inside.wait(10)
    message = "^Adam: one step at a time, got a call while another step runs$"
    for call in (
        lambda: both.device.step({"w": both.there["w"]}),
        both.device.state_dict,
        lambda: both.device.bind(None),
    ):
        with pytest.raises(RuntimeError, match=message):
            call()
    leave.set()
    worker.join()
    assert both.device.state_dict()["steps"] == {"w": 1}


@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_beside_a_launch_leaves_the_count_right(gpu, monkeypatch, after):
    both = pair(gpu)
    both.step({"w": grad()})
    launch, g = launches.Launches.write, grad()

    def interrupted(self, table):
        if after:
            launch(self, table)
        raise KeyboardInterrupt

    monkeypatch.setattr(launches.Launches, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        both.device.step(both.grads_there({"w": g}))
    monkeypatch.setattr(launches.Launches, "write", launch)
    if after:
        both.host.step([g])
    for _ in range(3):
        both.step({"w": grad()})
    both.compare()
