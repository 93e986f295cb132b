"""A fit that is broken off anywhere and goes on in the same process ends in the bits of the straight one."""

import os
import signal
import threading

import numpy as np
import pytest

import stepsmith as ss
from resume_runs import digest
from stepsmith.train import SWA, Callback, Checkpoint, EarlyStopping, LRMonitor
from stepsmith.train.interrupts import Interrupts
from test_train import XV, YV, X, Y, copy, same


def interrupt() -> None:
    """Ctrl-C, as the operating system sends it."""
    os.kill(os.getpid(), signal.SIGINT)


class Breaker(Callback):
    """Does something at the calls of one hook, once each."""

    def __init__(self, hook: str, calls: set[int], what) -> None:
        self.calls, self.seen = calls, 0
        setattr(self, hook, lambda *_arguments: self._call(what))
        # The trainer asks the class who wants to hear of steps.
        self.__class__ = type("Breaker", (Breaker,), {hook: lambda own, *_arguments: own._call(what)})

    def _call(self, what) -> None:
        self.seen += 1
        if self.seen in self.calls:
            what()


def fail() -> None:
    raise RuntimeError("broken")


def build(folder=None, breaker: Callback | None = None, first: bool = True, metric=None) -> ss.Trainer:
    model = ss.nn.Sequential(
        ss.nn.Linear(6, 16), ss.nn.BatchNorm(16), ss.nn.Tanh(), ss.nn.Dropout(0.2), ss.nn.Linear(16, 2)
    )
    optimizer = ss.optim.AdamW(model.parameters(), lr=0.03, ema=0.9)
    others = [EarlyStopping(9), SWA(start=1), LRMonitor(), *([Checkpoint(folder, 3)] if folder else [])]
    extra = [] if breaker is None else [breaker]
    callbacks = [*extra, *others] if first else [*others, *extra]
    metrics = {} if metric is None else {"m": metric}
    return ss.Trainer(model, optimizer=optimizer, seed=1, callbacks=callbacks, metrics=metrics)


def fit(trainer: ss.Trainer, epochs: int = 4, **options) -> None:
    trainer.fit((X, Y), (XV, YV), epochs=epochs, batch_size=16, progress=False, **options)


def persistent(trainer: ss.Trainer, error: type[BaseException], **options) -> int:
    """Fits until nothing breaks it off; how often something did."""
    for broken in range(100):
        try:
            fit(trainer, **options)
        except error:
            continue
        return broken
    raise AssertionError("it never ends")


@pytest.fixture(scope="module")
def straight() -> ss.Trainer:
    trainer = build()
    fit(trainer)
    return trainer


def assert_as_straight(trainer: ss.Trainer, straight: ss.Trainer) -> None:
    assert trainer.history.rows == straight.history.rows
    assert trainer.clock == straight.clock
    assert same(copy(trainer), copy(straight))
    kinds = SWA, LRMonitor, EarlyStopping
    found, wanted = ([item for item in one.callbacks if isinstance(item, kinds)] for one in (trainer, straight))
    for own, its in zip(found, wanted, strict=True):
        assert repr(own.state_dict()) == repr(its.state_dict())


@pytest.mark.parametrize(("what", "error"), [(interrupt, KeyboardInterrupt), (fail, RuntimeError)])
@pytest.mark.parametrize(("hook", "calls"), [("on_step_end", {1, 4, 5, 13}), ("on_epoch_end", {1, 2, 4})])
@pytest.mark.parametrize("first", [True, False])
def test_an_error_in_a_callback(straight, what, error, hook, calls, first) -> None:
    """Those after it hear of the step or epoch all the same."""
    trainer = build(breaker=Breaker(hook, calls, what), first=first)
    assert persistent(trainer, error) == len(calls)
    assert_as_straight(trainer, straight)


@pytest.mark.parametrize("what", [interrupt, fail])
def test_an_error_in_validation(straight, what) -> None:
    seen = 0

    def metric(_output, _target) -> tuple[float, float]:
        nonlocal seen
        seen += 1
        if seen in (1, 3, 6):
            what()
        return 1.0, 1.0

    trainer = build(metric=metric)
    assert persistent(trainer, (KeyboardInterrupt, RuntimeError)) == 3
    rows = [{name: value for name, value in row.items() if name != "val_m"} for row in trainer.history.rows]
    assert rows == straight.history.rows
    assert same(copy(trainer), copy(straight))


@pytest.mark.parametrize("place", ["before", "after"])
def test_ctrl_c_in_a_step_of_the_optimizer(straight, place: str) -> None:
    """After the native step Python looks for signals: the step must count then."""
    trainer = build()
    step, seen = trainer.optimizer.step, 0

    def interrupted(*arguments):
        nonlocal seen
        seen += 1
        if place == "before" and seen in (2, 7):
            interrupt()
        info = step(*arguments)
        if place == "after" and seen in (2, 7):
            interrupt()
        return info

    trainer.optimizer.step = interrupted
    assert persistent(trainer, KeyboardInterrupt) == 2
    assert trainer.optimizer.state_dict()["groups"][0]["step"] == trainer.clock.step == 20
    assert_as_straight(trainer, straight)


