"""The clock of a training run."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Clock"]


@dataclass
class Clock:
    """How far a run is: integers, and the one sum that a running epoch needs to be taken up again.

    Attributes:
        epoch: Epochs that are complete.
        position: Samples of the running epoch that are done.
        step: Batches that the optimizer was given.
        samples: Samples in all of them.
        loss_sum: Loss summed over the samples of the running epoch.

    Example:
        >>> clock = Clock()
        >>> clock.advance(32, loss=0.5)
        >>> clock
        Clock(epoch=0, position=32, step=1, samples=32, loss_sum=16.0)
    """

    epoch: int = 0
    position: int = 0
    step: int = 0
    samples: int = 0
    loss_sum: float = 0.0

    def advance(self, samples: int, loss: float) -> None:
        """One more batch, whose mean loss was `loss`, is done."""
        self.step += 1
        self.samples += samples
        self.position += samples
        self.loss_sum += loss * samples

    def close_epoch(self) -> float:
        """The epoch is complete: start the next one and return the summed loss of this one."""
        total, self.loss_sum = self.loss_sum, 0.0
        self.epoch, self.position = self.epoch + 1, 0
        return total
