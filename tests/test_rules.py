"""Every rule of the registry with random settings, shapes, dtypes and layouts; what only some rules need."""

import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stepsmith as ss
from helpers import LAYOUTS, Array, assert_same_bits, laid_out, values
from reference import Reference
from reference_scalars import CARRIED
from reference_storage import DTYPES, compute_type, decode, encode
from stepsmith.optim._groups import Number, Several
from stepsmith.schedules import Schedule, Step

ALL = {name: cls for name, cls in ss.optim.REGISTRY.items() if name != "lbfgs"}
# Muon's products are BLAS's: test_muon.py has an oracle of its own for it.
REGISTRY = {name: cls for name, cls in ALL.items() if name != "muon"}
FLAG = (False, True)
CHOICES: dict[str, tuple[Any, ...]] = {
    "lr": (1e-3, 0.1, 0.0, 3.0),
    "eps": (1e-8, 1e-3, 0.0),
    "weight_decay": (0.0, 0.1),
    "momentum": (0.0, 0.9),
    "dampening": (0.0, 0.3),
    "lr_decay": (0.0, 0.5),
    "initial_accumulator_value": (0.0, 0.7),
    "alpha": (0.9, 0.0, 1.0),
    "rho": (0.9, 0.0, 1.0),
    "momentum_decay": (4e-3, 0.0, 2.0),
    "etas": ((0.5, 1.2), (0.3, 1.9)),
    "step_sizes": ((1e-6, 50.0), (0.01, 0.02), (0.0, 0.0)),
    "lambd": (1e-4, 0.0, 2.0),
    "t0": (1e6, 0.0, 2.0),
    "T_alpha_beta3": (None, 1, 3, 1000),
    "warmup_steps": (0, 1, 5),
    "r": (0.0, 1.5),
    "weight_lr_power": (2.0, 0.0, 0.5),
    "betas": (0.9, 0.999, 0.5),
    "trust_coefficient": (1e-3, 0.0, 2.0),
    "beta2_decay": (-0.8, 0.0, -3.0),
    "d": (1.0, 0.01, 30.0),
    **dict.fromkeys(
        (
            "amsgrad",
            "centered",
            "decoupled_weight_decay",
            "eps_inside_sqrt",
            "maximize",
            "nesterov",
        ),
        FLAG,
    ),
}
CHOICES_OF: dict[str, dict[str, tuple[Any, ...]]] = {
    "adafactor": {"eps": ((None, 1e-3), (1e-8, 0.0), (None, 0.7), (0.01, 0.1), (1e-30, 1e-3))}
}


@st.composite
def hyperparameters(draw: st.DrawFn, rule: str) -> dict[str, Any]:
    defaults = REGISTRY[rule]([np.zeros(1)]).groups[0]
    chosen: dict[str, Any] = {}
    for name in REGISTRY[rule].checks:
        choice = st.sampled_from(CHOICES_OF.get(rule, CHOICES).get(name, CHOICES.get(name)))
        chosen[name] = draw(st.tuples(*[choice] * len(defaults["betas"]))) if name == "betas" else draw(choice)
    if chosen.get("nesterov"):
        chosen |= {"momentum": 0.9} | ({"dampening": 0.0} if "dampening" in chosen else {})
    return chosen


