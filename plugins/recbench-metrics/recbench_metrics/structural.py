"""Metrics that compare local structure, on 8-bit-rounded images in 0 to 1."""

from __future__ import annotations

from pytorch_msssim import ssim
from torch import Tensor

from recbench.contracts.metric import ImageMetric
from recbench.entries import ImageShape


class SSIM(ImageMetric):
    """Structural similarity with an 11×11 Gaussian window of σ = 1.5, averaged over pixels and channels."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        values: Tensor = ssim(decoded, target, data_range=1.0, size_average=False)
        return values