def test_ctrl_c_in_the_gradients(straight) -> None:
    trainer = build()
    backward, seen = trainer.model.backward, 0

    def interrupted(*arguments):
        nonlocal seen
        seen += 1
        if seen in (3, 9):
            interrupt()
        return backward(*arguments)

    trainer.model.backward = interrupted
    assert persistent(trainer, KeyboardInterrupt) == 2
    assert_as_straight(trainer, straight)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_in_the_data(prefetch: int) -> None:
    def flaky(broken: set[int]):
        seen = 0

        def augment(batch, rng):
            nonlocal seen
            seen += 1
            if seen in broken:
                raise OSError("disk")
            return [batch[0] + rng.normal(size=batch[0].shape).astype(np.float32) / 9, *batch[1:]]

        return augment

    straight, trainer = build(), build()
    fit(straight, augment=flaky(set()))
    assert persistent(trainer, OSError, augment=flaky({2, 7, 8}), prefetch=prefetch) == 3
    assert_as_straight(trainer, straight)


@pytest.mark.slow
def test_ctrl_c_at_any_moment(straight, tmp_path) -> None:
    """Signals by a timer, a hundred of them."""
    rng = np.random.default_rng(0)
    hits = 0
    for number in range(40):
        trainer = build(tmp_path / str(number))
        for _ in range(10**4):
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(5e-4, 2e-2))
            try:
                fit(trainer)
                break
            except KeyboardInterrupt:
                hits += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0.0)
        assert_as_straight(trainer, straight)
    assert hits > 100


@pytest.fixture(autouse=True)
def alarm():
    """Timers send what Ctrl-C sends."""
    before = signal.signal(signal.SIGALRM, lambda *_arguments: interrupt())
    yield
    signal.signal(signal.SIGALRM, before)


def test_the_handler_is_put_back_and_a_second_ctrl_c_does_not_wait() -> None:
    before = signal.getsignal(signal.SIGINT)
    interrupts, order = Interrupts(), list[str]()

    def held(times: int) -> None:
        with interrupts.watched():
            with interrupts:
                for _ in range(times):
                    interrupt()
                order.append("held")
            order.append("never")

    with pytest.raises(KeyboardInterrupt):
        held(1)
    assert order == ["held"]
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        held(2)
    assert order == ["held"], "a second one does not wait"
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_a_fit_in_another_thread_touches_no_handler(straight) -> None:
    trainer, before = build(), signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=fit, args=(trainer,))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    assert_as_straight(trainer, straight)


def schedule_free(params) -> ss.optim.ScheduleFreeAdamW:
    return ss.optim.ScheduleFreeAdamW(params, lr=0.5)


def averaging(params) -> ss.optim.AdamW:
    return ss.optim.AdamW(params, lr=0.5, ema=0.8)


@pytest.mark.parametrize(("make", "weights"), [(schedule_free, None), (averaging, "ema"), (averaging, "live")])
def test_early_stopping_restores_what_it_measured(make, weights) -> None:
    model = ss.nn.Sequential(ss.nn.Linear(6, 16), ss.nn.BatchNorm(16), ss.nn.Tanh(), ss.nn.Linear(16, 2))
    stopping = EarlyStopping(3)
    trainer = ss.Trainer(model, optimizer=make(model.parameters()), callbacks=[stopping])
    fit(trainer, 40, validation_weights=weights)
    assert stopping.best_epoch < len(trainer.history)
    assert trainer.evaluate((XV, YV), weights=weights)["loss"] == stopping.best


def test_early_stopping_restores_master_copies() -> None:
    model = ss.nn.MixedPrecision(ss.nn.Sequential(ss.nn.Linear(6, 16), ss.nn.Tanh(), ss.nn.Linear(16, 2)))
    stopping, optimizer = EarlyStopping(3), ss.optim.Adam(model.parameters(), lr=0.3, master=True)
    trainer = ss.Trainer(model, optimizer=optimizer, callbacks=[stopping])
    fit(trainer, 40)
    assert stopping.best_epoch < len(trainer.history)
    for name, param in model.parameters().items():
        assert (optimizer.state[name]["master"].astype(param.dtype) == param).all()


def test_a_fit_goes_on_from_the_live_weights_unless_somebody_changed_the_best() -> None:
    def make() -> ss.Trainer:
        model = ss.nn.Sequential(ss.nn.Linear(6, 16), ss.nn.Tanh(), ss.nn.Linear(16, 2))
        optimizer = ss.optim.Adam(model.parameters(), lr=0.3)
        return ss.Trainer(model, optimizer=optimizer, callbacks=[EarlyStopping(30)])

    straight, parts = make(), make()
    fit(straight, 12)
    for epochs in (3, 7, 12):
        fit(parts, epochs)
        assert parts.evaluate((XV, YV))["loss"] == parts.callbacks[0].best
    assert parts.history.rows == straight.history.rows
    assert same(copy(parts), copy(straight))
    changed = make()
    fit(changed, 7)
    for param in changed.model.parameters().values():
        param[...] = 0.25
    with pytest.raises(ValueError, match="EarlyStopping: monitor 'val_loss' needs fit"):
        changed.fit((X, Y), epochs=8, progress=False)
    assert all((param == 0.25).all() for param in changed.model.parameters().values()), "a fit that did not begin"
    fit(changed, 8)
    assert changed.history["loss"][-1] != straight.history["loss"][7]


def test_digests_see_differences(straight, tmp_path) -> None:
    """What the killed runs are compared by."""
    other = build()
    fit(other, 3)
    assert digest(other, tmp_path) != digest(straight, tmp_path)
