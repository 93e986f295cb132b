"""Schedules against PyTorch's golden rows and PyTorch itself, their round trip through JSON, state, plots, errors."""

import copy
import json
import math
import random
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stepsmith as ss
from helpers import run_python
from stepsmith import schedules
from stepsmith.schedules import (
    REGISTRY,
    Constant,
    CosineAnnealing,
    CosineAnnealingWarmRestarts,
    CosineWarmup,
    CubicSparsity,
    Cyclic,
    CyclicMomentum,
    Exponential,
    ExponentialDecay,
    InverseTime,
    Linear,
    LinearDecay,
    LinearWarmup,
    MultiStep,
    OneCycle,
    OneCycleMomentum,
    Polynomial,
    Product,
    ReduceOnPlateau,
    Schedule,
    Sequential,
    Step,
    from_dict,
)

GOLDEN = Path(__file__).parent / "golden"
CASES = {case["case"]: case for case in json.loads((GOLDEN / "schedules.json").read_text())}
ARRAYS = np.load(GOLDEN / "schedules.npz")
PLATEAU = ("plateau-min", "plateau-max")
# These two are told their rates; the optimizer's own has no part in them.
OWN_RATE = (Cyclic, OneCycle)
CLASSES: dict[str, type[Schedule]] = {
    "step": Step,
    "multistep": MultiStep,
    "exponential": Exponential,
    "linear": Linear,
    "constant": Constant,
    "polynomial": Polynomial,
    "cosine": CosineAnnealing,
    "cosine-restarts": CosineAnnealingWarmRestarts,
    "cyclic-triangular": Cyclic,
    "cyclic-triangular2": Cyclic,
    "cyclic-exp_range": Cyclic,
    "onecycle-cos": OneCycle,
    "onecycle-linear": OneCycle,
    "onecycle-three-phase": OneCycle,
    "plateau-min": ReduceOnPlateau,
    "plateau-max": ReduceOnPlateau,
    "warmup-cosine": Sequential,
}


def golden(case: str) -> Schedule:
    base_lr, settings = CASES[case]["base_lr"], CASES[case]["settings"]
    if case == "warmup-cosine":
        parts = [Linear(base_lr, start_factor=0.1, total_iters=10), CosineAnnealing(base_lr, T_max=50)]
        return Sequential(parts, settings["milestones"])
    cls = CLASSES[case]
    return cls(**settings) if cls in OWN_RATE else cls(base_lr, **settings)


def test_every_golden_case_is_covered() -> None:
    assert set(CASES) == set(CLASSES)


@pytest.mark.parametrize("case", [case for case in CASES if case not in PLATEAU])
def test_schedule_equals_pytorch(case: str) -> None:
    schedule, want = golden(case), ARRAYS[f"{case}/lr"]
    assert len(set(want.tolist())) > 1
    np.testing.assert_allclose([schedule(step) for step in range(len(want))], want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("resumed_at", [0, 7, 26, 59])
@pytest.mark.parametrize("case", PLATEAU)
def test_plateau_equals_pytorch_even_if_resumed(case: str, resumed_at: int) -> None:
    schedule, want = golden(case), ARRAYS[f"{case}/lr"]
    assert len(set(want.tolist())) > 3
    for step, metric in enumerate(ARRAYS[f"{case}/metric"]):
        if step == resumed_at:
            schedule = from_dict(json.loads(json.dumps(schedule.to_dict(), allow_nan=False)))
        assert schedule(step) == pytest.approx(want[step], rel=1e-12)
        schedule.update(metric)


# PyTorch itself, where it is installed: momentum, which the golden rows lack, and arguments drawn at random.

SETTINGS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "StepLR": lambda r: {"step_size": r.randint(1, 9), "gamma": r.random()},
    "MultiStepLR": lambda r: {"milestones": sorted(r.choices(range(40), k=4)), "gamma": r.random()},
    "ExponentialLR": lambda r: {"gamma": r.uniform(0.8, 1)},
    "ConstantLR": lambda r: {"factor": r.random(), "total_iters": r.randint(0, 20)},
    "LinearLR": lambda r: {
        "start_factor": r.uniform(0.01, 1),
        "end_factor": r.random(),
        "total_iters": r.randint(1, 30),
    },
    "PolynomialLR": lambda r: {"total_iters": r.randint(1, 30), "power": r.uniform(0, 3)},
    "CosineAnnealingLR": lambda r: {"T_max": r.randint(1, 12), "eta_min": r.choice([0, 0.01])},
    "CosineAnnealingWarmRestarts": lambda r: {"T_0": r.randint(1, 9), "T_mult": r.randint(1, 3), "eta_min": 0.01},
}


