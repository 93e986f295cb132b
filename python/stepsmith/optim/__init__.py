"""Optimizers. `REGISTRY` maps names to classes."""

from stepsmith.optim._groups import decay_groups
from stepsmith.optim.adadelta import Adadelta
from stepsmith.optim.adafactor import Adafactor
from stepsmith.optim.adagrad import Adagrad
from stepsmith.optim.adam import Adam, AdamW
from stepsmith.optim.adamax import Adamax
from stepsmith.optim.adan import Adan
from stepsmith.optim.ademamix import AdEMAMix
from stepsmith.optim.asgd import ASGD
from stepsmith.optim.base import Optimizer, StepInfo, StepOptions
from stepsmith.optim.lamb import LAMB, LARS
from stepsmith.optim.lbfgs import LBFGS, LBFGSInfo
from stepsmith.optim.lion import Lion
from stepsmith.optim.minimize import MinimizeResult, minimize
from stepsmith.optim.muon import Muon
from stepsmith.optim.nadam import NAdam
from stepsmith.optim.radam import RAdam
from stepsmith.optim.rmsprop import RMSprop
from stepsmith.optim.rprop import Rprop
from stepsmith.optim.schedulefree import ScheduleFreeAdamW
from stepsmith.optim.scipy import ScipyMinimizer
from stepsmith.optim.sgd import SGD

__all__ = [
    "ASGD",
    "LAMB",
    "LARS",
    "LBFGS",
    "REGISTRY",
    "SGD",
    "AdEMAMix",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "LBFGSInfo",
    "Lion",
    "MinimizeResult",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "ScheduleFreeAdamW",
    "ScipyMinimizer",
    "StepInfo",
    "StepOptions",
    "decay_groups",
    "minimize",
]

REGISTRY: dict[str, type[Optimizer] | type[LBFGS]] = {
    optimizer.name: optimizer
    for optimizer in (
        SGD,
        Adagrad,
        RMSprop,
        Adadelta,
        Adam,
        AdamW,
        Adamax,
        NAdam,
        RAdam,
        Rprop,
        ASGD,
        Lion,
        AdEMAMix,
        ScheduleFreeAdamW,
        Adan,
        LAMB,
        LARS,
        Adafactor,
        Muon,
    )
}
"""Name → class; a class in the rows above exists. LBFGS is no rule of the core: its step calls a closure."""
REGISTRY[LBFGS.name] = LBFGS
