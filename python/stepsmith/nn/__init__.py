"""Layers and losses with hand-written forward and backward passes over NumPy, float32 or float64."""

from stepsmith.nn import functional
from stepsmith.nn.activation import ReLU, Sigmoid, Tanh
from stepsmith.nn.base import Counter, Module
from stepsmith.nn.container import Sequential
from stepsmith.nn.dropout import Dropout
from stepsmith.nn.linear import Linear
from stepsmith.nn.loss import LOSSES, CrossEntropy, Loss, MeanSquaredError, cross_entropy, mse
from stepsmith.nn.softmax import LogSoftmax, Softmax

__all__ = [
    "LOSSES",
    "Counter",
    "CrossEntropy",
    "Dropout",
    "Linear",
    "LogSoftmax",
    "Loss",
    "MeanSquaredError",
    "Module",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "cross_entropy",
    "functional",
    "mse",
]