@st.composite
def runs(draw: st.DrawFn, rule: str) -> dict[str, Any]:
    """Hyperparameters, parameters and gradients, the steps that were made before."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtypes, layouts = st.sampled_from(list(DTYPES.values())), st.sampled_from(LAYOUTS)
    shapes = draw(st.lists(st.lists(st.integers(0, 23), max_size=3).map(tuple), min_size=1, max_size=3))
    params = {str(k): laid_out(values(rng, shape, draw(dtypes)), draw(layouts)) for k, shape in enumerate(shapes)}
    grads = [
        {
            name: None
            if draw(st.integers(0, 5)) == 0
            else laid_out(values(rng, param.shape, draw(dtypes)), draw(layouts))
            for name, param in params.items()
        }
        for _ in range(draw(st.integers(1, 4)))
    ]
    options = {
        "state_dtype": draw(st.sampled_from(["float32", "bfloat16"])),
        "max_norm": draw(st.sampled_from([None, None, 0.5])),
    }
    before = draw(st.sampled_from([0, 0, 5, 3000]))
    return {
        "settings": draw(hyperparameters(rule)),
        "params": params,
        "grads": grads,
        "options": options,
        "before": before,
    }


def assert_equals_the_oracle(rule: str, run: dict[str, Any]) -> None:
    params, options, before = run["params"], run["options"], run["before"]
    reference = Reference(rule, params, **options, **run["settings"])
    optimizer = REGISTRY[rule](params, on_nonfinite="propagate", **options, **run["settings"])
    if before:
        loaded = optimizer.state_dict()
        loaded["steps"] = dict.fromkeys(params, before)
        optimizer.load_state_dict(loaded)
        reference.steps = dict.fromkeys(params, before)
    for t, grads in enumerate(run["grads"]):
        optimizer.step(grads)
        reference.step(grads)
        assert_same_everywhere(optimizer, reference, f"step {t + 1}")


def assert_same_everywhere(optimizer: Any, reference: Reference, when: str = "") -> None:
    """Parameters, state, carried scalars and step counts."""
    saved = optimizer.state_dict()
    assert saved["steps"] == reference.steps
    for name, param in optimizer.params.items():
        assert_same_bits(param, reference.params[name], f"{name} {when}")
        assert list(optimizer.state[name]) == list(reference.state[name])
        for slot, array in optimizer.state[name].items():
            assert_same_bits(array, reference.state[name][slot], f"{name} {slot} {when}")
        carried = [saved["state"][name][key] for key in CARRIED.get(reference.rule, {})]
        assert [float(x).hex() for x in carried] == [x.hex() for x in reference.carried[name]]
        assert all((x.shape, x.dtype) == ((), np.float64) for x in carried)


@pytest.mark.parametrize("rule", REGISTRY)
def test_random_runs_equal_the_oracle(rule) -> None:
    given(runs(rule))(settings(max_examples=40, deadline=None)(lambda run: assert_equals_the_oracle(rule, run)))()


@pytest.mark.slow
@pytest.mark.parametrize("rule", REGISTRY)
def test_many_random_runs_equal_the_oracle(rule) -> None:
    given(runs(rule))(settings(max_examples=200, deadline=None)(lambda run: assert_equals_the_oracle(rule, run)))()


@pytest.mark.parametrize("rule", ALL)
def test_zero_is_exact(rule) -> None:
    """A weight with zero gradient and no decay does not move."""
    checks = ALL[rule].checks
    still = {name: 0.0 for name in ("weight_decay", "lambd") if name in checks}
    shapes = [(9, 11), (1, 5), (5, 1)] if rule == "muon" else [(99,), (9, 11), (2, 3, 5), ()]
    params = [np.linspace(-3.0, 3.0, math.prod(shape)).reshape(shape).astype(np.float32) for shape in shapes]
    before = [param.copy() for param in params]
    optimizer = ALL[rule](
        params, lr=0.1, state_dtype="bfloat16" if rule != "schedulefree_adamw" else "float32", **still
    )
    for _ in range(7):
        optimizer.step([np.zeros(shape, np.float32) for shape in shapes])
    for param, start in zip(params, before):
        assert_same_bits(param, start)


# Initial state.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("state_dtype", ["float32", "bfloat16"])
def test_state_that_does_not_begin_at_zero(dtype, state_dtype) -> None:
    param = np.asfortranarray(values(np.random.default_rng(3), (5, 7), DTYPES[dtype]))
    options = {"state_dtype": state_dtype}
    total = ss.optim.Adagrad([param], initial_accumulator_value=0.3, **options).state["0"]["sum"]
    size = ss.optim.Rprop([param], lr=Step(0.3, step_size=1), **options).state["0"]["step_size"]
    z = ss.optim.ScheduleFreeAdamW([param], **options).state["0"]["z"]
    assert_same_bits(total, encode(np.full(param.shape, 0.3), total.dtype))
    assert_same_bits(size, encode(np.full(param.shape, 0.3), size.dtype))
    assert_same_bits(z, encode(decode(param, compute_type(param.dtype)), z.dtype))
    assert z.strides[0] < z.strides[1]
    assert not np.may_share_memory(z, param)


def test_rprop_takes_each_group_s_lr() -> None:
    groups = [{"params": [np.ones(3)], "lr": 0.5}, {"params": [np.ones(3)]}]
    state = ss.optim.Rprop(groups, lr=0.25).state
    assert [row["step_size"].tolist() for row in state.values()] == [[0.5] * 3, [0.25] * 3]


# Carried scalars.

CARRYING = {"nadam": {"lr": 0.1, "momentum_decay": 0.3}, "schedulefree_adamw": {"lr": 0.1, "warmup_steps": 4, "r": 0.5}}


def test_each_rule_that_carries_is_tested() -> None:
    assert set(CARRYING) == {rule for rule, cls in REGISTRY.items() if cls.carried}


def data() -> tuple[dict[str, Array], list[dict[str, Array | None]]]:
    rng = np.random.default_rng(7)
    params = {"a": values(rng, 40, np.float32), "b": values(rng, (3, 5), np.float64), "c": values(rng, 8, np.float32)}
    patterns = ["abc", "ac", "", "b", "abc", "c", "c", "abc"]
    grads = [
        {name: values(rng, x.shape, np.float32) if name in present else None for name, x in params.items()}
        for present in patterns
    ]
    return params, grads


@pytest.mark.parametrize("rule", CARRYING)
def test_a_tensor_without_gradient_keeps_what_it_carries(rule) -> None:
    params, all_grads = data()
    reference = Reference(rule, params, **CARRYING[rule])
    optimizer = REGISTRY[rule](params, **CARRYING[rule])
    for t, grads in enumerate(all_grads):
        optimizer.step(grads)
        reference.step(grads)
        assert_same_everywhere(optimizer, reference, f"step {t + 1}")
    assert len(set(reference.carried.values())) == 2
    assert list(optimizer.state["a"]) == list(optimizer.slots), "carried scalars are no arrays of the state"


@pytest.mark.parametrize("rule", CARRYING)
def test_a_step_that_is_skipped_or_fails_changes_nothing_that_is_carried(rule) -> None:
    params, all_grads = data()
    reference = Reference(rule, params, **CARRYING[rule])
    optimizer = REGISTRY[rule](params, on_nonfinite="skip", **CARRYING[rule])
    for grads in all_grads:
        bad = {name: np.full(x.shape, np.nan) for name, x in params.items()}
        before = optimizer.state_dict()
        assert optimizer.step(bad).skipped
        with pytest.raises(ValueError, match="must have shape"):
            optimizer.step({**grads, "c": np.zeros(9)})
        after = optimizer.state_dict()
        for name, row in before["state"].items():
            for slot, array in row.items():
                assert_same_bits(after["state"][name][slot], array, f"{name} {slot}")
        optimizer.step(grads)
        reference.step(grads)
        assert_same_everywhere(optimizer, reference)


class Interrupting:
    """A stepper whose step is followed by an interrupt before the next line of Python."""

    def __init__(self, stepper: Any) -> None:
        self._stepper = stepper

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stepper, name)

    def step(self, *arguments: Any) -> None:
        self._stepper.step(*arguments)
        raise KeyboardInterrupt


@pytest.mark.parametrize("rule", CARRYING)
def test_an_interrupt_after_the_native_step_parts_nothing(rule) -> None:
    params, all_grads = data()
    reference = Reference(rule, params, **CARRYING[rule])
    optimizer = REGISTRY[rule](params, **CARRYING[rule])
    stepper = optimizer._stepper
    for t, grads in enumerate(all_grads):
        optimizer._stepper = Interrupting(stepper) if t % 2 else stepper
        with contextlib.suppress(KeyboardInterrupt):
            optimizer.step(grads)
        reference.step(grads)
        optimizer._stepper = stepper
        assert_same_everywhere(optimizer, reference, f"step {t + 1}")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.float32(0.5), r"state\['a'\]\['mu_product'\] must be a NumPy array, got float32"),
        (np.zeros(1), r"state\['a'\]\['mu_product'\] must be float64 of shape \(\), got float64 of shape \(1,\)"),
        (np.zeros((), np.float32), r"must be float64 of shape \(\), got float32 of shape \(\)"),
        (None, r"state\['a'\]: missing \['mu_product'\], extra \[\]"),
    ],
    ids=range(4),
)
def test_a_carried_scalar_of_another_kind_is_refused(bad, message) -> None:
    optimizer = ss.optim.NAdam({"a": np.ones(3)})
    saved = optimizer.state_dict()
    saved["state"]["a"]["mu_product"] = bad
    if bad is None:
        del saved["state"]["a"]["mu_product"]
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(saved)


# Schedules of hyperparameters.


def scheduled(rule: str) -> dict[str, Any]:
    """A falling schedule in place of every number."""
    checks = ALL[rule].checks
    defaults = ALL[rule]([np.zeros((1, 1))]).groups[0]

    def falling(number: float | None) -> Schedule:
        """No schedule is below 0: Adafactor's exponent is 0 then."""
        return Step(0.0 if (number or 0.0) < 0.0 else number or 0.1, step_size=1, gamma=0.99)

    several = {
        name: tuple(map(falling, defaults[name])) for name, check in checks.items() if isinstance(check, Several)
    }
    return several | {name: falling(defaults[name]) for name, check in checks.items() if isinstance(check, Number)}


