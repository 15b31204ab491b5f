"""What a metric is to recbench: something that judges reconstructions of the test images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Reference:
    """The real test images, for metrics that compute something from them once for all jobs.

    Attributes:
        images: all of them, uint8 (N, C, H, W), on the device or memory-mapped on the CPU.
        fingerprint: a text that changes whenever they do.
        cache: folder below which what was computed from them may be kept.
        device: where to compute.
    """

    images: Tensor
    fingerprint: str
    cache: Path
    device: torch.device


class Metric(nn.Module, ABC):
    """Common root of the three kinds of metric. Factories get ``(shape, **params)``.

    All images that metrics see are (B, C, H, W), in 0 to 1, and rounded to 8 bits (multiples of 1/255), because
    published tables are computed on saved images; unless the entry says ``rounded=False``.
    """


class ImageMetric(Metric, ABC):
    """A metric with a value for each image."""

    @abstractmethod
    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        """Scores of a batch, (B,)."""


class BoundMetric(Metric, ABC):
    """A metric of the evidence lower bound, with a value for each image.

    Attributes:
        needs_log_prob: whether it has no value for losses that are no likelihood.
    """

    needs_log_prob: bool = True

    @abstractmethod
    def forward(self, log_prob: Tensor, kl: Tensor) -> Tensor:
        """Scores of a batch, (B,), in float64.

        Args:
            log_prob: log p(x|z) in nats, (B,), of images x in 0 to 1 and one z drawn from q(z|x); NaN for losses that
                are no likelihood.
            kl: KL divergence of q(z|x) to the prior in nats, (B,).
        """


class SetMetric(Metric, ABC):
    """A metric of the whole set of images, fed batch by batch.

    Attributes:
        warning: what a reader of the score must know, set by ``compute``; kept and shown with it.
    """

    warning: str = ""

    def prepare(self, reference: Reference) -> None:
        """Compute from the real images what is needed of them. Called once, before the first batch."""

    @abstractmethod
    def update(self, decoded: Tensor, target: Tensor) -> None:
        """Take in a batch."""

    @abstractmethod
    def compute(self) -> float:
        """The score over everything taken in so far."""

    def trace(self) -> Mapping[str, Tensor]:
        """What there is to see besides the score, such as a mean spectrum, by name. Called after ``compute``; kept."""
        return {}
