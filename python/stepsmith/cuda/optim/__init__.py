"""The step on a GPU."""

from stepsmith.cuda.optim.stepper import Stepper

__all__ = ["Stepper"]