def cycle(r: random.Random) -> dict[str, Any]:
    mode = r.choice(["triangular", "triangular2", "exp_range"])
    up, down = r.randint(1, 9), r.choice([None, r.randint(1, 9)])
    return {"step_size_up": up, "step_size_down": down, "mode": mode, "gamma": r.uniform(0.8, 1)}


def one_cycle(r: random.Random) -> dict[str, Any]:
    three = r.random() < 0.5
    way = r.choice(["cos", "linear"])
    share = r.uniform(0, 0.5 if three else 1)
    return {"total_steps": r.randint(2, 60), "pct_start": share, "anneal_strategy": way, "three_phase": three}


def pytorch(name: str, steps: int, *args: Any, **settings: Any) -> tuple[list[float], list[float]]:
    """Rates and momenta of the first steps."""
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.9)
    scheduler = getattr(torch.optim.lr_scheduler, name)(optimizer, *args, **settings)
    rates, momenta = [], []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    return rates, momenta


def assert_values(schedule: Schedule, want: list[float]) -> None:
    np.testing.assert_allclose([schedule(step) for step in range(len(want))], want, rtol=1e-12, atol=1e-15)


needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")


@needs_torch
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", SETTINGS)
def test_other_arguments_equal_pytorch(name: str, seed: int) -> None:
    settings = SETTINGS[name](random.Random(seed))
    schedule = getattr(schedules, name.removesuffix("LR"))(0.1, **settings)
    assert_values(schedule, pytorch(name, 60, **settings)[0])


@needs_torch
@pytest.mark.parametrize("seed", range(12))
def test_cycles_and_their_momentum_equal_pytorch(seed: int) -> None:
    settings = cycle(random.Random(seed))
    rates, momenta = pytorch("CyclicLR", 60, 0.01, 0.2, base_momentum=0.7, max_momentum=0.93, **settings)
    assert_values(Cyclic(0.01, 0.2, **settings), rates)
    assert_values(CyclicMomentum(0.7, 0.93, **settings), momenta)


@needs_torch
@pytest.mark.parametrize("seed", range(12))
def test_one_cycle_and_its_momentum_equal_pytorch(seed: int) -> None:
    settings = one_cycle(random.Random(seed))
    steps = settings["total_steps"]
    rates, momenta = pytorch("OneCycleLR", steps, 0.3, base_momentum=0.7, max_momentum=0.93, **settings)
    assert_values(OneCycle(0.3, **settings), rates)
    assert_values(OneCycleMomentum(0.7, 0.93, **settings), momenta)


# What every schedule does.

rates = st.floats(0, 10)
shares = st.floats(0, 1)
counts = st.integers(1, 50)
factors = st.floats(0.01, 100)
modes = st.sampled_from(["triangular", "triangular2", "exp_range"])
momenta = st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)).map(sorted)


def ascending(low: int, unique: bool) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, 50), max_size=4, unique=unique).map(sorted)


def cyclic(cls: type[Schedule], bounds: st.SearchStrategy[list[float]]) -> st.SearchStrategy[Schedule]:
    return st.builds(lambda b, *rest: cls(*b, *rest), bounds, counts, st.none() | counts, modes, shares)


def three_phases(three: bool) -> st.SearchStrategy[tuple[float, str, bool]]:
    return st.tuples(st.floats(0, 0.5 if three else 1), st.sampled_from(["cos", "linear"]), st.just(three))


phases = st.booleans().flatmap(three_phases)


@st.composite
def plateaus(draw: st.DrawFn) -> ReduceOnPlateau:
    schedule = draw(
        st.builds(
            ReduceOnPlateau,
            rates,
            st.sampled_from(["min", "max"]),
            st.floats(0, 0.9),
            st.integers(0, 3),
            st.floats(0, 0.1),
            st.sampled_from(["rel", "abs"]),
            st.integers(0, 3),
            rates,
            st.floats(0, 0.1),
        )
    )
    for metric in draw(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=8)):
        schedule.update(metric)
    return schedule


