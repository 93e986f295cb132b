"""Functions behind layers, each with its backward pass: for code that keeps its own parameters."""

from stepsmith.nn.functional.activation import Activation, activate, activate_backward

__all__ = ["Activation", "activate", "activate_backward"]
