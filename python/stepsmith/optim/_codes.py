"""State of eight bits an element: which arrays have codes, and what says how."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepsmith._backend import namespace
from stepsmith.quant import Dynamic8, Float8, QuantizedArray, Scheme, quantize
from stepsmith.quant._scheme import CodecScheme

__all__ = ["STATE_DTYPES", "UNCODED", "fill", "part_slot", "quantized", "scheme_of", "zero_code"]

Array = NDArray[Any]

BLOCK = 256
"""Elements that share a scale."""

STATE_DTYPES: Mapping[str, Mapping[bool, CodecScheme]] = {
    "int8": {True: Dynamic8(BLOCK, signed=True), False: Dynamic8(BLOCK, signed=False)},
    "float8": {True: Float8("e4m3fn", BLOCK), False: Float8("ue5m3", BLOCK)},
}
"""For each state_dtype with codes the schemes of moments that have signs and of those that have none."""

_SIGNED = {"m", "m_slow", "m_diff", "momentum", "grad_avg"}
_UNSIGNED = {"v", "v_max", "u", "n", "square_avg", "acc_delta", "sum", "variance"}

UNCODED = frozenset({"prev", "step_size", "ax", "z", "prev_grad", "row_var", "col_var", "update"})
"""State that is no average of gradients or their squares, or is small: it stays as it is."""


def scheme_of(state_dtype: str, slot: str) -> CodecScheme | None:
    """The scheme of a state array; None where it has no codes."""
    schemes = STATE_DTYPES.get(state_dtype)
    return None if schemes is None or slot in UNCODED else schemes[slot not in _UNSIGNED]


def part_slot(slot: str, part: str) -> str:
    """The name under which a part of a coded state array is saved: its codes have the array's own."""
    return slot if part == "codes" else f"{slot}_{part}"


def zero_code(scheme: Scheme, dtype: Any) -> Any:
    """The code of 0, as an array of codes holds it."""
    return quantize(np.zeros(1, np.float32), scheme).codes.view(dtype)[0]


def fill(q: QuantizedArray, initial: float | Array | None) -> None:
    """What a state array holds before the first update."""
    if initial is None:
        q.scales[...] = 0.0
        q.codes[...] = zero_code(q.scheme, q.codes.dtype)
    else:
        own = namespace(q.codes)
        quantize(own.array(own.broadcast_to(own.asarray(initial, own.float32), q.shape)), q.scheme, out=q)


def quantized(x: Array, scheme: Scheme, slot: str) -> dict[str, Array]:
    """A state array as what is saved of it: slot → array. As in a step, a second moment above 0 has no code of 0."""
    q = quantize(x, scheme)
    if any(scheme == schemes[False] for schemes in STATE_DTYPES.values()):
        q.codes[(x > 0) & (q.codes == 0)] = 1
    return {part_slot(slot, part): array for part, array in q.parts.items()}
