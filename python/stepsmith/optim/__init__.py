"""Optimizers. `REGISTRY` maps names to classes."""

from stepsmith.optim.adam import Adam, AdamW
from stepsmith.optim.base import Optimizer, StepInfo, StepOptions
from stepsmith.optim.lbfgs import LBFGS, LBFGSInfo
from stepsmith.optim.minimize import MinimizeResult, minimize
from stepsmith.optim.sgd import SGD

__all__ = [
    "LBFGS",
    "REGISTRY",
    "SGD",
    "Adam",
    "AdamW",
    "LBFGSInfo",
    "MinimizeResult",
    "Optimizer",
    "StepInfo",
    "StepOptions",
    "minimize",
]

REGISTRY: dict[str, type[Optimizer] | type[LBFGS]] = {optimizer.name: optimizer for optimizer in (SGD, Adam, AdamW)}
"""Name → class; a class in the row above exists. LBFGS is no rule of the core: its step calls a closure."""
REGISTRY[LBFGS.name] = LBFGS