def at(chosen: dict[str, Any], step: int) -> dict[str, Any]:
    return {
        name: tuple(entry(step) for entry in value) if isinstance(value, tuple) else value(step)
        for name, value in chosen.items()
    }


@pytest.mark.parametrize("rule", REGISTRY)
def test_every_number_may_be_a_schedule(rule) -> None:
    chosen = scheduled(rule)
    assert {"lr", "betas", "eps", "weight_decay", "beta2_decay", "d"} & set(REGISTRY[rule].checks) <= set(chosen)
    params, all_grads = data()
    reference = Reference(rule, params, **at(chosen, 0))
    optimizer = REGISTRY[rule](params, **chosen)
    for t, grads in enumerate(all_grads):
        if t == 4:
            saved = optimizer.state_dict()
            saved = {**json.loads(json.dumps({**saved, "state": {}}, allow_nan=False)), "state": saved["state"]}
            optimizer = REGISTRY[rule](params, **at(chosen, 0))
            optimizer.load_state_dict(saved)
            assert {name: optimizer.groups[0][name] for name in chosen} == chosen
        info = optimizer.step(grads)
        reference.step(grads, **at(chosen, t))
        assert info.lr == (chosen["lr"](t),)
        assert_same_everywhere(optimizer, reference, f"step {t + 1}")
    optimizer.groups[0].update(at(chosen, 3))
    optimizer.step(all_grads[0])
    reference.step(all_grads[0], **at(chosen, 3))
    assert_same_everywhere(optimizer, reference)


