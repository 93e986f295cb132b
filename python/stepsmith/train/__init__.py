"""A thin trainer: batches, epochs, metrics, callbacks, checkpoints."""

from stepsmith.train.callbacks import (
    SWA,
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    FunctionCallback,
    GradualUnfreezing,
    JSONLogger,
    LRMonitor,
    OptunaPruning,
    Plateau,
    Statistics,
    TensorBoard,
    Timer,
)
from stepsmith.train.checkpoint import DamagedError
from stepsmith.train.clock import Clock
from stepsmith.train.evaluation import update_statistics
from stepsmith.train.history import History
from stepsmith.train.lr_finder import LRFinder
from stepsmith.train.model import Array, Batch, FunctionModel, Model
from stepsmith.train.scaling import DynamicLossScale, LossScale
from stepsmith.train.trainer import Trainer

__all__ = [
    "SWA",
    "Array",
    "Batch",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "Clock",
    "DamagedError",
    "DynamicLossScale",
    "EarlyStopping",
    "FunctionCallback",
    "FunctionModel",
    "GradualUnfreezing",
    "History",
    "JSONLogger",
    "LRFinder",
    "LRMonitor",
    "LossScale",
    "Model",
    "OptunaPruning",
    "Plateau",
    "Statistics",
    "TensorBoard",
    "Timer",
    "Trainer",
    "update_statistics",
]