STRATEGIES: dict[type[Schedule], st.SearchStrategy[Schedule]] = {
    Constant: st.builds(Constant, rates, shares, st.integers(0, 50)),
    Linear: st.builds(Linear, rates, st.floats(0.01, 1), shares, counts),
    LinearDecay: st.builds(LinearDecay, rates, counts),
    Polynomial: st.builds(Polynomial, rates, counts, st.floats(0, 5)),
    Step: st.builds(Step, rates, counts, shares),
    MultiStep: st.builds(MultiStep, rates, ascending(0, unique=False), shares),
    Exponential: st.builds(Exponential, rates, shares),
    ExponentialDecay: st.builds(ExponentialDecay, rates, rates),
    InverseTime: st.builds(InverseTime, rates, rates),
    CosineAnnealing: st.builds(CosineAnnealing, rates, counts, rates),
    CosineAnnealingWarmRestarts: st.builds(CosineAnnealingWarmRestarts, rates, counts, st.integers(1, 4), rates),
    CubicSparsity: st.builds(
        lambda s, start, n, every: CubicSparsity(s[1], start, start + n * every, every, s[0]),
        st.tuples(shares, shares).map(sorted),
        st.integers(0, 50),
        counts,
        counts,
    ),
    Cyclic: cyclic(Cyclic, st.tuples(rates, rates).map(sorted)),
    CyclicMomentum: cyclic(CyclicMomentum, momenta),
    OneCycle: st.builds(
        lambda *a: OneCycle(*a[:2], *a[2][:2], *a[3:], a[2][2]), rates, counts, phases, factors, factors
    ),
    OneCycleMomentum: st.builds(lambda b, n, p: OneCycleMomentum(*b, n, *p), momenta, counts, phases),
    ReduceOnPlateau: plateaus(),
}
simple = st.one_of(*STRATEGIES.values())
STRATEGIES[LinearWarmup] = st.builds(LinearWarmup, rates | simple, counts)
STRATEGIES[CosineWarmup] = st.builds(CosineWarmup, rates | simple, counts)
STRATEGIES[Product] = st.builds(Product, st.lists(simple, min_size=1, max_size=3))
STRATEGIES[Sequential] = ascending(1, unique=True).flatmap(
    lambda milestones: st.builds(
        Sequential,
        st.lists(simple | STRATEGIES[LinearWarmup], min_size=len(milestones) + 1, max_size=len(milestones) + 1),
        st.just(milestones),
    )
)
every = pytest.mark.parametrize("cls", STRATEGIES, ids=lambda cls: cls.__name__)
STEPS = [*range(0, 120, 7), 10**6 + 1, 2**53 + 1]


def test_registry_holds_every_class() -> None:
    def below(cls: type[Schedule]) -> set[type[Schedule]]:
        return {cls}.union(*map(below, cls.__subclasses__()))

    assert set(REGISTRY.values()) == below(Schedule) - {Schedule} == set(STRATEGIES)
    assert {cls.__name__ for cls in REGISTRY.values()} <= set(schedules.__all__)


@every
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_values_are_finite_pure_and_survive_json(cls: type[Schedule], data: st.DataObject) -> None:
    schedule = data.draw(STRATEGIES[cls])
    values = [schedule(step) for step in STEPS]
    assert all(type(value) is float and math.isfinite(value) and value >= 0 for value in values)
    assert [schedule(step) for step in reversed(STEPS)] == values[::-1]
    again = from_dict(json.loads(json.dumps(schedule.to_dict(), allow_nan=False)))
    assert again == schedule == copy.deepcopy(schedule)
    assert hash(again) == hash(schedule)
    assert again.to_dict() == schedule.to_dict()
    assert [again(step) for step in STEPS] == values


def test_arguments_cannot_be_set() -> None:
    for schedule, argument in ((Step(0.1, 3), "lr"), (ReduceOnPlateau(0.1), "lr"), (ReduceOnPlateau(0.1), "state")):
        with pytest.raises(AttributeError):
            setattr(schedule, argument, 0.2)