def test_every_number_of_muon_may_be_a_schedule() -> None:
    chosen, rng = scheduled("muon"), np.random.default_rng(3)
    assert set(chosen) == {"lr", "weight_decay", "momentum"}
    params = [rng.standard_normal((4, 6)) for _ in range(2)]
    params[1][...] = params[0]
    optimizer, plain = ss.optim.Muon([params[0]], **chosen), ss.optim.Muon([params[1]], **at(chosen, 0))
    for t in range(4):
        grad = rng.standard_normal((4, 6))
        plain.groups[0].update(at(chosen, t))
        assert optimizer.step([grad]).lr == (chosen["lr"](t),)
        plain.step([grad])
        assert_same_bits(*params)


def test_a_schedule_out_of_range_is_an_error_before_anything_moves() -> None:
    rising = Step(0.6, step_size=1, gamma=1.0)
    object.__setattr__(rising, "gamma", 2.0)
    for hyperparameters, name in (
        ({"betas": (0.9, rising)}, r"betas\[1\] of Step\(.*\) at step 1 must be in \[0, 1\), got 1.2"),
        ({"alpha": rising}, r"alpha of Step\(.*\) at step 1 must be in \[0, 1\], got 1.2"),
    ):
        cls = ss.optim.Adam if "betas" in hyperparameters else ss.optim.RMSprop
        param = np.ones(3)
        optimizer = cls({"w": param}, **hyperparameters)
        optimizer.step([np.ones(3)])
        before = param.copy()
        with pytest.raises(ValueError, match=rf"^{cls.__name__}: {name}$"):
            optimizer.step([np.ones(3)])
        assert_same_bits(param, before)
        assert optimizer.state_dict()["steps"] == {"w": 1}
        # A good value holds from the next step.
        optimizer.groups[0].update({key: 0.5 if key == "alpha" else (0.9, 0.5) for key in hyperparameters})
        assert optimizer.step([np.ones(3)]).step == 2


def test_a_schedule_of_momentum_counts_as_momentum() -> None:
    falling = Step(0.9, step_size=1)
    optimizer = ss.optim.SGD([np.ones(3)], momentum=falling, nesterov=True)
    assert list(optimizer.state["0"]) == ["momentum"]
    with pytest.raises(ValueError, match="must stay as they were at construction, got momentum=Step"):
        ss.optim.SGD([np.ones(3)]).groups[0]["momentum"] = falling


