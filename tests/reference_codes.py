"""The oracle of state that is kept as codes: rust/optim/coded.rs. Blocks of 256 elements in C order share a scale."""

from typing import Any, NamedTuple

import numpy as np

from reference_quant import ORACLES as BLOCKWISE
from reference_quant import Array, Parts, blocks, scaled
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

    def encode(self, x: Array, words: Array | None = None) -> "Codes":
        """Numbers are rounded to float32 first; a block with one that is not finite is NaN. `words`: at random."""
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
        if words is not None:
            codes[:] = self.nudged(flat, codes, words)
        for block in lost:
            codes[block * BLOCK : (block + 1) * BLOCK] = 0
            parts["scales"][block] = np.nan
        return Codes(self, parts, single.shape)

    def nudged(self, x: Array, codes: Array, words: Array) -> Array:
        """With probability (y - level) / (other - level) the code of the level on the other side of y = x / scale."""
        largest = {"dynamic8": 1.0, "float8": 61440.0 if self.keeps else 448.0}[self.scheme.name]
        y = np.concatenate([np.zeros(0, np.float32), *(scaled(part, largest)[1] for part in blocks(x, BLOCK))])
        y = np.clip(y, np.float32(-largest), np.float32(largest))
        level = self.levels(codes)
        by_magnitude = self.scheme.name == "float8" and not self.keeps
        is_up = np.abs(y) > np.abs(level) if by_magnitude else y > level
        other = np.where(is_up, np.where(codes == 255, codes, codes + 1), np.where(codes == 0, codes, codes - 1))
        other = other.astype(np.uint8)
        if by_magnitude:
            # -0 has no neighbour, whose bits would be NaN's.
            other = np.where(other & 127 == 127, codes, other)
        with np.errstate(all="ignore"):
            share = (y - level) / (self.levels(other) - level)
        uniform = (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
        moves = uniform < share
        if self.keeps:
            moves &= self.levels(other) > 0
        return np.where(moves, other, codes)

    def levels(self, codes: Array) -> Array:
        """What codes stand for under a scale of 1."""
        dtype = self.scheme.parts(codes.shape)["codes"].dtype
        ones = np.ones(-(-codes.size // BLOCK), np.float32)
        return ORACLES[self.scheme.name].decode({"codes": codes.view(dtype), "scales": ones}, self.scheme, codes.shape)


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
