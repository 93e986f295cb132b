"""Groups, hyperparameters, schedules, missing gradients, binding, one step at a time."""

import copy
import math
import pickle
import sys
import threading
from types import MappingProxyType

import ml_dtypes
import numpy as np
import pytest

import stepsmith as ss
from helpers import assert_same_bits, values
from reference import Reference

RNG = np.random.default_rng(31)


def draw(*shape: int, dtype=np.float32) -> np.ndarray:
    return values(RNG, shape, dtype)


# Groups and names.


def test_names_are_keys_or_running_indices() -> None:
    a, b, c, d = (draw(3) for _ in range(4))
    assert list(ss.optim.SGD({"x": a, "y": b}).params) == ["x", "y"]
    assert list(ss.optim.SGD([a, b]).params) == ["0", "1"]
    assert list(ss.optim.SGD(x for x in (a, b)).params) == ["0", "1"]
    groups = [{"params": [a, b]}, {"params": {"last": c}}, {"params": d}]
    optimizer = ss.optim.SGD(groups)
    assert list(optimizer.params) == ["0", "1", "last", "3"], "the index counts over all groups"
    assert [group["params"] for group in optimizer.groups] == [("0", "1"), ("last",), ("3",)]
    assert optimizer.params["last"] is c


def test_names_must_be_unique_over_all_groups() -> None:
    with pytest.raises(ValueError, match=r"^SGD: names of params must be unique over all groups, got '0' twice$"):
        ss.optim.SGD([{"params": [draw(3)]}, {"params": {"0": draw(3)}}])


def test_a_group_s_hyperparameters_are_its_own() -> None:
    params = {"w": draw(77), "b": draw(13), "s": draw(5, 5)}
    grads = {name: draw(*x.shape) for name, x in params.items()}
    settings = [{"lr": 0.1, "weight_decay": 0.5}, {"maximize": True}, {"lr": 0.3, "betas": [0.5, 0.6], "amsgrad": True}]
    references = [
        Reference("adamw", {name: x}, **{"lr": 1e-3, **own}) for (name, x), own in zip(params.items(), settings)
    ]
    optimizer = ss.optim.AdamW([{"params": {name: x}, **own} for (name, x), own in zip(params.items(), settings)])
    for _ in range(3):
        info = optimizer.step(grads)
        for name, reference in zip(params, references):
            reference.step({name: grads[name]})
            assert_same_bits(params[name], reference.params[name], name)
    assert info.lr == (0.1, 1e-3, 0.3)
    assert [sorted(row) for row in optimizer.state.values()] == [["m", "v"], ["m", "v"], ["m", "v", "v_max"]]


def test_a_changed_hyperparameter_holds_from_the_next_step() -> None:
    params = {"w": draw(70)}
    reference = Reference("adam", params, lr=0.1)
    optimizer = ss.optim.Adam(params, lr=0.1)
    for changed in ({}, {"lr": 0.5}, {"lr": 0.5, "weight_decay": 0.1}, {"betas": (0.2, 0.3)}):
        optimizer.groups[0].update(changed)
        grads = {"w": draw(70)}
        optimizer.step(grads)
        reference.settings.update(changed)
        reference.step(grads)
        assert_same_bits(params["w"], reference.params["w"])


CHANGES = [
    ("lr", -1.0, ValueError, "AdamW: lr must be finite and at least 0, got -1.0"),
    ("lr", "fast", TypeError, "AdamW: lr must be a number, got 'fast'"),
    ("betas", (0.9, 1.0), ValueError, "AdamW: betas[1] must be in [0, 1), got 1.0"),
    ("eps", None, TypeError, "AdamW: eps must be a number, got None"),
    ("maximize", 1, TypeError, "AdamW: maximize must be True or False, got 1"),
    ("amsgrad", True, ValueError, "must stay as they were at construction, got amsgrad=True"),
    (
        "momentum",
        0.9,
        ValueError,
        "AdamW: hyperparameters must be among lr, betas, eps, weight_decay, amsgrad, maximize, got 'momentum'",
    ),
    ("params", (), ValueError, "AdamW: group['params'] must stay, got another value"),
]