# The warm-up of AdEMAMix.


def test_the_warm_up_is_the_paper_s() -> None:
    optimizer = ss.optim.AdEMAMix([np.ones(1)], lr=1.0, T_alpha_beta3=100)
    (_, _, _, _, one_minus_beta3, _, weight, _, _) = zip(
        *(optimizer._scalars(optimizer.groups[0], 1.0, step, ()) for step in (1, 50, 100, 200))
    )
    assert weight == (0.05, 2.5, 5.0, 5.0)
    start, end = math.log(0.9), math.log(0.9999)
    paper = [math.exp(start * end / ((1 - x) * end + x * start)) for x in (0.01, 0.5, 1.0, 1.0)]
    np.testing.assert_allclose(1.0 - np.array(one_minus_beta3), paper, rtol=1e-12)
    for betas in ((0.0, 0.9, 0.9), (0.9, 0.9, 0.9), (0.9, 0.9, 0.5), (0.9, 0.9, 0.0), (0.0, 0.0, 0.0)):
        group = {**optimizer.groups[0], "betas": betas}
        rates = [1.0 - optimizer._scalars(group, 1.0, step, ())[4] for step in (1, 50, 100, 200)]
        assert rates == sorted(rates)
        assert rates[-1] == rates[-2] == pytest.approx(betas[2], abs=1e-15)


# Training and evaluation.


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_eval_and_train_move_parameters_along_z(dtype, layout) -> None:
    rng, dtype = np.random.default_rng(5), DTYPES[dtype]
    params = {name: laid_out(values(rng, shape, dtype), layout) for name, shape in {"a": (9, 17), "b": ()}.items()}
    groups = [{"params": {"a": params["a"]}, "betas": (0.8, 0.9)}, {"params": {"b": params["b"]}}]
    optimizer = ss.optim.ScheduleFreeAdamW(groups, lr=0.1, betas=(Step(0.9, step_size=1, gamma=0.5), 0.999))
    for _ in range(2):
        optimizer.step({name: values(rng, x.shape, np.float32) for name, x in params.items()})
    compute = compute_type(dtype)
    y = {name: x.copy() for name, x in params.items()}
    z = {name: optimizer.state[name]["z"].copy() for name in params}

    def moved(of: dict[str, Array], weights: dict[str, float]) -> dict[str, Array]:
        wide = {name: decode(x, compute) for name, x in of.items()}
        return {name: encode(wide[name] + (z[name] - wide[name]) * compute(weights[name]), dtype) for name in of}

    # The second update used 0.45, the schedule at step 1.
    assert optimizer.training
    optimizer.eval()
    x = moved(y, {"a": 1.0 - 1.0 / 0.8, "b": 1.0 - 1.0 / 0.45})
    for _ in range(2):
        assert not optimizer.training
        for name, param in params.items():
            assert_same_bits(param, x[name], name)
            assert_same_bits(optimizer.state[name]["z"], z[name])
        optimizer.eval()
    with pytest.raises(
        RuntimeError, match=r"^ScheduleFreeAdamW: step\(\) needs the parameters of training, call train"
    ):
        optimizer.step({name: np.zeros(x.shape) for name, x in params.items()})
    assert optimizer.state_dict()["steps"] == {"a": 2, "b": 2}
    back = moved(x, {"a": 1.0 - 0.8, "b": 1.0 - 0.45})
    for _ in range(2):
        optimizer.train()
        assert optimizer.training
        for name, param in params.items():
            assert_same_bits(param, back[name], name)
            np.testing.assert_allclose(
                param.astype(float),
                y[name].astype(float),
                rtol=0,
                atol=8 * float(np.finfo(compute).eps) if dtype.itemsize > 2 else 0.1,
            )
    assert optimizer.step({name: np.zeros(x.shape) for name, x in params.items()}).step == 3


def test_x_is_the_weighted_average_of_z() -> None:
    """With warm-up the weights differ; lr_max is the largest rate so far."""
    rng, param = np.random.default_rng(9), np.ones(50)
    optimizer = ss.optim.ScheduleFreeAdamW([param], lr=0.1, warmup_steps=4)
    total, weights = np.zeros(50), 0.0
    for t in range(1, 9):
        optimizer.step([rng.standard_normal(50)])
        weight = (0.1 * min(1.0, t / 4)) ** 2
        total += weight * optimizer.state["0"]["z"]
        weights += weight
    optimizer.eval()
    np.testing.assert_allclose(param, total / weights, rtol=1e-12)


