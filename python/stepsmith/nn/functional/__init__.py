"""Functions of arrays, forward and backward, that layers are made of."""

from stepsmith.nn.functional.softmax import (
    SoftmaxSaved,
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
)

__all__ = [
    "SoftmaxSaved",
    "log_softmax",
    "log_softmax_backward",
    "softmax",
    "softmax_backward",
]