@pytest.mark.parametrize(("key", "value", "kind", "message"), CHANGES, ids=[row[0] for row in CHANGES])
def test_a_bad_change_is_refused_and_changes_nothing(key, value, kind, message) -> None:
    optimizer = ss.optim.AdamW([draw(3)])
    before = dict(optimizer.groups[0])
    with pytest.raises(kind) as caught:
        optimizer.groups[0][key] = value
    assert message in str(caught.value)
    assert dict(optimizer.groups[0]) == before
    with pytest.raises(TypeError):
        del optimizer.groups[0]["lr"]
    assert dict(optimizer.groups[0]) == before


NAN, INF = float("nan"), float("inf")
BAD = [
    ("AdamW", {"betas": (1.2, 0.9)}, ValueError, "AdamW: betas[0] must be in [0, 1), got 1.2"),
    ("AdamW", {"betas": (0.9, -0.1)}, ValueError, "AdamW: betas[1] must be in [0, 1), got -0.1"),
    ("AdamW", {"betas": 0.9}, TypeError, "AdamW: betas must be a pair of numbers, got 0.9"),
    ("Adam", {"betas": (0.9,)}, TypeError, "Adam: betas must be a pair of numbers, got (0.9,)"),
    ("Adam", {"betas": ("a", 0.9)}, TypeError, "Adam: betas[0] must be a number, got 'a'"),
    ("Adam", {"eps": -1e-8}, ValueError, "Adam: eps must be finite and at least 0, got -1e-08"),
    ("Adam", {"lr": NAN}, ValueError, "Adam: lr must be finite and at least 0, got nan"),
    ("Adam", {"lr": INF}, ValueError, "Adam: lr must be finite and at least 0, got inf"),
    ("Adam", {"lr": True}, TypeError, "Adam: lr must be a number, got True"),
    ("Adam", {"weight_decay": -0.1}, ValueError, "Adam: weight_decay must be finite and at least 0, got -0.1"),
    ("Adam", {"amsgrad": 1}, TypeError, "Adam: amsgrad must be True or False, got 1"),
    (
        "Adam",
        {"state_dtype": "float16"},
        ValueError,
        "Adam: state_dtype must be one of float32, bfloat16, int8, float8, got 'float16'",
    ),
    ("Adam", {"state_dtype": np.float32}, TypeError, "Adam: state_dtype must be a string"),
    ("Adam", {"max_norm": -1}, ValueError, "Adam: max_norm must be finite and at least 0, got -1"),
    (
        "Adam",
        {"on_nonfinite": "ignore"},
        ValueError,
        "Adam: on_nonfinite must be one of raise, skip, propagate, got 'ignore'",
    ),
    ("SGD", {"momentum": -0.5}, ValueError, "SGD: momentum must be finite and at least 0, got -0.5"),
    ("SGD", {"dampening": INF}, ValueError, "SGD: dampening must be finite, got inf"),
    (
        "SGD",
        {"nesterov": True},
        ValueError,
        "SGD: nesterov must come with momentum and without dampening, got momentum=0.0",
    ),
    ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, ValueError, "got momentum=0.9, dampening=0.1"),
    ("SGD", {"amsgrad": True}, TypeError, "unexpected keyword argument 'amsgrad'"),
]


@pytest.mark.parametrize(("name", "settings", "kind", "message"), BAD, ids=range(len(BAD)))
def test_bad_hyperparameters_are_named(name, settings, kind, message) -> None:
    with pytest.raises(kind) as caught:
        getattr(ss.optim, name)([draw(3)], **settings)
    assert type(caught.value) is kind
    assert message in str(caught.value)