def test_the_mode_is_part_of_the_state_dictionary() -> None:
    optimizer = ss.optim.ScheduleFreeAdamW({"w": np.ones(3)})
    optimizer.step([np.ones(3)])
    assert optimizer.state_dict()["mode"] == "train"
    optimizer.eval()
    saved = optimizer.state_dict()
    assert saved["mode"] == "eval"
    other = ss.optim.ScheduleFreeAdamW({"w": optimizer.params["w"].copy()})
    other.load_state_dict(saved)
    assert not other.training
    optimizer.train()
    other.train()
    for one in (optimizer, other):
        one.step([np.ones(3)])
    assert_same_bits(other.params["w"], optimizer.params["w"])
    with pytest.raises(ValueError, match="mode must be one of train, eval, got 'test'"):
        other.load_state_dict({**saved, "mode": "test"})
    with pytest.raises(ValueError, match=r"keys: missing \['mode'\], extra \[\]"):
        other.load_state_dict({key: value for key, value in saved.items() if key != "mode"})
    assert other.training
    assert "mode" not in ss.optim.Adam([np.ones(3)]).state_dict()


def test_the_mode_does_not_change_while_a_step_runs_or_when_it_cannot() -> None:
    params = {"a": np.ones(3), "b": np.ones(3)}
    optimizer = ss.optim.ScheduleFreeAdamW(params, lr=0.1)
    optimizer.step([np.ones(3), np.ones(3)])
    before = params["a"].copy()
    with pytest.raises(RuntimeError, match="one step at a time, got a call while another step runs"):
        optimizer._stepper.exclusive(optimizer.eval)
    params["b"].flags.writeable = False
    with pytest.raises(ValueError, match=r"^ScheduleFreeAdamW: params\['b'\] must be writable"):
        optimizer.eval()
    assert optimizer.training
    assert_same_bits(params["a"], before)


# Arguments.

