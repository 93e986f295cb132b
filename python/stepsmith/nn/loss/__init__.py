"""Losses: the mean over a batch, and the gradient of that mean for the model's output."""

from stepsmith.nn.loss.base import Loss
from stepsmith.nn.loss.classification import BCEWithLogits, MultiMargin
from stepsmith.nn.loss.cross_entropy import CrossEntropy, cross_entropy
from stepsmith.nn.loss.distillation import Distillation
from stepsmith.nn.loss.regression import Huber, MeanAbsoluteError, MeanSquaredError, SmoothL1, mse

__all__ = [
    "LOSSES",
    "BCEWithLogits",
    "CrossEntropy",
    "Distillation",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "MultiMargin",
    "SmoothL1",
    "cross_entropy",
    "mse",
]

_ALL: tuple[type[Loss], ...] = (
    BCEWithLogits,
    CrossEntropy,
    Distillation,
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    MultiMargin,
    SmoothL1,
)
LOSSES: dict[str, type[Loss]] = {loss.name: loss for loss in _ALL}
