"""The structs of kernels/rows.cuh and kernels/control.cuh as NumPy sees them."""

import numpy as np

__all__ = [
    "CODECS",
    "CONTROL",
    "NEWS",
    "NOTHING",
    "OPERANDS",
    "PASS",
    "PROBLEMS",
    "REDUCTIONS",
    "REPORT",
    "RING",
    "ROW",
]

OPERANDS = 8
"""Parameter, gradient, four state arrays, moving average, shadow copy."""
STATE, EMA, SHADOW = 2, 6, 7
"""Places of the first state array and of the last two."""

RING = 256
"""Updates whose scalars are in the table at once."""

NOTHING = 2**64 - 1
"""No element, or a slot of the table that is empty."""

CODECS = {"dynamic8_signed": 0, "dynamic8_unsigned": 1, "scaled_e4m3fn": 2, "scaled_ue5m3": 3}
"""``enum StateCodec`` of kernels/coded.cuh."""
REDUCTIONS = {"sum_abs": 1, "sum_squares": 2, "max_abs": 3, "sum": 4}
PROBLEMS = ("", "non-finite", "norm overflow", "past table")

_ADDRESS = _COUNT = np.uint64

ROW = np.dtype(
    [
        ("len", _COUNT),
        ("unit", _COUNT),
        ("block", _COUNT),
        ("first", _COUNT),
        ("data", _ADDRESS, OPERANDS),
        ("codes", _ADDRESS, 4),
        ("scales", _ADDRESS, 4),
        ("kept", _ADDRESS),
        ("walk", _ADDRESS),
        ("grad", _ADDRESS),
        ("grad_walk", _ADDRESS),
        ("unit_factors", _ADDRESS),
        ("unit_block", _COUNT),
        ("means", _ADDRESS, 2),
        ("mean_sums", _ADDRESS, 2),
        ("partials", _ADDRESS),
        ("height", _COUNT),
        ("width", _COUNT),
        ("count", _COUNT),
        ("dtypes", np.int32, OPERANDS),
        ("codecs", np.int32, 4),
        ("mean_dtype", np.int32),
        ("compute", np.int32),
        ("axes", np.int32),
        ("quads", np.int32),
        ("grad_axes", np.int32),
        ("grad_quads", np.int32),
        ("tensor", np.uint32),
        ("cohort", np.uint32),
        ("plain", np.int32),
        ("unused", np.int32),
    ],
    align=True,
)

CONTROL = np.dtype(
    [
        ("updates", _COUNT),
        ("steps", _COUNT),
        ("first_bad", _COUNT),
        ("largest", np.uint64, 2),
        ("sum", np.float64),
        ("norm", np.float64),
        ("clip", np.float64),
        ("first", np.float64),
        ("second", np.float64),
        ("stops", np.uint32),
        ("ended", np.uint32),
        ("problem", np.uint32),
        ("tensor", np.uint32),
        ("element", _COUNT),
        ("value", np.float64),
        ("grad_scale", np.float64),
    ],
    align=True,
)

REPORT = np.dtype(
    [("norm", np.float64), ("updates", _COUNT), ("stopped", np.uint32), ("problem", np.uint32)],
    align=True,
)

NEWS = np.dtype([("updates", _COUNT), ("steps", _COUNT), ("problem", np.uint64)], align=True)

PASS = np.dtype(
    [
        ("rows", _ADDRESS),
        ("chunks", _ADDRESS),
        ("chunk_count", _COUNT),
        ("row_count", _COUNT),
        ("block_count", _COUNT),
        ("unit_block_count", _COUNT),
        ("control", _ADDRESS),
        ("table", _ADDRESS),
        ("slot_width", _COUNT),
        ("scalar_count", _COUNT),
        ("report", _ADDRESS),
        ("news", _ADDRESS),
        ("partials", _ADDRESS),
        ("norms", _ADDRESS),
        ("grad_scale", np.float64),
        ("first", np.float64),
        ("second", np.float64),
        ("clip_value", np.float64),
        ("max_norm", np.float64),
        ("agc", np.float64),
        ("ema_weight", np.float64),
        ("rounding_seed", np.uint64),
        ("state_rounding_seed", np.uint64),
        ("checks_finite", np.int32),
        ("clips_values", np.int32),
        ("norm", np.int32),
        ("clips_units", np.int32),
        ("is_examined", np.int32),
        ("skips", np.int32),
        ("rounds", np.int32),
        ("rounds_state", np.int32),
        ("zeroes_grads", np.int32),
        ("only_rule", np.int32),
        ("is_last", np.int32),
        ("has_codes", np.int32),
    ],
    align=True,
)