def test_numpy_numbers_become_json_numbers() -> None:
    schedule = Step(np.float64(0.1), step_size=np.int64(3), gamma=np.float32(0.5))
    assert json.loads(json.dumps(schedule.to_dict())) == Step(0.1, step_size=3, gamma=0.5).to_dict()
    assert schedule(np.int64(3)) == 0.05
    steps = MultiStep(1.0, milestones=np.array([2, 5]))
    assert json.loads(json.dumps(steps.to_dict()))["arguments"]["milestones"] == [2, 5]
    assert steps == MultiStep(1.0, milestones=(2, 5))


# Formulas.


def test_warmup_reaches_the_rate_at_update_t() -> None:
    assert [LinearWarmup(1.0, T=4)(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    want = [0.5 * (1 + math.cos(math.pi * (1 - t / 4))) for t in (1, 2, 3, 4, 4)]
    assert [CosineWarmup(1.0, T=4)(step) for step in range(5)] == pytest.approx(want, rel=1e-15)
    assert CosineWarmup(0.3, T=4)(3) == CosineWarmup(0.3, T=1)(0) == 0.3


@pytest.mark.parametrize("warmup", [LinearWarmup, CosineWarmup])
def test_warmup_multiplies_a_schedule_at_the_same_step(warmup: type[Schedule]) -> None:
    inner = CosineAnnealing(1.0, T_max=8)
    outer, share = warmup(inner, T=4), warmup(1.0, T=4)
    assert [outer(step) for step in (1, 3, 6)] == pytest.approx([share(1) * inner(1), inner(3), inner(6)], rel=1e-15)


def test_decays_are_their_formulas() -> None:
    for step in range(9):
        assert LinearDecay(0.3, T=6)(step) == pytest.approx(0.3 * max(0.0, 1 - step / 6), abs=1e-16)
        assert LinearDecay(0.3, T=6)(step) == pytest.approx(Linear(0.3, 1.0, 0.0, 6)(step), abs=1e-16)
        assert ExponentialDecay(0.3, k=0.2)(step) == pytest.approx(0.3 * math.e ** (-0.2 * step), rel=1e-14)
        assert ExponentialDecay(0.3, k=0.2)(step) == pytest.approx(Exponential(0.3, math.exp(-0.2))(step), rel=1e-14)
        assert InverseTime(0.3, k=0.2)(step) == pytest.approx(0.3 / (1 + 0.2 * step), rel=1e-15)


def test_sparsity_rises_as_zhu_and_gupta_say() -> None:
    schedule = CubicSparsity(0.9, start=10, stop=34, every=4, initial=0.2)
    assert [schedule.is_update(step) for step in (6, 9, 10, 12, 14, 34, 38)] == [0, 0, 1, 0, 1, 1, 0]
    for step in range(50):
        k = min(max(step - 10, 0) // 4, 6)
        assert schedule(step) == pytest.approx(0.9 + (0.2 - 0.9) * (1 - k * 4 / (6 * 4)) ** 3, rel=1e-15)
    assert (schedule(0), schedule(10), schedule(34), schedule(10**9)) == (pytest.approx(0.2), schedule(0), 0.9, 0.9)
    assert CubicSparsity(1.0, start=0, stop=1)(0) == 0.0


def test_late_periods_repeat_the_first_to_the_bit() -> None:
    for schedule, period in (
        (CosineAnnealing(0.3, T_max=7, eta_min=0.1), 14),
        (CosineAnnealingWarmRestarts(0.3, T_0=7), 7),
        (Cyclic(0.1, 0.3, step_size_up=3, step_size_down=4), 7),
        (CyclicMomentum(0.8, 0.9, step_size_up=3, step_size_down=4), 7),
    ):
        assert schedule(0) in (0.1, 0.3, 0.9)
        assert len({schedule(step) for step in range(period)}) >= 4
        assert [schedule(step) for step in range(period)] == [schedule(step + period * 10**9) for step in range(period)]
    assert math.isclose(CosineAnnealing(0.3, T_max=7, eta_min=0.1)(7), 0.1, rel_tol=1e-15)


def test_constant_with_factor_one_never_changes() -> None:
    assert {Constant(0.1, factor=1.0)(step) for step in range(20)} == {0.1}


def test_sequential_restarts_each_clock() -> None:
    parts = [Exponential(1.0, gamma=0.5), Exponential(2.0, gamma=0.5), LinearDecay(1.0, T=4)]
    assert [Sequential(parts, [2, 3])(step) for step in range(6)] == [1.0, 0.5, 2.0, 1.0, 0.75, 0.5]
    assert [Sequential(parts[:1], [])(step) for step in range(3)] == [1.0, 0.5, 0.25]


def test_momentum_mirrors_the_rate() -> None:
    rate, momentum = Cyclic(0.1, 0.5, 3, 5, "triangular2"), CyclicMomentum(0.8, 0.9, 3, 5, "triangular2")
    for step in range(40):
        assert (0.9 - momentum(step)) / 0.1 == pytest.approx((rate(step) - 0.1) / 0.4, abs=1e-12)
    rate, momentum = OneCycle(1.0, 20, 0.25), OneCycleMomentum(0.5, 0.75, 20, 0.25)
    assert [momentum(step) for step in (0, 4, 19, 99)] == [0.75, 0.5, 0.75, 0.75]
    assert max(range(20), key=rate) == min(range(20), key=momentum) == 4
    three = OneCycleMomentum(0.5, 0.75, 20, 0.25, three_phase=True)
    assert [three(step) for step in (0, 4, 8, 12, 19)] == [0.75, 0.5, 0.75, 0.75, 0.75]


def test_one_cycle_stays_at_its_end_and_survives_phases_without_length() -> None:
    schedule = OneCycle(1.0, 10, div_factor=10.0, final_div_factor=100.0)
    assert schedule(9) == schedule(10) == schedule(10**9) == 1e-3
    for share in (0.0, 0.1, 1.0):
        assert 0 <= OneCycle(1.0, 10, pct_start=share)(0) <= 1
    assert OneCycle(1.0, 10, pct_start=0.1)(0) == 1.0
    assert 0 <= OneCycle(1.0, 1)(0) <= 1


# ReduceOnPlateau.


@pytest.mark.parametrize(
    ("mode", "threshold_mode", "bound"),
    [("min", "rel", 90.0), ("min", "abs", 99.9), ("max", "rel", 110.0), ("max", "abs", 100.1)],
)
def test_plateau_wants_more_than_the_threshold(mode: str, threshold_mode: str, bound: float) -> None:
    for metric, bad in ((bound, 1), (bound + (1e-6 if mode == "max" else -1e-6), 0)):
        schedule = ReduceOnPlateau(1.0, mode, threshold=0.1, threshold_mode=threshold_mode)
        schedule.update(100.0)
        schedule.update(metric)
        assert schedule.state.num_bad_epochs == bad, metric


def test_plateau_stops_at_min_lr_and_leaves_out_tiny_reductions() -> None:
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=0, min_lr=0.3)
    assert [schedule.update(metric) for metric in (1.0, 1.0, 1.0, 1.0)] == [1.0, 0.5, 0.3, 0.3]
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=0, eps=0.25)
    assert [schedule.update(metric) for metric in (1.0, 1.0, 1.0, 1.0)] == [1.0, 0.5, 0.5, 0.5]


def test_plateau_counts_nan_and_infinity_as_not_better() -> None:
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=1)
    assert [schedule.update(metric) for metric in (math.nan, -math.inf, math.inf, math.nan)] == [1.0, 0.5, 0.5, 0.25]
    assert schedule.state.best is None
    schedule.update(np.float32(3.0))
    assert schedule.to_dict()["state"] == {"lr": 0.25, "best": 3.0, "num_bad_epochs": 0, "cooldown_counter": 0}


