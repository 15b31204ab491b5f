"""Metrics that compare pixel by pixel, on 8-bit-rounded images in 0 to 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recbench.contracts.entries import ImageShape
from recbench.contracts.metric import ImageMetric

PER_IMAGE = (1, 2, 3)


def mean_squared_error(decoded: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of each image, (B,), from images (B, C, H, W).

    >>> mean_squared_error(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5))
    tensor([0.2500])
    """
    return (decoded - target).square().mean(PER_IMAGE)


def mean_absolute_error(decoded: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of each image, (B,), from images (B, C, H, W).

    >>> mean_absolute_error(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5))
    tensor([0.5000])
    """
    return (decoded - target).abs().mean(PER_IMAGE)


def log_frequency_distance(decoded: Tensor, target: Tensor) -> Tensor:
    """Return ln(1 + mean |F − F̂|²) of each image, (B,), in float64, F and F̂ being the spectra of images in 0 to 255.

    The transform is a plain sum, without a factor, and the mean is over frequencies and channels, as in the code of
    Jiang et al. 2021. By Parseval's theorem that mean is the mean squared error times the number of pixels, which is
    how it is computed.

    >>> log_frequency_distance(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 1 / 255))  # ln(1 + 4)
    tensor([1.6094], dtype=torch.float64)
    """
    pixels = decoded.shape[-2] * decoded.shape[-1]
    return torch.log1p(255**2 * pixels * mean_squared_error(decoded, target).double())


class MSE(ImageMetric):
    """Mean squared error over pixels and channels."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        return mean_squared_error(decoded, target)


class L1Metric(ImageMetric):
    """Mean absolute error over pixels and channels."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        return mean_absolute_error(decoded, target)


class MSETimes100(ImageMetric):
    """100 times the mean squared error over pixels and channels."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        return 100 * mean_squared_error(decoded, target)


class L1Times100(ImageMetric):
    """100 times the mean absolute error over pixels and channels."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        return 100 * mean_absolute_error(decoded, target)


class LFD(ImageMetric):
    """The log frequency distance of Jiang et al. 2021."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        return log_frequency_distance(decoded, target)


class PSNR(ImageMetric):
    """−10 log₁₀ MSE in dB, for each image; of equal images as if one value were one 8-bit level off.

    That is the highest PSNR that two different images of 8 bits can have, 10 log₁₀(255² C H W): a finite one, so that
    one black image that is reproduced exactly does not make the mean over all images infinite for every method. How
    many images are equal is said in ``warning``.
    """

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()
        self.smallest = 1 / (255**2 * shape.channels * shape.height * shape.width)
        self.highest = -10 * math.log10(self.smallest)
        self.equal = 0

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        error = mean_squared_error(decoded, target)
        self.equal += int((error == 0).sum())
        if self.equal:
            self.warning = (
                f"{self.equal} {'image is' if self.equal == 1 else 'images are'} reproduced exactly, where PSNR is "
                f"infinite, and counted as {self.highest:.2f} dB, the highest that 8 bits can tell from it"
            )
        return (-10 * torch.log10(error)).clamp_max(self.highest)
