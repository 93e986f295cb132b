"""A thin trainer: batches, epochs, metrics, callbacks."""

from stepsmith.train.callbacks import Callback, EarlyStopping
from stepsmith.train.clock import Clock
from stepsmith.train.history import History
from stepsmith.train.model import FunctionModel, Model
from stepsmith.train.trainer import Trainer

__all__ = ["Callback", "Clock", "EarlyStopping", "FunctionModel", "History", "Model", "Trainer"]
