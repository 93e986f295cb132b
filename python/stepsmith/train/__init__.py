"""A thin trainer: batches, epochs, metrics, callbacks, checkpoints."""

from stepsmith.train.callbacks import SWA, Callback, Checkpoint, EarlyStopping, GradualUnfreezing
from stepsmith.train.checkpoint import DamagedError
from stepsmith.train.clock import Clock
from stepsmith.train.evaluation import update_statistics
from stepsmith.train.history import History
from stepsmith.train.model import FunctionModel, Model
from stepsmith.train.scaling import DynamicLossScale, LossScale
from stepsmith.train.trainer import Trainer

__all__ = [
    "SWA",
    "Callback",
    "Checkpoint",
    "Clock",
    "DamagedError",
    "DynamicLossScale",
    "EarlyStopping",
    "FunctionModel",
    "GradualUnfreezing",
    "History",
    "LossScale",
    "Model",
    "Trainer",
    "update_statistics",
]