def test_plateau_equality_and_hash_are_sane() -> None:
    first, second = ReduceOnPlateau(1.0, patience=0), ReduceOnPlateau(1.0, patience=0)
    assert first == second
    before = hash(first)
    first.update(1.0)
    assert first != second
    assert hash(first) == before == hash(second)
    second.update(1.0)
    assert first == second
    assert first != ReduceOnPlateau(1.0, patience=1)


def test_plateau_steers_the_optimizer_it_stands_in() -> None:
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=0)
    optimizer = ss.optim.SGD([np.zeros(2)], lr=LinearWarmup(schedule, T=1))
    rates = [optimizer.step([np.ones(2)]).lr[0]]
    for metric in (3.0, 3.0, 1.0, 2.0):
        schedule.update(metric)
        rates.append(optimizer.step([np.ones(2)]).lr[0])
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.25]
    other = ss.optim.SGD([np.zeros(2)], lr=0.1)
    other.load_state_dict(optimizer.state_dict())
    resumed = other.groups[0]["lr"]
    assert resumed == optimizer.groups[0]["lr"]
    for metric in (1.5, 0.1, 0.2):
        assert resumed.lr.update(metric) == schedule.update(metric)
    assert other.step([np.ones(2)]).lr == optimizer.step([np.ones(2)]).lr == (0.0625,)


