"""The contract of metrics, which score reconstructions of the test images or samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Reference:
    """The test images, for metrics that compute statistics of them once for all jobs.

    Attributes:
        images: all test images, uint8 (N, C, H, W), on the device or memory-mapped on the CPU.
        fingerprint: a text that changes whenever the images do.
        cache: folder in which statistics of the images may be stored.
        device: device to compute on.
        split: the split that they are, ``"test"`` or ``"validation"``; empty for given images.
        train: all training images, as ``images``, for metrics that compare with these; None where there are none.
    """

    images: Tensor
    fingerprint: str
    cache: Path
    device: torch.device
    split: str = ""
    train: Tensor | None = None


class Metric(nn.Module, ABC):
    """Base class of the three kinds of metric: derive from one of those.

    The factory is called with the :class:`ImageShape` of the images and every parameter of the entry by keyword. Images
    are float32 (B, C, H, W) from 0 to 1, and, unless the entry says ``rounded=False``, rounded to 8 bits (multiples of
    1/255), because published numbers are computed on saved images.

    Attributes:
        warning: a caveat for readers of the score, set once all images were seen; stored and shown with the score.
    """

    warning: str = ""


class ImageMetric(Metric, ABC):
    """A metric with a value for each image."""

    @abstractmethod
    def forward(self, decoded: Tensor, target: Tensor) -> Tensor | Mapping[str, Tensor]:
        """Return the score of each image.

        Args:
            decoded: reconstructions, float32 (B, C, H, W) in 0 to 1.
            target: test images of the same shape and range.

        Returns:
            Tensor (B,); if the entry declares several scores, one by the name of each.
        """


class BoundMetric(Metric, ABC):
    """A metric computed from the terms of the evidence lower bound, with a value for each image.

    Attributes:
        needs_log_prob: whether it is defined only for losses that are a likelihood.
    """

    needs_log_prob: bool = True

    @abstractmethod
    def forward(self, log_prob: Tensor, kl: Tensor) -> Tensor | Mapping[str, Tensor]:
        """Return the score of each image.

        Args:
            log_prob: log p(x|z) in nats, float64 (B,), of images x in 0 to 1 and one z drawn from q(z|x); NaN for
                losses that are not a likelihood.
            kl: Kullback-Leibler divergence of q(z|x) to the prior in nats, float64 (B,).

        Returns:
            float64 tensor (B,); if the entry declares several scores, one by the name of each.
        """


class SetMetric(Metric, ABC):
    """A metric of the whole set of images, which is passed in batches."""

    def prepare(self, reference: Reference) -> None:
        """Compute statistics of the test images. Called once, before the first batch."""

    @abstractmethod
    def update(self, decoded: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            decoded: reconstructions, or samples from the prior if the entry says ``samples=True``; float32
                (B, C, H, W) in 0 to 1.
            target: test images of the same shape and range.
        """

    @abstractmethod
    def compute(self) -> float | Mapping[str, float]:
        """Return the score of all batches so far; if the entry declares several scores, one by the name of each."""

    def trace(self) -> Mapping[str, Tensor]:
        """Return tensors by name to be stored with the score, such as a mean spectrum. Called after ``compute``."""
        return {}
