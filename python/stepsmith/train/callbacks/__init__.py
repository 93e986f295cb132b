"""What happens around the steps and epochs of a fit."""

from stepsmith.train.callbacks.base import Callback
from stepsmith.train.callbacks.checkpoint import Checkpoint
from stepsmith.train.callbacks.early_stopping import EarlyStopping
from stepsmith.train.callbacks.function import FunctionCallback
from stepsmith.train.callbacks.logger import CSVLogger, JSONLogger
from stepsmith.train.callbacks.lr_monitor import LRMonitor
from stepsmith.train.callbacks.optuna import OptunaPruning
from stepsmith.train.callbacks.plateau import Plateau
from stepsmith.train.callbacks.statistics import Statistics
from stepsmith.train.callbacks.swa import SWA
from stepsmith.train.callbacks.tensorboard import TensorBoard
from stepsmith.train.callbacks.timer import Timer
from stepsmith.train.callbacks.unfreezing import GradualUnfreezing

__all__ = [
    "SWA",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "FunctionCallback",
    "GradualUnfreezing",
    "JSONLogger",
    "LRMonitor",
    "OptunaPruning",
    "Plateau",
    "Statistics",
    "TensorBoard",
    "Timer",
]