def test_bad_groups_are_named() -> None:
    with pytest.raises(ValueError, match=r"^SGD: params\[0\] must have the key 'params', got \['lr'\]$"):
        ss.optim.SGD([{"lr": 0.1}])
    with pytest.raises(TypeError, match=r"^SGD: params\[1\] must be a group like the others, got ndarray$"):
        ss.optim.SGD([{"params": [draw(3)]}, draw(3)])
    with pytest.raises(ValueError, match=r"got 'betas'$"):
        ss.optim.SGD([{"params": [draw(3)], "betas": (0.9, 0.9)}])
    with pytest.raises(ValueError, match="SGD: nesterov must come with momentum"):
        ss.optim.SGD([{"params": [draw(3)], "momentum": 0.0}], momentum=0.9, nesterov=True)


# Schedules.


def test_update_t_uses_the_schedule_at_t_minus_1() -> None:
    params = {"w": np.zeros(4, np.float64)}
    optimizer = ss.optim.SGD(params, lr=ss.schedules.Step(1.0, step_size=1, gamma=0.5))
    rates = []
    for t in range(1, 5):
        before = params["w"].copy()
        info = optimizer.step([np.ones(4)])
        rates.append((before - params["w"])[0])
        assert info == (None, False, (rates[-1],), t)
    assert rates == [1.0, 0.5, 0.25, 0.125]


def test_warm_up_and_a_skipped_step_do_not_shift_the_schedule() -> None:
    schedule = ss.schedules.LinearWarmup(0.8, 4)
    optimizer = ss.optim.SGD([np.zeros(2, np.float32)], lr=schedule, on_nonfinite="skip")
    good, bad = np.ones(2, np.float32), np.full(2, np.nan, np.float32)
    infos = [optimizer.step([grad]) for grad in (good, bad, bad, good, good, good, good)]
    assert [info.skipped for info in infos] == [False, True, True, False, False, False, False]
    assert [info.step for info in infos] == [1, 1, 1, 2, 3, 4, 5]
    taken = [info.lr[0] for info in infos if not info.skipped]
    assert taken == [0.8 * min(1.0, (k + 1) / 4) for k in range(5)]


def test_a_schedule_that_gives_no_rate_is_an_error_before_anything_moves() -> None:
    class Broken(ss.schedules.Schedule, name="broken-for-a-test"):
        def value(self, step: int) -> float:
            return -1.0 if step == 1 else 1.0

    try:
        param = np.zeros(3, np.float32)
        optimizer = ss.optim.SGD([param], lr=Broken())
        optimizer.step([np.ones(3, np.float32)])
        with pytest.raises(ValueError, match=r"^SGD: lr of .* at step 1 must be finite and at least 0, got -1.0$"):
            optimizer.step([np.ones(3, np.float32)])
        assert param.tolist() == [-1.0] * 3
        assert optimizer.state_dict()["steps"] == {"0": 1}
    finally:
        del ss.schedules.REGISTRY["broken-for-a-test"]


# Missing gradients.


@pytest.mark.parametrize("config", [("sgd", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}), ("adam", {"lr": 0.1})])
def test_a_missing_gradient_skips_its_tensor_alone(config) -> None:
    rule, settings = config
    params = {"a": draw(70), "b": draw(33, dtype=np.float64), "c": draw(8)}
    reference = Reference(rule, params, **settings)
    optimizer = ss.optim.REGISTRY[rule](params, **settings)
    patterns = ["abc", "ac", "", "b", "abc", "c", "c", "abc"]
    for t, present in enumerate(patterns):
        grads = {name: draw(x.size) if name in present else None for name, x in params.items()}
        kept = {name: params[name].copy() for name in params if name not in present}
        info = optimizer.step(grads if t % 2 else MappingProxyType(dict(reversed(grads.items()))))
        reference.step(grads)
        assert info.step == t + 1
        assert optimizer.state_dict()["steps"] == reference.steps
        for name, param in params.items():
            assert_same_bits(param, reference.params[name], f"{name} {t}")
            for slot, array in optimizer.state[name].items():
                assert_same_bits(array, reference.state[name][slot], f"{name} {slot} {t}")
        assert all((params[name] == kept[name]).all() for name in kept)
    assert reference.steps == {"a": 4, "b": 4, "c": 6}


