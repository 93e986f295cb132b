"""What happens around the steps and epochs of a fit."""

from stepsmith.train.callbacks.base import Callback
from stepsmith.train.callbacks.checkpoint import Checkpoint
from stepsmith.train.callbacks.early_stopping import EarlyStopping
from stepsmith.train.callbacks.swa import SWA
from stepsmith.train.callbacks.unfreezing import GradualUnfreezing

__all__ = ["SWA", "Callback", "Checkpoint", "EarlyStopping", "GradualUnfreezing"]
