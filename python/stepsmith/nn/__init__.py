"""Layers and losses with hand-written forward and backward passes over NumPy, float32 or float64."""

from stepsmith.nn import functional
from stepsmith.nn.activation import (
    ELU,
    GELU,
    Hardtanh,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Softsign,
    Tanh,
)
from stepsmith.nn.base import Counter, Module
from stepsmith.nn.container import Sequential
from stepsmith.nn.dropout import Dropout
from stepsmith.nn.linear import Linear
from stepsmith.nn.loss import LOSSES, CrossEntropy, Loss, MeanSquaredError, cross_entropy, mse

__all__ = [
    "ELU",
    "GELU",
    "LOSSES",
    "Counter",
    "CrossEntropy",
    "Dropout",
    "Hardtanh",
    "LeakyReLU",
    "Linear",
    "Loss",
    "MeanSquaredError",
    "Module",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "Tanh",
    "cross_entropy",
    "functional",
    "mse",
]