def test_zero_is_exact() -> None:
    """A weight with zero gradient and no decay does not move."""
    for cls in (ss.optim.SGD, ss.optim.Adam):
        for state_dtype in ("float32", "bfloat16"):
            param = draw(99)
            before = param.copy()
            optimizer = cls([param], lr=0.1, state_dtype=state_dtype)
            for _ in range(5):
                optimizer.step([np.zeros(99, np.float32)])
            assert_same_bits(param, before)


# One step at a time.


def large() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], ss.optim.AdamW]:
    n = 12_000_001
    params = {"a": np.zeros(n, np.float32), "b": np.zeros(3, np.float32)}
    grads = {"a": np.ones(n, np.float32), "b": np.ones(3, np.float32)}
    return params, grads, ss.optim.AdamW(params, lr=0.1)


def while_running(optimizer, grads, call) -> int:
    """Calls while another thread steps, until three calls were refused; returns the other thread's steps."""
    refused = steps = 0
    while refused < 3:
        assert steps < 60, "no call met a running step, or those that did were let in"
        thread = threading.Thread(target=optimizer.step, args=(grads,))
        thread.start()
        steps += 1
        while thread.is_alive():
            if optimizer._stepper.is_running:
                try:
                    call()
                except RuntimeError as error:
                    refused += str(error).startswith("AdamW: ") and "a call while" in str(error)
                break
        thread.join()
    return steps


def test_calls_while_a_step_runs_are_errors() -> None:
    params, grads, optimizer = large()
    made = optimizer.step(grads).step
    saved = optimizer.state_dict()
    made += while_running(optimizer, grads, lambda: optimizer.bind(grads))
    assert optimizer.state_dict()["steps"] == {"a": made, "b": made}
    assert (params["a"] == params["b"][0]).all()
    while_running(optimizer, grads, lambda: optimizer.load_state_dict(saved))
    assert (params["a"] == params["b"][0]).all()


def test_a_second_step_while_one_runs_is_an_error_and_leaves_the_counts() -> None:
    params, grads, optimizer = large()
    extra = []
    made = while_running(optimizer, grads, lambda: extra.append(optimizer.step(grads)))
    made += len(extra)
    assert optimizer.state_dict()["steps"] == {"a": made, "b": made}
    assert (params["a"] == params["b"][0]).all()
    made += while_running(optimizer, grads, lambda: optimizer.step({"a": None, "b": grads["b"]}))
    assert optimizer.state_dict()["steps"]["a"] == made
    optimizer.step(grads)
    assert optimizer.state_dict()["steps"]["a"] == made + 1


