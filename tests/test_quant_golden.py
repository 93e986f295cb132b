"""Codes and numbers of bitsandbytes, PyTorch and ml_dtypes."""

import numpy as np
import pytest

import stepsmith as ss
from reference_quant import GOLDEN


@pytest.mark.parametrize(
    ("case", "block"), [("256-256", 256), ("1000-256", 256), ("5000-64", 64), ("4096-2048", 2048), ("3-256", 256)]
)
def test_dynamic8_is_never_farther_than_golden(case: str, block: int) -> None:
    x, theirs = GOLDEN[f"dynamic8-{case}/x"], GOLDEN[f"dynamic8-{case}/dq"]
    q = ss.quant.quantize(x, ss.quant.Dynamic8(block))
    assert (q.scales == GOLDEN[f"dynamic8-{case}/absmax"]).all()
    ours = q.dequantize()
    assert (np.abs(ours.astype(np.float64) - x) <= np.abs(theirs.astype(np.float64) - x)).all()
    assert (q.codes != GOLDEN[f"dynamic8-{case}/q"]).mean() < 0.002


def test_dynamic8_keeps_the_zero_that_golden_moves() -> None:
    q = ss.quant.quantize(GOLDEN["dynamic8-zero-block/x"], ss.quant.Dynamic8())
    assert (q.scales == GOLDEN["dynamic8-zero-block/absmax"]).all()
    assert not q.dequantize()[GOLDEN["dynamic8-zero-block/x"] == 0].any()


@pytest.mark.parametrize("size", [256, 1000, 5000, 4096])
def test_nf4_is_golden(size: int) -> None:
    q = ss.quant.quantize(GOLDEN[f"nf4-{size}/x"], ss.quant.NF4())
    assert (q.codes == GOLDEN[f"nf4-{size}/q"].reshape(-1)).all()
    assert (q.scales == GOLDEN[f"nf4-{size}/absmax"]).all()
    assert (q.dequantize() == GOLDEN[f"nf4-{size}/dq"].reshape(-1)).all()


@pytest.mark.parametrize("size", [256, 1000, 5000, 4096])
def test_fp4_decodes_as_golden(size: int) -> None:
    q = ss.quant.quantize(GOLDEN[f"fp4-{size}/x"], ss.quant.FP4())
    assert (q.scales == GOLDEN[f"fp4-{size}/absmax"]).all()
    assert (q.dequantize() == GOLDEN[f"fp4-{size}/dq"].reshape(-1)).all()
