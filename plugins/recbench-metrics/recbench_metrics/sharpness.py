"""Sharpness: the variance of the Laplacian relative to that of the data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recbench.contracts.entries import ImageShape
from recbench.contracts.metric import SetMetric


def laplacian_variance(images: Tensor) -> Tensor:
    """Return the variance of each image's Laplacian, averaged over channels (Pech-Pacheco et al., ICPR 2000).

    The Laplacian is the four neighbours less four times the pixel, in 8-bit levels. The outermost pixels, which lack a
    neighbour, have none.

    Args:
        images: (B, C, H, W) in 0 to 1, multiples of 1/255; at least 3 pixels a side.

    Returns:
        (B,), at least 0.

    >>> images = torch.zeros(2, 1, 3, 4)
    >>> images[1, 0, 1, 1] = 1 / 255  # a single pixel: the Laplacian is -4 there and 1 next to it
    >>> laplacian_variance(images)
    tensor([0.0000, 6.2500])
    """
    levels = images.mul(255).round_()  # whole numbers: sums are exact, and 0 for flat images
    laplacian = -4 * levels[..., 1:-1, 1:-1]
    for neighbours in (levels[..., 1:-1, :-2], levels[..., 1:-1, 2:], levels[..., :-2, 1:-1], levels[..., 2:, 1:-1]):
        laplacian += neighbours
    laplacian -= laplacian.mean((-2, -1), keepdim=True)
    return laplacian.square_().mean((-3, -2, -1))  # torch.var takes three times the time


class Sharpness(SetMetric):
    """The mean :func:`laplacian_variance` of decoded images divided by that of target images.

    1 for images as sharp as the data, below for blurred ones, above for noisy ones; infinite if only the data are flat.
    """

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()
        # Sums in float64. No buffers: casting the metric to the images' type would cast them too.
        self.decoded = torch.zeros((), dtype=torch.float64)
        self.target = torch.zeros((), dtype=torch.float64)

    def update(self, decoded: Tensor, target: Tensor) -> None:
        self.decoded = self.decoded.to(decoded.device) + laplacian_variance(decoded).sum(dtype=torch.float64)
        self.target = self.target.to(target.device) + laplacian_variance(target).sum(dtype=torch.float64)

    def compute(self) -> float:
        decoded, target = float(self.decoded), float(self.target)
        if decoded == target:
            return 1.0
        return decoded / target if target else math.inf