def test_threads_that_share_an_optimizer_never_step_with_old_scalars() -> None:
    """Each update uses its own learning rate or is refused, however the threads interleave."""
    optimizer = ss.optim.SGD({"w": np.zeros(10)}, lr=ss.schedules.LinearWarmup(1.0, 10**6))
    grad, seen, refused = np.ones(10), [], []

    def run() -> None:
        for _ in range(3000):
            try:
                seen.append(optimizer.step([grad]).lr[0])
            except RuntimeError:
                refused.append(1)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        workers = [threading.Thread(target=run) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(seen) + len(refused) == 6000
    assert len(set(seen)) == len(seen) == optimizer.state_dict()["steps"]["w"]


def test_state_dict_while_a_step_runs_is_an_error_or_whole() -> None:
    size = 4 << 20
    optimizer = ss.optim.SGD({"w": np.zeros(size, np.float32)}, momentum=1.0)
    grad = np.ones(size, np.float32)
    worker = threading.Thread(target=lambda: [optimizer.step([grad]) for _ in range(20)])
    worker.start()
    whole = 0
    while worker.is_alive():
        try:
            momentum = optimizer.state_dict()["state"]["w"]["momentum"]
        except RuntimeError:
            continue
        assert (momentum == momentum[0]).all()
        whole += 1
    worker.join()
    assert whole or optimizer.state_dict()["steps"]["w"] == 20


@pytest.mark.parametrize(
    "mask", [None, {"weight": True, "bias": False}, lambda name, array: array.ndim == 2 and name == "weight"]
)
def test_decay_groups_split_parameters(mask) -> None:
    params = {"weight": np.ones((2, 2)), "bias": np.ones(2)}
    optimizer = ss.optim.AdamW(ss.optim.decay_groups(params, mask), lr=0.5, weight_decay=0.1)
    optimizer.step({"weight": np.zeros((2, 2)), "bias": np.zeros(2)})
    assert (params["weight"] == 0.95).all()
    assert (params["bias"] == 1.0).all()
    assert len(ss.optim.decay_groups({"bias": np.ones(2)})) == 1


def test_decay_groups_refuse_other_names() -> None:
    names = r"^decay_groups: mask must have the names of params, missing \['w'\], extra \['v'\]$"
    with pytest.raises(ValueError, match=names):
        ss.optim.decay_groups({"w": np.ones(2)}, {"v": True})
    with pytest.raises(TypeError, match=r"^decay_groups: mask\['w'\] must be True or False, got 1$"):
        ss.optim.decay_groups({"w": np.ones(2)}, {"w": 1})
    with pytest.raises(TypeError, match=r"^decay_groups: params must be a mapping from names to arrays, got list$"):
        ss.optim.decay_groups([np.ones(2)])


def test_a_schedule_with_state_goes_on_after_a_load() -> None:
    """Whoever holds the schedule and updates it still reaches the optimizer."""

    def build():
        plateau = ss.schedules.ReduceOnPlateau(1.0, factor=0.5, patience=0)
        lr = ss.schedules.LinearWarmup(plateau, T=1)
        return plateau, ss.optim.Adam([np.ones(2)], lr=lr)

    first, straight = build()
    for metric in (3.0, 3.0):
        first.update(metric)
    held, resumed = build()
    resumed.load_state_dict(straight.state_dict())
    assert held == first
    assert held.update(3.0) == first.update(3.0) == 0.25
    assert resumed.step([np.ones(2)]).lr == straight.step([np.ones(2)]).lr == (0.25,)
    other = ss.optim.Adam([np.ones(2)], lr=ss.schedules.ReduceOnPlateau(2.0))
    other.load_state_dict(straight.state_dict())
    assert other.groups[0]["lr"] == straight.groups[0]["lr"]


def test_a_momentum_that_begins_at_zero_has_state() -> None:
    """A schedule counts as more than zero, whatever its first value; until then the buffer rests."""
    schedule = ss.schedules.Constant(0.9, factor=0.0, total_iters=2)
    param, path = np.zeros(3), []
    optimizer = ss.optim.SGD([param], lr=1.0, momentum=schedule)
    for _ in range(5):
        optimizer.step([np.ones(3)])
        path.append(float(param[0]))
    np.testing.assert_allclose(path, [-1.0, -2.0, -3.0, -4.9, -7.61])
    assert list(ss.optim.RMSprop([param], momentum=schedule).state["0"]) == ["square_avg", "momentum"]


@pytest.mark.parametrize("name", ["AdamW", "LBFGS"])
def test_an_optimizer_is_neither_pickled_nor_copied(name) -> None:
    optimizer = getattr(ss.optim, name)([np.ones(3)])
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=rf"^{name}: an optimizer must be saved by state_dict\(\), got "):
            way(optimizer)


