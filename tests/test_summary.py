"""Summaries: counts by hand, nothing of the model changed, bad input."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

import stepsmith as ss
from helpers import assert_same_bits
from stepsmith import nn


def make() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, 6),
        nn.Sequential(nn.BatchNorm(6), nn.ReLU(), nn.Dropout(0.5)),
        nn.WeightNorm(nn.Linear(6, 3, bias=False)),
        nn.BatchNorm(3, affine=False, track_running_stats=False),
    )


def test_rows_and_totals() -> None:
    summary = make().summary((4,))
    rows = [(row.name, row.type, row.output_shape, row.parameters) for row in summary.rows]
    assert rows == [
        ("0", "Linear", (6,), 30),
        ("1.0", "BatchNorm", (6,), 12),
        ("1.1", "ReLU", (6,), 0),
        ("1.2", "Dropout", (6,), 0),
        ("2", "WeightNorm", (3,), 21),
        ("3", "BatchNorm", (3,), 0),
    ]
    assert [row.nbytes for row in summary.rows] == [120, 48, 0, 0, 84, 0]
    assert [row.buffer_nbytes for row in summary.rows] == [0, 6 * 4 * 2 + 8, 0, 0, 0, 0]
    assert summary.rows[0].flops == 2 * 4 * 6
    assert summary.trainable == summary.total.parameters == 63
    assert (summary.total.nbytes, summary.total.buffer_nbytes) == (252, 56)
    assert summary.total.flops == sum(row.flops for row in summary.rows) >= 48


def test_the_table() -> None:
    lines = str(nn.Sequential(nn.Linear(1000, 20), nn.BatchNorm(20)).summary((1000,))).splitlines()
    assert lines[0].split() == ["layer", "type", "output", "parameters", "bytes", "buffers", "FLOPs"]
    assert lines[1].split() == ["0", "Linear", "(20,)", "20,020", "80,080", "0", "40,000"]
    assert lines[3].split() == ["total", "20,060", "80,240", "168", "40,000"]
    assert lines[4] == "trainable: 20,060 of 20,060 parameters"


def test_buffers_are_no_parameters() -> None:
    model = nn.quantize_model(nn.Sequential(nn.Linear(8, 4, rng=0)), ss.quant.Affine(bits=8))
    row = model.summary((8,)).rows[0]
    assert row.type == "QuantizedLinear"
    assert row.parameters == row.nbytes == 0
    assert row.buffer_nbytes == sum(array.nbytes for array in model.buffers().values()) > 0


def test_a_wrapper_has_the_flops_of_its_layer() -> None:
    conv, linear, scheme = nn.Conv2d(2, 3, 3), nn.Linear(8, 4, rng=0), ss.quant.Affine(bits=8)
    assert nn.WeightNorm(conv).summary((2, 5, 5)).total.flops == 2 * 2 * 9 * 3 * 3 * 3
    for model in (nn.WeightNorm(nn.Linear(8, 4)), nn.QATLinear(nn.Linear(8, 4), scheme)):
        assert model.summary((7, 8)).total.flops == 7 * 2 * 8 * 4
    assert nn.quantize_model(nn.Sequential(linear), scheme).summary((8,)).total.flops == 2 * 8 * 4


def test_a_batch_and_a_shape_agree() -> None:
    model = make()
    assert model.summary(np.ones((5, 4), np.float32)) == model.summary((4,)) == model.summary([4])
    assert nn.Linear(4, 2, dtype=np.float64).summary((4,), dtype=np.float64).total.nbytes == 80


def test_nothing_of_the_model_changes() -> None:
    model, x = make(), np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    model(x, training=True)
    twin = deepcopy(model)
    keys = [set(layer.__dict__) for _, layer in model.named_layers()]
    model.summary((4,))
    assert model.counter == twin.counter
    for now, before in ((model.parameters(), twin.parameters()), (model.buffers(), twin.buffers())):
        for name in before:
            assert_same_bits(now[name], before[name])
    assert [set(layer.__dict__) for _, layer in model.named_layers()] == keys
    batch = x, np.array([0, 1, 2, 1, 0])
    assert model.loss_and_grads(batch)[0] == twin.loss_and_grads(batch)[0]


def test_a_pass_that_fails_leaves_the_layers_as_they_were() -> None:
    model = make()
    first = next(layer for _, layer in model.named_layers())
    own = first.forward
    first.forward = lambda x, training=False: own(x, training)  # type: ignore[method-assign]
    kept = first.forward
    with pytest.raises(ValueError, match=r"Linear: input must have shape \(samples, ..., 4\), got \(2, 5\)"):
        model.summary((5,))
    assert [layer.__dict__.get("forward") for _, layer in model.named_layers()] == [kept] + [None] * 5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: make().summary(4), TypeError, "summary: inputs must be a sample's shape or an array, got 4"),
        (lambda: make().summary((0,)), ValueError, r"summary: inputs\[0\] must be at least 1, got 0"),
        (lambda: make().summary((4.0,)), TypeError, r"summary: inputs\[0\] must be an integer, got 4.0"),
        (lambda: make().summary(np.zeros((0, 4), "f4")), ValueError, r"must be a batch of samples, .* shape \(0, 4\)"),
        (lambda: make().summary((4,), dtype=int), TypeError, "Linear: input must be float32"),
    ],
)
def test_bad_input_is_named(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
