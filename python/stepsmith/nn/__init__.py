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
from stepsmith.nn.attention import MultiHeadAttention
from stepsmith.nn.base import Counter, Module
from stepsmith.nn.batch_norm import BatchNorm
from stepsmith.nn.container import Residual, Sequential
from stepsmith.nn.conv import Conv2d
from stepsmith.nn.dropout import Dropout, SequenceDropout
from stepsmith.nn.embedding import Embedding, PositionalEmbedding
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
from stepsmith.nn.mixed import MixedPrecision
from stepsmith.nn.norm import LayerNorm, RMSNorm
from stepsmith.nn.pool import AvgPool2d, Flatten, MaxPool2d
from stepsmith.nn.quantize import calibrate, prepare_qat, quantize_model
from stepsmith.nn.quantized import QATLinear, QuantizedLinear
from stepsmith.nn.regularization import L1, L2, ElasticNet, MaxNorm, Regularizer
from stepsmith.nn.rnn import GRU, LSTM, RNN
from stepsmith.nn.softmax import LogSoftmax, Softmax
from stepsmith.nn.summary import Summary
from stepsmith.nn.weight_norm import WeightNorm

__all__ = [
    "ELU",
    "GELU",
    "GRU",
    "L1",
    "L2",
    "LOSSES",
    "LSTM",
    "RNN",
    "AvgPool2d",
    "BCEWithLogits",
    "BatchNorm",
    "Conv2d",
    "Counter",
    "CrossEntropy",
    "Distillation",
    "Dropout",
    "ElasticNet",
    "Embedding",
    "FakeQuantize",
    "Flatten",
    "GroupNorm",
    "Hardtanh",
    "Huber",
    "InstanceNorm",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Loss",
    "MaxNorm",
    "MaxPool2d",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "MixedPrecision",
    "Module",
    "MultiHeadAttention",
    "MultiMargin",
    "PositionalEmbedding",
    "QATLinear",
    "QuantizedLinear",
    "RMSNorm",
    "ReLU",
    "Regularizer",
    "Residual",
    "SequenceDropout",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1",
    "Softmax",
    "Softplus",
    "Softsign",
    "Summary",
    "Tanh",
    "WeightNorm",
    "calibrate",
    "cross_entropy",
    "functional",
    "mse",
    "prepare_qat",
    "quantize_model",
]
