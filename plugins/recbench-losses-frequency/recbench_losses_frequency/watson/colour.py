"""From RGB to the channels that the losses judge, Y, Cb and Cr, for blocks of relative pixels (see blocks)."""

from __future__ import annotations

import torch
from torch import Tensor

# As the authors round it. Rows: Y, Cb, Cr.
YCBCR = ((0.299, 0.587, 0.114), (-0.1687, -0.3313, 0.5), (0.5, -0.4187, -0.0813))
CENTRE = (0.0, 0.5, 0.5)


def relative_channels(blocks: Tensor, matrix: Tensor | None, *, centred: bool) -> Tensor:
    """Return channels of blocks of pixels (B, C, size², K), relative to each block's first pixel.

    Args:
        blocks: RGB, or grey; they are overwritten.
        matrix: float64 (3, 3) from RGB to YCbCr; None for grey, which is taken as it is.
        centred: add 0.5 to Cb and Cr. Not wanted for differences of images.

    Where R = G = B, Cb and Cr would be the rounding noise of sums that cancel; so the sums run over G, R − G and B − G.
    """
    first = blocks[:, :, :1].clone()
    relative = blocks.sub_(first)
    if matrix is None:
        relative[:, :, :1] = first
        return relative
    channels = _from_green(relative.flatten(2), matrix).reshape(blocks.shape)
    levels = _levels if centred else _from_green
    channels[:, :, 0] = levels(first[:, :, 0], matrix)
    return channels


def to_rgb(slope: Tensor, matrix: Tensor | None) -> Tensor:
    """Return the gradient by the pixels of RGB images from that by channels, (B, C, size², K)."""
    if matrix is None:
        return slope
    return torch.matmul(matrix.T.to(slope.dtype), slope.flatten(2)).reshape(slope.shape)


def _from_green(pixels: Tensor, matrix: Tensor) -> Tensor:
    """Return YCbCr of RGB pixels (B, 3, K), which are overwritten, without the 0.5 of Cb and Cr."""
    pixels[:, 0].sub_(pixels[:, 1])
    pixels[:, 2].sub_(pixels[:, 1])
    grey = matrix.sum(1)
    grey = torch.where(grey.abs() < 1e-12, 0.0, grey)  # rounding errors of float64; those of a float32 matrix stay
    weights = torch.stack([matrix[:, 0], grey, matrix[:, 2]], dim=1)
    return torch.matmul(weights.to(pixels.dtype), pixels)


def _levels(pixels: Tensor, matrix: Tensor) -> Tensor:
    """Return YCbCr of RGB pixels (B, 3, K), with 0.5 added to Cb and Cr.

    Cb of yellow and Cr of cyan are zero. They are summed from colour shares and missing colour shares, which are all
    positive, so that no rounding makes them negative.
    """
    positive, negative = matrix.clamp(min=0), (-matrix).clamp(min=0)
    remainder = matrix.new_tensor(CENTRE) - negative.sum(1)
    parts = torch.cat([positive, negative, remainder[:, None]], dim=1).to(pixels.dtype)
    one = torch.ones_like(pixels[:, :1])
    return torch.matmul(parts, torch.cat([pixels, 1 - pixels, one], dim=1))
