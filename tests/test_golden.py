"""The peers' golden rows: parameters after each of twelve steps, and the state at the end."""

import json
from pathlib import Path

import numpy as np
import pytest

import stepsmith as ss

GOLDEN = Path(__file__).parent / "golden"
ARRAYS = np.load(GOLDEN / "optim.npz")
CASES = [row for row in json.loads((GOLDEN / "optim.json").read_text()) if row["optimizer"] in ss.optim.REGISTRY]
TOLERANCE = {"float64": 1e-12, "float32": 2e-6}
# PyTorch measures Adafactor's means and norms in another order.
TOLERANCE_OF = {"adafactor": {"float64": 1e-9, "float32": 2e-6}}
# PyTorch makes Muon's matrices orthogonal in bfloat16: that part of the parameters' largest entry may differ.
PARAMS_OF = {"muon": 2e-3}
# The peers' names for our state, where they differ; AMSGrad's maximum and the moments are uncorrected there as here.
STATE = {
    "momentum_buffer": "momentum",
    "exp_avg": "m",
    "exp_avg_sq": "v",
    "max_exp_avg_sq": "v_max",
    "exp_inf": "u",
    "exp_avg_slow": "m_slow",
    "exp_avg_diff": "m_diff",
    "previous_grad": "prev_grad",
}
NEGATED = {"previous_grad"}
STATE_OF = {"adan": {**STATE, "exp_avg_sq": "n"}}
# What they wrote down, where it is not all of our state.
WRITTEN = {"lars": set(), "adafactor": {"variance"}}
# Flags of theirs that ours has under another name (None: always so).
SETTINGS = {"weight_decouple": "decoupled_weight_decay"}
SETTINGS_OF = {rule: {"weight_decouple": None} for rule in ("lion", "ademamix")}


def assert_close(got: np.ndarray, want: np.ndarray, tolerance: float) -> None:
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    assert np.isfinite(got).all()
    error = np.abs(got - want).max()
    assert error <= tolerance * np.abs(want).max(), error


class NAdamInFloat32(ss.optim.NAdam):
    """PyTorch keeps the product in float32."""

    def _carry(self, group, lr, step, carried):
        (mu_product,) = super()._carry(group, lr, step, (1.0,))
        return (float(np.float32(carried[0]) * np.float32(mu_product)),)


class ASGDInFloat32(ss.optim.ASGD):
    """PyTorch keeps η and μ in float32."""

    def _scalars(self, group, lr, step, carried):
        weight_decay, _, eta, mu, averaging = super()._scalars(group, lr, step, carried)
        eta, mu = float(np.float32(eta)), float(np.float32(mu))
        return weight_decay, 1.0 - group["lambd"] * eta, eta, mu, averaging


AS_PYTORCH = {"nadam": NAdamInFloat32, "asgd": ASGDInFloat32}


def translated(rule: str, settings: dict) -> dict:
    """Their hyperparameters as ours."""
    names = SETTINGS_OF.get(rule, SETTINGS)
    assert all(settings[key] is True for key, name in names.items() if name is None and key in settings)
    return {names.get(key, key): value for key, value in settings.items() if names.get(key, key) is not None}


def test_there_are_rows_for_each_flag() -> None:
    names = {case["case"] for case in CASES}
    assert len(CASES) == 69
    flags = "sgd-nesterov", "adam-amsgrad", "adamw-maximize", "rmsprop-centered-momentum", "nadam-decoupled"
    assert {f"{name}-{dtype}" for name in flags for dtype in ("f32", "f64")} <= names
    assert {case["optimizer"] for case in CASES} == set(ss.optim.REGISTRY) - {"lbfgs"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_steps_equal_golden(case) -> None:
    name, dtype, tensors = case["case"], case["dtype"], range(case["tensors"])
    params = {str(i): ARRAYS[f"{name}/init{i}"].copy() for i in tensors}
    rule = case["optimizer"]
    tolerance = TOLERANCE_OF.get(rule, TOLERANCE)[dtype]
    of_params = PARAMS_OF.get(rule, tolerance)
    optimizer = AS_PYTORCH.get(rule, ss.optim.REGISTRY[rule])(params, **translated(rule, case["hyperparameters"]))
    for step in range(case["steps"]):
        optimizer.step([ARRAYS[f"{name}/grads{i}"][step] for i in tensors])
        moved = 0.0
        for i in tensors:
            want = ARRAYS[f"{name}/after{i}"][step]
            before = ARRAYS[f"{name}/after{i}"][step - 1] if step else ARRAYS[f"{name}/init{i}"]
            moved = max(moved, np.abs(want - before).max() / np.abs(want).max())
            assert_close(params[str(i)], want, of_params)
        assert moved > (50 * tolerance if rule not in PARAMS_OF else 3 * of_params), "the step is worth a test"
    gone = [np.abs(params[str(i)] - ARRAYS[f"{name}/init{i}"]).max() / np.abs(params[str(i)]).max() for i in tensors]
    assert max(gone) > 25 * of_params, "the steps are worth a test"
    seen = set()
    for i in tensors:
        prefix = f"{name}/state{i}."
        for key in (key for key in ARRAYS.files if key.startswith(prefix)):
            slot = key.removeprefix(prefix)
            if slot == "step":
                assert optimizer.state_dict()["steps"][str(i)] == int(ARRAYS[key]) == case["steps"]
                continue
            name_here = STATE_OF.get(rule, STATE).get(slot, slot)
            want = -ARRAYS[key] if slot in NEGATED else ARRAYS[key]
            assert_close(optimizer.state[str(i)][name_here], want, tolerance)
            seen.add(name_here)
    assert seen == WRITTEN.get(rule, set(optimizer.state["0"]))
