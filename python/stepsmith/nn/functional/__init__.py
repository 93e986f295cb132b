"""Functions behind layers, each with its backward pass: for code that keeps its own parameters."""

from stepsmith.nn.functional.activation import Activation, ActivationSaved, activate, activate_backward
from stepsmith.nn.functional.softmax import (
    SoftmaxSaved,
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
)

__all__ = [
    "Activation",
    "ActivationSaved",
    "SoftmaxSaved",
    "activate",
    "activate_backward",
    "log_softmax",
    "log_softmax_backward",
    "softmax",
    "softmax_backward",
]
