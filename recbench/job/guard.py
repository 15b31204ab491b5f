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

    Looking at a value makes a GPU wait for it, so values are collected there and looked at every so often; the step
    is still the exact one. Nothing of later steps is kept, since the job ends.
    """

    def __init__(self, device: torch.device) -> None:
        self.every = 1 if device.type == "cpu" else 50
        self.seen: list[tuple[Tensor, int, int]] = []

    def see(self, terms: Tensor, position: Position) -> None:
        """Note the values of all terms of a step, in the order of ``TERMS``."""
        self.seen.append((terms, position.epoch, position.step))
        if len(self.seen) >= self.every:
            self.check()

    def check(self) -> None:
        """Check the noted values.

        Raises:
            Diverged: something of it is NaN or infinite.
        """
        if not self.seen:
            return
        values = torch.stack([terms for terms, _, _ in self.seen]).tolist()
        for row, (_, epoch, step) in zip(values, self.seen, strict=True):
            for term, value in zip(TERMS, row, strict=True):
                if not math.isfinite(value):
                    raise Diverged(f"the {term} became {value} in epoch {epoch}, step {step}", epoch, step)
        self.seen.clear()
