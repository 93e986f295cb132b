"""The oracle of state that is kept as codes: rust/optim/coded.rs. Blocks of 256 elements in C order share a scale."""

from typing import Any, NamedTuple

import numpy as np

from reference_quant import ORACLES as BLOCKWISE
from reference_quant import Array, Parts
from reference_quant_float8 import ORACLES as FLOAT8

ORACLES = {**BLOCKWISE, **FLOAT8}
BLOCK = 256
UNSIGNED = {"v", "v_max", "u", "n", "square_avg", "acc_delta", "sum", "variance"}
UNCODED = {"prev", "step_size", "ax", "z", "prev_grad", "row_var", "col_var", "update"}
MOMENTLESS = {"rprop", "asgd"}
"""Rules that have none to code."""


class CodedType(NamedTuple):
    """What stands for a dtype of such state."""

    scheme: Any
    keeps: bool
    """What is above zero stays so."""

    def encode(self, x: Array) -> "Codes":
        """Numbers are rounded to float32 first; a block with one that is not finite is NaN."""
        single = np.asarray(x, np.float32)
        flat, lost = single.reshape(-1).copy(), np.zeros(0, np.intp)
        if not np.isfinite(flat).all():
            lost = np.unique(np.flatnonzero(~np.isfinite(flat)) // BLOCK)
            for block in lost:
                flat[block * BLOCK : (block + 1) * BLOCK] = 0
        parts = ORACLES[self.scheme.name].encode(flat.reshape(single.shape), self.scheme)
        codes = parts["codes"].view(np.uint8).reshape(-1)
        if self.keeps:
            codes[(flat > 0) & (codes == 0)] = 1
        for block in lost:
            codes[block * BLOCK : (block + 1) * BLOCK] = 0
            parts["scales"][block] = np.nan
        return Codes(self, parts, single.shape)


class Codes(NamedTuple):
    """A state array as codes and scales."""

    dtype: CodedType
    parts: Parts
    shape: tuple[int, ...]

    def astype(self, compute: Any) -> Array:
        """The numbers that it stands for."""
        scheme = self.dtype.scheme
        return ORACLES[scheme.name].decode(self.parts, scheme, self.shape).astype(compute)


def coded_type(state_dtype: str, slot: str) -> CodedType | None:
    """How a state array is coded; None if it is not."""
    from stepsmith import quant

    if slot in UNCODED or state_dtype not in {"int8", "float8"}:
        return None
    signed = slot not in UNSIGNED
    if state_dtype == "int8":
        return CodedType(quant.Dynamic8(BLOCK, signed=signed), not signed)
    return CodedType(quant.Float8("e4m3fn" if signed else "ue5m3", BLOCK), not signed)
