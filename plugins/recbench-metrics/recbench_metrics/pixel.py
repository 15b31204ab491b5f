"""Metrics that compare pixel by pixel, on 8-bit-rounded images in 0 to 1."""

from __future__ import annotations

import torch
from torch import Tensor

from recbench.contracts.metric import ImageMetric
from recbench.entries import ImageShape

PER_IMAGE = (1, 2, 3)


def mean_squared_error(decoded: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of each image, (B,)."""
    return (decoded - target).square().mean(PER_IMAGE)


class MSE(ImageMetric):
    """Mean squared error over pixels and channels."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        return mean_squared_error(decoded, target)


class L1(ImageMetric):
    """Mean absolute error over pixels and channels."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        return (decoded - target).abs().mean(PER_IMAGE)


class PSNR(ImageMetric):
    """−10 log₁₀ MSE in dB, for each image; infinite for equal images."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        return -10 * torch.log10(mean_squared_error(decoded, target))
