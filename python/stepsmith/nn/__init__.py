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
from stepsmith.nn.batch_norm import BatchNorm
from stepsmith.nn.container import Sequential
from stepsmith.nn.dropout import Dropout
from stepsmith.nn.fake_quantize import FakeQuantize
from stepsmith.nn.group_norm import GroupNorm, InstanceNorm
from stepsmith.nn.linear import Linear
from stepsmith.nn.loss import (
    LOSSES,
    BCEWithLogits,
    CrossEntropy,
    Distillation,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    MultiMargin,
    SmoothL1,
    cross_entropy,
    mse,
)
from stepsmith.nn.norm import LayerNorm, RMSNorm
from stepsmith.nn.quantize import calibrate, prepare_qat, quantize_model
from stepsmith.nn.quantized import QATLinear, QuantizedLinear
from stepsmith.nn.softmax import LogSoftmax, Softmax
from stepsmith.nn.weight_norm import WeightNorm

__all__ = [
    "ELU",
    "GELU",
    "LOSSES",
    "BCEWithLogits",
    "BatchNorm",
    "Counter",
    "CrossEntropy",
    "Distillation",
    "Dropout",
    "FakeQuantize",
    "GroupNorm",
    "Hardtanh",
    "Huber",
    "InstanceNorm",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Module",
    "MultiMargin",
    "QATLinear",
    "QuantizedLinear",
    "RMSNorm",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
    "WeightNorm",
    "calibrate",
    "cross_entropy",
    "functional",
    "mse",
    "prepare_qat",
    "quantize_model",
]
