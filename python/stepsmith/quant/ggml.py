"""Blocks as GGML lays them out: scales and codes in one run of bytes."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from stepsmith import _check
from stepsmith.quant._scheme import UINT8, Blocks, CodecScheme, Spec, flat_blocks

__all__ = ["GGML", "KINDS", "Kind"]


class Kind(NamedTuple):
    """A kind of block."""

    length: int
    """Numbers of a block."""
    nbytes: int
    """Bytes of a block."""


KINDS = {
    "q8_0": Kind(32, 34),
    "q4_0": Kind(32, 18),
    "q4_1": Kind(32, 20),
    "q5_0": Kind(32, 22),
    "q4_k": Kind(256, 144),
    "q6_k": Kind(256, 210),
}
"""The kinds by name."""


@dataclass(frozen=True)
class GGML(CodecScheme):
    """Blocks of the last axis as GGML lays them out, float16 scales among the codes.

    With d, m, dmin float16 and sc, mn integers that blocks of 32 (q6_k: 16) share, decoded they are

    ======== ===================== ==============
    kind     number                bits an element
    ======== ===================== ==============
    q8_0     code·d                8.5
    q4_0     (code - 8)·d          4.5
    q4_1     code·d + m            5
    q5_0     (code - 16)·d         5.5
    q4_k     code·(d·sc) - dmin·mn 4.5
    q6_k     (code - 32)·(d·sc)    6.5625
    ======== ===================== ==============

    The first four are what the package gguf makes of the array, to the byte, unless a scale is beyond float16: it stays
    at 65504. The others are searched for by least squares. All of a block is in ``codes``: leading axes, then bytes of
    a row; there are no scales. q4_1 and q4_k have no exact zero in blocks that also have other numbers. q4_k's blocks
    begin at or below zero: it suits weights around zero. Bytes that others made are decoded as they are, NaN too.

    Args:
        kind: of block: "q8_0", "q4_0", "q4_1", "q5_0", "q4_k" or "q6_k".

    Raises:
        ValueError: on use, if the last axis is not a multiple of 32 (256 for q4_k and q6_k).

    Example:
        >>> q = ss.quant.quantize(np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64), ss.quant.GGML("q4_0"))
        >>> q.codes.shape, q.nbytes
        ((2, 36), 72)
    """

    kind: str
    name: ClassVar[str] = "ggml"

    def __post_init__(self) -> None:
        _check.one_of("GGML", "kind", self.kind, KINDS)

    def parts(self, shape: tuple[int, ...]) -> dict[str, Spec]:
        """The bytes of all blocks, in the place of the last axis."""
        length, nbytes = KINDS[self.kind]
        if not shape or shape[-1] % length:
            raise ValueError(f"GGML: the last axis must be a multiple of {length} for {self.kind}, got shape {shape}")
        return {"codes": Spec((*shape[:-1], shape[-1] // length * nbytes), UINT8)}

    def codec(self) -> tuple[str, list[float]]:
        """Named as the kind."""
        return self.kind, []

    def _blocks(self, shape: tuple[int, ...]) -> Blocks:
        return flat_blocks(shape, KINDS[self.kind].length)
