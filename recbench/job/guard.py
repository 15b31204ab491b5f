"""The detection of training that has diverged."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recbench.errors import RecbenchError
from recbench.job.checkpoint import TERMS, Position


class Diverged(RecbenchError):
    """NaN or infinity in the objective. ``epoch`` and ``step`` (optimizer steps, over all epochs) count from 1."""

    def __init__(self, message: str, epoch: int, step: int) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step


class Guard:
    """A detector of the first step with NaN or infinity.

    Looking at a value makes a GPU wait for it, so values go to a ring buffer there, which is looked at whenever it is
    full; the step is still the exact one. Nothing of later steps is kept, since the job ends.
    """

    def __init__(self, device: torch.device, every: int | None = None) -> None:
        """Make room for the values of ``every`` steps; by default one on a CPU, and 50 elsewhere."""
        every = every or (1 if device.type == "cpu" else 50)
        self.ring = torch.zeros(every, len(TERMS), dtype=torch.float64, device=device)
        self.steps: list[tuple[int, int]] = []
        """Epoch and step of each row that was not looked at."""

    def see(self, terms: Tensor, position: Position) -> None:
        """Note the values of all terms of a step, in the order of ``TERMS``."""
        self.ring[len(self.steps)] = terms
        self.steps.append((position.epoch, position.step))
        if len(self.steps) == len(self.ring):
            self.check()

    def check(self) -> None:
        """Check the noted values.

        Raises:
            Diverged: something of it is NaN or infinite.
        """
        if not self.steps:
            return
        for row, (epoch, step) in zip(self.ring.tolist(), self.steps, strict=False):
            for term, value in zip(TERMS, row, strict=True):
                if not math.isfinite(value):
                    raise Diverged(f"the {term} became {value} in epoch {epoch}, step {step}", epoch, step)
        self.steps.clear()
