"""Differences of wavelet coefficients, of images in 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recbench.contracts.loss import Context, Loss, Setting


def haar(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return one level of the orthonormal Haar transform (Mallat 1989).

    Args:
        images: (B, C, H, W), of even sides.

    Returns:
        The approximation (B, C, H/2, W/2), and the horizontal, vertical and diagonal details, (B, 3, C, H/2, W/2).

    >>> haar(torch.ones(1, 1, 2, 2))[0]
    tensor([[[[2.]]]])
    """
    a, b = images[..., ::2, ::2], images[..., ::2, 1::2]
    c, d = images[..., 1::2, ::2], images[..., 1::2, 1::2]
    details = torch.stack((a + b - c - d, a - b + c - d, a - b - c + d), dim=1) / 2
    return (a + b + c + d) / 2, details


class Wavelet(Loss):
    """Σ over levels and bands of w |c − ĉ|, c the orthonormal Haar coefficients (weighted as by Huang et al. 2017).

    The coarsest approximation weighs ``approximation``, the details of level j, from the finest, ``details[j]``.
    """

    def __init__(self, setting: Setting, *, levels: int, approximation: float, details: Sequence[float]) -> None:
        super().__init__()
        self.levels = levels
        self.approximation = approximation
        self.details = tuple(details)

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        left = decoded - target  # the transform is linear
        value = decoded.new_zeros(len(decoded))
        for level in range(self.levels):
            left, details = haar(left)
            weight = self.details[min(level, len(self.details) - 1)]
            value = value + weight * details.abs().flatten(1).sum(1)
        return value + self.approximation * left.abs().flatten(1).sum(1)
