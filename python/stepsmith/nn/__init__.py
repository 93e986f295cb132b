"""Layers and losses with hand-written forward and backward passes over NumPy, float32 or float64."""

from stepsmith.nn.activation import ReLU, Sigmoid, Tanh
from stepsmith.nn.base import Counter, Module
from stepsmith.nn.batch_norm import BatchNorm
from stepsmith.nn.container import Sequential
from stepsmith.nn.dropout import Dropout
from stepsmith.nn.group_norm import GroupNorm, InstanceNorm
from stepsmith.nn.linear import Linear
from stepsmith.nn.loss import LOSSES, CrossEntropy, Loss, MeanSquaredError, cross_entropy, mse
from stepsmith.nn.norm import LayerNorm, RMSNorm
from stepsmith.nn.weight_norm import WeightNorm

__all__ = [
    "LOSSES",
    "BatchNorm",
    "Counter",
    "CrossEntropy",
    "Dropout",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "Linear",
    "Loss",
    "MeanSquaredError",
    "Module",
    "RMSNorm",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "WeightNorm",
    "cross_entropy",
    "mse",
]
