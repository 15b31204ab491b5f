"""What a metric is to recbench: something that judges reconstructions of the test images."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Metric(nn.Module, ABC):
    """Common root of the two kinds of metric. Factories get ``(shape, **params)``.

    All images that metrics see are (B, C, H, W), in 0 to 1, and rounded to 8 bits (multiples of 1/255), because
    published tables are computed on saved images.
    """


class ImageMetric(Metric, ABC):
    """A metric with a value for each image."""

    @abstractmethod
    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        """Scores of a batch, (B,)."""


class SetMetric(Metric, ABC):
    """A metric of the whole set of images, fed batch by batch."""

    @abstractmethod
    def update(self, decoded: Tensor, target: Tensor) -> None:
        """Take in a batch."""

    @abstractmethod
    def compute(self) -> float:
        """The score over everything taken in so far."""