# Plots.


def test_plot_draws_the_values_and_saves(tmp_path: Path) -> None:
    schedule = Step(1.0, step_size=2, gamma=0.5)
    axes = schedule.plot(5, tmp_path / "step.png")
    assert axes.lines[0].get_xydata().tolist() == [[step, schedule(step)] for step in range(5)]
    assert (tmp_path / "step.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert LinearDecay(1.0, T=4).plot(5, axes=axes) is axes
    assert [line.get_label() for line in axes.lines] == ["Step", "LinearDecay"]


def test_plot_without_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"Step\.plot needs matplotlib: .*stepsmith\[plot\]"):
        Step(1.0, 3).plot(5)


def test_import_leaves_matplotlib_alone() -> None:
    assert run_python("import sys, stepsmith; print('matplotlib' in sys.modules)").strip() == "False"


# Errors.

STATE = {"lr": 1.0, "best": None, "num_bad_epochs": 0, "cooldown_counter": 0}


def restored(name: str = "reduce_on_plateau", **changes: Any) -> Schedule:
    arguments = {"lr": 1.0} if name == "reduce_on_plateau" else {"lr": 1.0, "gamma": 0.5}
    return from_dict({"schedule": name, "arguments": arguments, "state": {**STATE, **changes}})


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: CosineAnnealing(0.1, T_max=0), ValueError, r"CosineAnnealing: T_max must be at least 1, got 0"),
        (lambda: CosineAnnealing(0.1, T_max=2.5), TypeError, r"CosineAnnealing: T_max must be an integer, got 2.5"),
        (lambda: CosineAnnealing(0.1, 5, eta_min=-1), ValueError, r"CosineAnnealing: eta_min must be .* got -1"),
        (lambda: CosineAnnealingWarmRestarts(0.1, 0), ValueError, r"WarmRestarts: T_0 must be at least 1, got 0"),
        (lambda: CosineAnnealingWarmRestarts(0.1, 3, 0), ValueError, r"WarmRestarts: T_mult must be at least 1, got 0"),
        (lambda: CosineAnnealingWarmRestarts(0.1, 3, 1.5), TypeError, r"T_mult must be an integer, got 1.5"),
        (lambda: Step(-0.1, 3), ValueError, r"Step: lr must be finite and at least 0, got -0.1"),
        (lambda: Step("0.1", 3), TypeError, r"Step: lr must be a number, got '0.1'"),
        (lambda: Step(0.1, True), TypeError, r"Step: step_size must be an integer, got True"),
        (lambda: Step(float("nan"), 3), ValueError, r"Step: lr must be finite .* got nan"),
        (lambda: Constant(0.1, factor=1.5), ValueError, r"Constant: factor must be in \[0, 1\], got 1.5"),
        (lambda: Constant(0.1, total_iters=-1), ValueError, r"Constant: total_iters must be at least 0, got -1"),
        (lambda: Linear(0.1, start_factor=0), ValueError, r"Linear: start_factor must be in \(0, 1\], got 0"),
        (lambda: Linear(0.1, end_factor=2), ValueError, r"Linear: end_factor must be in \[0, 1\], got 2"),
        (lambda: Linear(0.1, total_iters=0), ValueError, r"Linear: total_iters must be at least 1, got 0"),
        (lambda: LinearDecay(0.1, 0), ValueError, r"LinearDecay: T must be at least 1, got 0"),
        (lambda: Polynomial(0.1, 0), ValueError, r"Polynomial: total_iters must be at least 1, got 0"),
        (lambda: Polynomial(0.1, power=-1), ValueError, r"Polynomial: power must be finite and at least 0, got -1"),
        (lambda: Exponential(0.1, -1.0), ValueError, r"Exponential: gamma must be finite and at least 0, got -1.0"),
        (lambda: ExponentialDecay(0.1, -1), ValueError, r"ExponentialDecay: k must be finite and at least 0, got -1"),
        (lambda: InverseTime(0.1, -1), ValueError, r"InverseTime: k must be finite and at least 0, got -1"),
        (lambda: CubicSparsity(1.5, 0, 1), ValueError, r"CubicSparsity: final must be in \[0, 1\], got 1.5"),
        (lambda: CubicSparsity(0.5, 0, 1, 1, 0.6), ValueError, r"final must be at least initial=0.6, got 0.5"),
        (lambda: CubicSparsity(0.5, 2, 2), ValueError, r"stop must be start=2 plus a multiple of every=1, got 2"),
        (lambda: CubicSparsity(0.5, 2, 9, 3), ValueError, r"stop must be start=2 plus a multiple of every=3, got 9"),
        (lambda: CubicSparsity(0.5, 2, 9, 0), ValueError, r"CubicSparsity: every must be at least 1, got 0"),
        (lambda: MultiStep(0.1, [3, 2]), ValueError, r"MultiStep: milestones must ascend, got \[3, 2\]"),
        (lambda: MultiStep(0.1, [-1]), ValueError, r"MultiStep: milestones\[0\] must be at least 0, got -1"),
        (lambda: MultiStep(0.1, [1.5]), TypeError, r"MultiStep: milestones\[0\] must be an integer, got 1.5"),
        (lambda: MultiStep(0.1, 5), TypeError, r"MultiStep: milestones must be a sequence, got 5"),
        (lambda: MultiStep(0.1, "12"), TypeError, r"MultiStep: milestones must be a sequence, got '12'"),
        (lambda: LinearWarmup(None, 3), TypeError, r"LinearWarmup: lr must be a number, got None"),
        (lambda: LinearWarmup(0.1, 0), ValueError, r"LinearWarmup: T must be at least 1, got 0"),
        (lambda: CosineWarmup(-1.0, 3), ValueError, r"CosineWarmup: lr must be finite and at least 0, got -1.0"),
        (lambda: CosineWarmup(0.1, 0), ValueError, r"CosineWarmup: T must be at least 1, got 0"),
        (lambda: Cyclic(0.2, 0.1), ValueError, r"Cyclic: max_lr must be at least base_lr=0.2, got 0.1"),
        (lambda: Cyclic(0.1, 0.2, 0), ValueError, r"Cyclic: step_size_up must be at least 1, got 0"),
        (lambda: Cyclic(0.1, 0.2, 3, 0), ValueError, r"Cyclic: step_size_down must be at least 1, got 0"),
        (lambda: Cyclic(0.1, 0.2, mode="saw"), ValueError, r"Cyclic: mode must be one of triangular, .* got 'saw'"),
        (lambda: Cyclic(0.1, 0.2, gamma=1.1), ValueError, r"Cyclic: gamma must be in \[0, 1\], got 1.1"),
        (lambda: CyclicMomentum(0.8, 1.0), ValueError, r"CyclicMomentum: max_momentum must be in \[0, 1\), got 1.0"),
        (lambda: CyclicMomentum(0.9, 0.8), ValueError, r"max_momentum must be at least base_momentum=0.9, got 0.8"),
        (lambda: OneCycle(0.1, 0), ValueError, r"OneCycle: total_steps must be at least 1, got 0"),
        (lambda: OneCycle(0.1, 9, 1.5), ValueError, r"OneCycle: pct_start must be in \[0, 1\], got 1.5"),
        (lambda: OneCycle(0.1, 9, 0.6, three_phase=True), ValueError, r"pct_start must be in \[0, 0.5\], got 0.6"),
        (lambda: OneCycle(0.1, 9, three_phase=1), TypeError, r"OneCycle: three_phase must be True or False, got 1"),
        (lambda: OneCycle(0.1, 9, anneal_strategy="x"), ValueError, r"anneal_strategy must be one of cos, linear"),
        (lambda: OneCycle(0.1, 9, div_factor=0), ValueError, r"OneCycle: div_factor must be .* more than 0, got 0"),
        (lambda: OneCycle(0.1, 9, final_div_factor=-1), ValueError, r"OneCycle: final_div_factor must be .* got -1"),
        (lambda: OneCycleMomentum(-0.1, 0.9, 9), ValueError, r"base_momentum must be in \[0, 1\), got -0.1"),
        (lambda: OneCycleMomentum(0.9, 0.8, 9), ValueError, r"max_momentum must be at least base_momentum=0.9"),
        (lambda: Sequential([], []), ValueError, r"Sequential: schedules must hold at least one, got none"),
        (lambda: Sequential([0.1], []), TypeError, r"Sequential: schedules\[0\] must be a schedule, got 0.1"),
        (lambda: Sequential(Step(0.1, 3), []), TypeError, r"Sequential: schedules must be a sequence, got Step"),
        (lambda: Sequential([Step(1, 3)] * 2, []), ValueError, r"milestones must be one fewer than .* 1, got 0"),
        (lambda: Sequential([Step(1, 3)] * 3, [4, 4]), ValueError, r"milestones must ascend, got \[4, 4\]"),
        (lambda: Sequential([Step(1, 3)] * 2, [0]), ValueError, r"milestones\[0\] must be at least 1, got 0"),
        (lambda: Product([]), ValueError, r"Product: schedules must hold at least one, got none"),
        (
            lambda: ReduceOnPlateau(0.1, "least"),
            ValueError,
            r"ReduceOnPlateau: mode must be one of min, max, got 'least'",
        ),
        (lambda: ReduceOnPlateau(0.1, factor=1.0), ValueError, r"ReduceOnPlateau: factor must be in \[0, 1\), got 1.0"),
        (lambda: ReduceOnPlateau(0.1, patience=-1), ValueError, r"patience must be at least 0, got -1"),
        (lambda: ReduceOnPlateau(0.1, threshold=-1), ValueError, r"threshold must be finite and at least 0, got -1"),
        (lambda: ReduceOnPlateau(0.1, threshold_mode="x"), ValueError, r"threshold_mode must be one of rel, abs"),
        (lambda: ReduceOnPlateau(0.1, cooldown=-1), ValueError, r"cooldown must be at least 0, got -1"),
        (lambda: ReduceOnPlateau(0.1, min_lr=-1), ValueError, r"min_lr must be finite and at least 0, got -1"),
        (lambda: ReduceOnPlateau(0.1, eps=-1), ValueError, r"eps must be finite and at least 0, got -1"),
        (lambda: ReduceOnPlateau(0.1).update(None), TypeError, r"ReduceOnPlateau: metric must be a number, got None"),
        (lambda: ReduceOnPlateau(0.1).update(True), TypeError, r"ReduceOnPlateau: metric must be a number, got True"),
        (lambda: restored("exponential"), ValueError, r"Exponential: state must be absent .* got \{"),
        (lambda: restored(more=1), ValueError, r"ReduceOnPlateau: state must have the keys lr, best, .* 'more'"),
        (lambda: restored(lr=-1.0), ValueError, r"state\['lr'\] must be finite and at least 0, got -1.0"),
        (lambda: restored(best=math.inf), ValueError, r"state\['best'\] must be finite, got inf"),
        (lambda: restored(num_bad_epochs=-1), ValueError, r"state\['num_bad_epochs'\] must be at least 0, got -1"),
        (lambda: restored(cooldown_counter=0.5), TypeError, r"state\['cooldown_counter'\] must be an integer, got 0.5"),
        (lambda: Step(0.1, 3)(-1), ValueError, r"Step: step must be at least 0, got -1"),
        (lambda: Step(0.1, 3)(0.5), TypeError, r"integer"),
        (lambda: Step(0.1, 3).plot(0), ValueError, r"Step: steps must be at least 1, got 0"),
        (
            lambda: from_dict({"schedule": "nope", "arguments": {}}),
            ValueError,
            r"schedule must be one of .* got 'nope'",
        ),
        (lambda: from_dict({"schedule": "step"}), ValueError, r"keys must be"),
        (lambda: from_dict({"schedule": "step", "arguments": {"lr": 1.0, "speed": 2}}), TypeError, r"speed"),
    ],
)
def test_bad_arguments_are_named(build, error, message) -> None:
    with pytest.raises(error, match=message):
        build()
