"""Optimizers. `REGISTRY` maps names to classes."""

from stepsmith.optim.adam import Adam, AdamW
from stepsmith.optim.base import Optimizer, StepInfo, StepOptions
from stepsmith.optim.lbfgs import LBFGS, LBFGSInfo
from stepsmith.optim.sgd import SGD

__all__ = ["LBFGS", "REGISTRY", "SGD", "Adam", "AdamW", "LBFGSInfo", "Optimizer", "StepInfo", "StepOptions"]

REGISTRY: dict[str, type[Optimizer]] = {optimizer.name: optimizer for optimizer in (SGD, Adam, AdamW)}
"""Name → class; a class in the row above exists."""
