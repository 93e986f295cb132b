"""Several models as one: votes, averaged weights, snapshots of one run, and dropout as a sample of models."""

from stepsmith.ensemble.average import average_weights
from stepsmith.ensemble.dropout import Sampled, mc_dropout
from stepsmith.ensemble.snapshots import Snapshots
from stepsmith.ensemble.voting import Ensemble

__all__ = ["Ensemble", "Sampled", "Snapshots", "average_weights", "mc_dropout"]
