"""Transfer learning: weights by name from a file, a new head, and rates that fall from layer to layer.

What is trained is said by `Trainer.freeze` and `Trainer.unfreeze`, over time by `train.GradualUnfreezing`.
"""

from stepsmith.transfer.layers import layerwise_groups, replace_head
from stepsmith.transfer.weights import Report, load_weights

__all__ = ["Report", "layerwise_groups", "load_weights", "replace_head"]