NAN = float("nan")
BAD = [
    ("Adagrad", {"lr_decay": -0.1}, ValueError, "Adagrad: lr_decay must be finite and at least 0, got -0.1"),
    (
        "Adagrad",
        {"initial_accumulator_value": -1},
        ValueError,
        "initial_accumulator_value must be finite and at least 0",
    ),
    ("RMSprop", {"alpha": 1.5}, ValueError, "RMSprop: alpha must be in [0, 1], got 1.5"),
    ("RMSprop", {"momentum": -0.5}, ValueError, "RMSprop: momentum must be finite and at least 0, got -0.5"),
    ("RMSprop", {"centered": 1}, TypeError, "RMSprop: centered must be True or False, got 1"),
    ("Adadelta", {"rho": -0.1}, ValueError, "Adadelta: rho must be in [0, 1], got -0.1"),
    ("Adadelta", {"amsgrad": True}, TypeError, "unexpected keyword argument 'amsgrad'"),
    ("Adamax", {"betas": (0.9, 1.0)}, ValueError, "Adamax: betas[1] must be in [0, 1), got 1.0"),
    ("NAdam", {"momentum_decay": NAN}, ValueError, "NAdam: momentum_decay must be finite and at least 0, got nan"),
    (
        "RAdam",
        {"decoupled_weight_decay": 0.1},
        TypeError,
        "RAdam: decoupled_weight_decay must be True or False, got 0.1",
    ),
    ("Rprop", {"etas": (1.0, 1.2)}, ValueError, "Rprop: etas[0] must be in (0, 1), got 1.0"),
    ("Rprop", {"etas": (0.5, 1)}, ValueError, "Rprop: etas[1] must be finite and more than 1, got 1"),
    (
        "Rprop",
        {"step_sizes": (1.0, 0.5)},
        ValueError,
        "Rprop: step_sizes must be the least and the largest, got (1.0, 0.5)",
    ),
    ("Rprop", {"weight_decay": 0.1}, TypeError, "unexpected keyword argument 'weight_decay'"),
    ("ASGD", {"lambd": -1e-4}, ValueError, "ASGD: lambd must be finite and at least 0, got -0.0001"),
    ("ASGD", {"t0": "late"}, TypeError, "ASGD: t0 must be a number, got 'late'"),
    ("Lion", {"betas": (0.9, 0.99, 0.9)}, TypeError, "Lion: betas must be a pair of numbers, got (0.9, 0.99, 0.9)"),
    ("Lion", {"eps": 1e-8}, TypeError, "unexpected keyword argument 'eps'"),
    ("AdEMAMix", {"betas": (0.9, 0.99)}, TypeError, "AdEMAMix: betas must be a triple of numbers, got (0.9, 0.99)"),
    ("AdEMAMix", {"T_alpha_beta3": 0}, ValueError, "AdEMAMix: T_alpha_beta3 must be at least 1, got 0"),
    ("AdEMAMix", {"T_alpha_beta3": 1.5}, TypeError, "AdEMAMix: T_alpha_beta3 must be an integer, got 1.5"),
    ("ScheduleFreeAdamW", {"betas": (0.0, 0.9)}, ValueError, "ScheduleFreeAdamW: betas[0] must be in (0, 1), got 0.0"),
    (
        "ScheduleFreeAdamW",
        {"warmup_steps": -1},
        ValueError,
        "ScheduleFreeAdamW: warmup_steps must be at least 0, got -1",
    ),
    ("ScheduleFreeAdamW", {"weight_lr_power": -1}, ValueError, "weight_lr_power must be finite and at least 0, got -1"),
    ("Adan", {"betas": (0.9, 0.9, 1.0)}, ValueError, "Adan: betas[2] must be in [0, 1), got 1.0"),
    ("Adan", {"lr": -1}, ValueError, "Adan: lr must be finite and at least 0, got -1"),
    ("LAMB", {"betas": (0.9, 1.0)}, ValueError, "LAMB: betas[1] must be in [0, 1), got 1.0"),
    ("LAMB", {"amsgrad": True}, TypeError, "unexpected keyword argument 'amsgrad'"),
    ("LARS", {"trust_coefficient": -1}, ValueError, "LARS: trust_coefficient must be finite and at least 0, got -1"),
    ("LARS", {"nesterov": 1}, TypeError, "LARS: nesterov must be True or False, got 1"),
    ("Adafactor", {"beta2_decay": 0.1}, ValueError, "Adafactor: beta2_decay must be finite and at most 0, got 0.1"),
    ("Adafactor", {"d": 0}, ValueError, "Adafactor: d must be finite and more than 0, got 0"),
    ("Adafactor", {"eps": (1e-8, None)}, TypeError, "Adafactor: eps[1] must be a number, got None"),
    ("Adafactor", {"eps": (-1.0, 0.1)}, ValueError, "Adafactor: eps[0] must be finite and at least 0, got -1.0"),
    ("Adafactor", {"eps": None}, TypeError, "Adafactor: eps must be a pair of numbers, got None"),
    ("Muon", {"momentum": 1.0}, ValueError, "Muon: momentum must be in [0, 1), got 1.0"),
    ("Muon", {"ns_coefficients": (1.0, 2.0)}, TypeError, "Muon: ns_coefficients must be three numbers, got (1.0, 2.0)"),
    ("Muon", {"ns_coefficients": (1.0, NAN, 0)}, ValueError, "Muon: ns_coefficients[1] must be finite, got nan"),
    ("Muon", {"ns_steps": 0}, ValueError, "Muon: ns_steps must be at least 1, got 0"),
    ("Muon", {"ns_steps": 2.5}, TypeError, "Muon: ns_steps must be an integer, got 2.5"),
    ("Muon", {"eps": Step(0.1, step_size=1)}, TypeError, "Muon: eps must be a number, got Step"),
    ("Muon", {"adjust_lr_fn": "none"}, ValueError, "Muon: adjust_lr_fn must be one of original, match_rms_adamw"),
]


@pytest.mark.parametrize(("name", "given_", "kind", "message"), BAD, ids=range(len(BAD)))
def test_bad_hyperparameters_are_named(name, given_, kind, message) -> None:
    with pytest.raises(kind) as caught:
        getattr(ss.optim, name)([np.ones((3, 3))], **given_)
    assert type(caught.value) is kind
    assert message in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("centered", True), ("momentum", 0.5)])
def test_what_decides_the_state_of_rmsprop_is_fixed(key, value) -> None:
    with pytest.raises(ValueError, match=f"must stay as they were at construction, got {key}={value}"):
        ss.optim.RMSprop([np.ones(3)]).groups[0][key] = value