def test_an_infinite_max_norm_only_computes_the_norm() -> None:
    param, plain, grad = np.ones(3), np.ones(3), np.array([3.0, 4.0, 0.0])
    assert ss.optim.SGD([param], max_norm=math.inf).step([grad]).grad_norm == 5.0
    ss.optim.SGD([plain]).step([grad])
    assert (param == plain).all()
    assert ss.clip_grad_norm([grad], math.inf) == 5.0
    assert grad.tolist() == [3.0, 4.0, 0.0]


def test_masks_are_resumed() -> None:
    """Also those that were set between steps."""
    grads, masks = {"w": np.ones((3, 5))}, {"w": np.arange(15).reshape(3, 5) % 2 == 0}

    def build():
        params = {"w": np.ones((3, 5)), "b": np.ones(())}
        return params, ss.optim.AdamW(params, lr=0.1)

    params, straight = build()
    straight.set_masks(masks)
    straight.step({**grads, "b": np.ones(())})
    saved = straight.state_dict()
    assert list(saved["masks"]) == ["w"]
    assert (saved["masks"]["w"] == masks["w"]).all()
    others, resumed = build()
    for name, param in others.items():
        param[...] = params[name]
    resumed.load_state_dict(saved)
    for optimizer in (straight, resumed):
        optimizer.step({**grads, "b": np.ones(())})
    assert (others["w"] == params["w"]).all()
    assert (others["w"][~masks["w"]] == 0).all()
    bad = {**saved, "masks": {"w": np.ones(3, bool)}}
    with pytest.raises(ValueError, match=r"masks\['w'\] must have shape \(3, 5\), got \(3,\)"):
        resumed.load_state_dict(bad)
    assert "masks" not in build()[1].state_dict()


def test_copies_follow_a_load() -> None:
    """A user's shadow array and a parameter with a master copy are what they were when the state was saved."""

    def build():
        params = {"w": np.ones(5, np.float32), "h": np.ones(5, ml_dtypes.bfloat16)}
        shadow = {"w": np.zeros(5, np.float16)}
        return params, shadow, ss.optim.AdamW(params, lr=0.1, master=True, shadow=shadow)

    params, shadow, optimizer = build()
    optimizer.step([np.ones(5), np.ones(5)])
    others, other_shadow, resumed = build()
    others["w"][...] = params["w"]
    resumed.load_state_dict(optimizer.state_dict())
    assert (other_shadow["w"] == shadow["w"]).all()
    assert (others["h"] == params["h"]).all()
    assert (params["h"] != 1).all()


@pytest.mark.parametrize("options", [{"shadow": "bfloat16"}, {"shadow": "float16", "ema": 0.5}])
def test_schedule_free_s_shadow_follows_the_mode(options) -> None:
    params = {"w": np.linspace(-1, 1, 700, dtype=np.float32)}
    optimizer = ss.optim.ScheduleFreeAdamW(params, lr=0.1, **options)
    for _ in range(3):
        optimizer.step({"w": np.ones(700, np.float32)})
    for switch in (optimizer.eval, optimizer.train):
        before = params["w"].copy()
        switch()
        assert (params["w"] != before).any()
        assert (optimizer.state["w"]["shadow"] == params["w"].astype(optimizer.state["w"]["shadow"].dtype)).all()


def test_schedule_free_s_mode_is_the_master_s() -> None:
    wide = {"w": np.linspace(-1, 1, 700, dtype=np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)}
    half = {"w": wide["w"].astype(ml_dtypes.bfloat16)}
    plain = ss.optim.ScheduleFreeAdamW(wide, lr=0.1)
    master = ss.optim.ScheduleFreeAdamW(half, lr=0.1, master=True)
    for step in range(3):
        for optimizer in (plain, master):
            optimizer.step({"w": np.full(700, 1.0 + step, np.float32)})
    for way in ("eval", "train", "eval"):
        for optimizer in (plain, master):
            getattr(optimizer, way)()
        assert (master.state["w"]["master"] == wide["w"]).all()
        assert (half["w"] == wide["w"].astype(ml_dtypes.bfloat16)).all()
