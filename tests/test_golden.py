"""PyTorch's golden rows: parameters after each of twelve steps, and the state at the end."""

import json
from pathlib import Path

import numpy as np
import pytest

import stepsmith as ss

GOLDEN = Path(__file__).parent / "golden"
ARRAYS = np.load(GOLDEN / "optim.npz")
CASES = [row for row in json.loads((GOLDEN / "optim.json").read_text()) if row["optimizer"] in ss.optim.REGISTRY]
TOLERANCE = {"float64": 1e-12, "float32": 2e-6}
# PyTorch's names for our state; its AMSGrad maximum and moments are uncorrected, as ours.
TORCH = {"momentum_buffer": "momentum", "exp_avg": "m", "exp_avg_sq": "v", "max_exp_avg_sq": "v_max"}


def assert_close(got: np.ndarray, want: np.ndarray, dtype: str) -> None:
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    assert np.isfinite(got).all()
    error = np.abs(got - want).max()
    assert error <= TOLERANCE[dtype] * np.abs(want).max(), error


def test_there_are_rows_for_each_flag() -> None:
    names = {case["case"] for case in CASES}
    assert len(CASES) == 24
    assert {
        f"{name}-{dtype}" for name in ("sgd-nesterov", "adam-amsgrad", "adamw-maximize") for dtype in ("f32", "f64")
    } <= names


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_steps_equal_golden(case) -> None:
    name, dtype, tensors = case["case"], case["dtype"], range(case["tensors"])
    params = {str(i): ARRAYS[f"{name}/init{i}"].copy() for i in tensors}
    settings = dict(case["hyperparameters"])
    optimizer = ss.optim.REGISTRY[case["optimizer"]](params, **settings)
    for step in range(case["steps"]):
        optimizer.step([ARRAYS[f"{name}/grads{i}"][step] for i in tensors])
        for i in tensors:
            want = ARRAYS[f"{name}/after{i}"][step]
            before = ARRAYS[f"{name}/after{i}"][step - 1] if step else ARRAYS[f"{name}/init{i}"]
            assert np.abs(want - before).max() > 50 * TOLERANCE[dtype] * np.abs(want).max(), "the step is worth a test"
            assert_close(params[str(i)], want, dtype)
    seen = set()
    for i in tensors:
        prefix = f"{name}/state{i}."
        for key in (key for key in ARRAYS.files if key.startswith(prefix)):
            slot = key.removeprefix(prefix)
            if slot == "step":
                assert optimizer.state_dict()["steps"][str(i)] == int(ARRAYS[key]) == case["steps"]
                continue
            assert_close(optimizer.state[str(i)][TORCH[slot]], ARRAYS[key], dtype)
            seen.add(TORCH[slot])
    assert seen == set(optimizer.state["0"])
